"""Settings: defaults, the environment, and everything that must stop a start."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path, PurePosixPath

import pytest

from authapi import SettingError, Settings
from authapi.machine import available_cpus
from authapi.settings import WorkerSettings, declared_settings, weak_key

SECRET = sha256(b"what a test takes for random").digest()
DOCS = Path(__file__).parent.parent / "docs" / "settings.md"


def test_defaults(tmp_path, monkeypatch):
    """The defaults are the documented ones, and what follows from others is filled in."""
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env({})

    assert (
        settings.host,
        settings.port,
        settings.public_url,
    ) == ("127.0.0.1", 3001, "http://127.0.0.1:3001")
    assert tmp_path / "authapi.db" == settings.database_path
    assert f"{tmp_path}/authapi.db.key" == settings.key_file
    assert f"{tmp_path}/authapi.db.root" == settings.root_key_file
    assert (
        settings.cookie_name,
        settings.cookie_domain,
        settings.session_lifetime,
    ) == ("jwt", "", 259_200)
    assert (
        settings.argon2_memory_kib,
        settings.argon2_time_cost,
        settings.argon2_lanes,
        settings.password_min_length,
    ) == (47_104, 1, 1, 8)
    assert (settings.registration, settings.log_level, settings.https) == ("open", "info", False)
    assert available_cpus() == settings.hash_slots
    assert settings.hash_slots <= settings.hash_places < settings.threads


def test_environment_and_flags():
    """Each setting has its variable; a flag stands before it; other variables are not ours."""
    environ = {"AUTHAPI_PORT": "80", "AUTHAPI_HOST": "::1", "PATH": "/bin", "authapi_x": "y"}

    settings = Settings.from_env(environ, port="8080", host=None)

    assert (settings.port, settings.host, settings.public_url) == (8080, "::1", "http://[::1]:8080")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///a.db", "{cwd}/a.db"),
        ("sqlite:///data/a b.db", "{cwd}/data/a b.db"),
        ("sqlite:////var/lib/a.db", "/var/lib/a.db"),
    ],
)
def test_database_url(url, path):
    """Three slashes are relative, four are absolute."""
    assert path.format(cwd=Path.cwd()) == str(Settings(database_url=url).database_path)


@pytest.mark.parametrize(
    ("url", "origin", "https", "cookie"),
    [
        ("https://auth.example.com", "https://auth.example.com", True, "__Host-jwt"),
        ("https://Auth.Example.COM/", "https://auth.example.com", True, "__Host-jwt"),
        ("https://auth.example.com:443", "https://auth.example.com", True, "__Host-jwt"),
        ("https://auth.example.com:0443", "https://auth.example.com", True, "__Host-jwt"),
        ("https://auth.example.com:", "https://auth.example.com", True, "__Host-jwt"),
        ("https://auth.example.com:8443", "https://auth.example.com:8443", True, "__Host-jwt"),
        ("http://localhost:80", "http://localhost", False, "jwt"),
        ("http://[::1]:3001", "http://[::1]:3001", False, "jwt"),
    ],
)
def test_public_url(url, origin, https, cookie):
    """The public URL is kept as a browser writes an origin; https names the cookie."""
    settings = Settings(public_url=url)

    assert (origin, https, cookie) == (settings.public_url, settings.https, settings.cookie_name)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"PORT": "x"}, "AUTHAPI_PORT must be a whole number from 0 to 65535, not 'x'"),
        ({"PORT": "65536"}, "AUTHAPI_PORT"),
        ({"PORT": "-1"}, "AUTHAPI_PORT"),
        ({"PORT": "1.0"}, "AUTHAPI_PORT"),
        ({"PORT": "1_0"}, "AUTHAPI_PORT"),
        ({"PORT": " 1"}, "AUTHAPI_PORT"),
        ({"PORT": "٣"}, "AUTHAPI_PORT"),
        ({"PORT": "9" * 5_000}, "AUTHAPI_PORT"),
        ({"LOGIN_ACCOUNT_LIMIT": "10"}, "AUTHAPI_LOGIN_ACCOUNT_LIMIT must be a number of tries"),
        ({"LOGIN_NETWORK_LIMIT": "0/hour"}, "AUTHAPI_LOGIN_NETWORK_LIMIT"),
        ({"REGISTRATION_LIMIT": "1/week"}, "AUTHAPI_REGISTRATION_LIMIT"),
        ({"PASSWORD_LIMIT": "1 /hour"}, "AUTHAPI_PASSWORD_LIMIT"),
        ({"LOGIN_LOCKOUT": "0"}, "AUTHAPI_LOGIN_LOCKOUT"),
        ({"RATE_LIMITS": "no"}, "AUTHAPI_RATE_LIMITS must be on or off, not 'no'"),
        ({"HOST": "a b"}, "AUTHAPI_HOST must be an IP address or a host name, not 'a b'"),
        ({"HOST": "a..b"}, "AUTHAPI_HOST"),
        ({"HOST": "a" * 70}, "AUTHAPI_HOST"),
        ({"HOST": "[::1]"}, "AUTHAPI_HOST"),
        ({"HOST": "127.0.0.1:80"}, "AUTHAPI_HOST"),
        ({"DATABASE_URL": "mysql://x"}, "AUTHAPI_DATABASE_URL must be sqlite:///relative.db"),
        ({"DATABASE_URL": "sqlite:///"}, "AUTHAPI_DATABASE_URL"),
        ({"DATABASE_URL": "sqlite://a.db"}, "AUTHAPI_DATABASE_URL"),
        ({"DATABASE_URL": "sqlite:///:memory:"}, "AUTHAPI_DATABASE_URL"),
        ({"DATABASE_URL": "sqlite:///a.db?mode=ro"}, "AUTHAPI_DATABASE_URL"),
        ({"DATABASE_URL": "a.db"}, "AUTHAPI_DATABASE_URL"),
        ({"PUBLIC_URL": "auth.example.com"}, "AUTHAPI_PUBLIC_URL must be http:// or https://"),
        ({"PUBLIC_URL": "ftp://x"}, "AUTHAPI_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://"}, "AUTHAPI_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://x/path"}, "AUTHAPI_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://x?y"}, "AUTHAPI_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://u:p@x"}, "AUTHAPI_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://a..b"}, "AUTHAPI_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://x:99999"}, "AUTHAPI_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://x:y"}, "AUTHAPI_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://[::1"}, "AUTHAPI_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://x\r\ny"}, "AUTHAPI_PUBLIC_URL"),
        ({"SECRET_KEY": "short"}, "AUTHAPI_SECRET_KEY has 5 bytes and needs at least 32"),
        ({"SECRET_KEY": "a" * 64}, "AUTHAPI_SECRET_KEY can be guessed"),
        ({"SECRET_KEY": "changeme" * 4}, "AUTHAPI_SECRET_KEY can be guessed"),
        (
            {"SECRET_KEY": "changeme-changeme-changeme-changeme"},
            "AUTHAPI_SECRET_KEY can be guessed",
        ),
        ({"SECRET_KEY": "a-string-secret-at-least-256-bits-long"}, "can be guessed"),
        ({"SECRET_KEY": "0123456789" * 4, "KEY_FILE": "/x"}, "AUTHAPI_KEY_FILE are both set"),
        ({"COOKIE_NAME": "a b"}, "AUTHAPI_COOKIE_NAME must be a cookie name"),
        ({"COOKIE_NAME": "a=b"}, "AUTHAPI_COOKIE_NAME"),
        ({"COOKIE_NAME": "a;b"}, "AUTHAPI_COOKIE_NAME"),
        ({"COOKIE_NAME": "é"}, "AUTHAPI_COOKIE_NAME"),
        ({"COOKIE_NAME": "__Host-x"}, "AUTHAPI_COOKIE_NAME '__Host-x' needs an https"),
        ({"COOKIE_NAME": "__secure-x"}, "AUTHAPI_COOKIE_NAME"),
        ({"COOKIE_DOMAIN": "example.com"}, "AUTHAPI_COOKIE_DOMAIN must be the host"),
        (
            {"PUBLIC_URL": "https://a.example.com", "COOKIE_DOMAIN": "example.com"},
            "AUTHAPI_COOKIE_DOMAIN cannot go with a __Host- cookie",
        ),
        (
            {"PUBLIC_URL": "http://a.example.com", "COOKIE_DOMAIN": "ample.com"},
            "AUTHAPI_COOKIE_DOMAIN must be the host",
        ),
        ({"PUBLIC_URL": "http://example.com", "COOKIE_DOMAIN": "a; b"}, "AUTHAPI_COOKIE_DOMAIN"),
        ({"PUBLIC_URL": "http://example.com", "COOKIE_DOMAIN": "com"}, "AUTHAPI_COOKIE_DOMAIN"),
        ({"PUBLIC_URL": "http://10.0.0.1", "COOKIE_DOMAIN": "0.1"}, "AUTHAPI_COOKIE_DOMAIN"),
        ({"SESSION_LIFETIME": "59"}, "AUTHAPI_SESSION_LIFETIME must be a whole number"),
        ({"SESSION_LIFETIME": "34560001"}, "AUTHAPI_SESSION_LIFETIME"),
        (
            {"SESSION_LIFETIME": "3d"},
            "a whole number of seconds from 60 to 34560000 (86400 for each day), not '3d'",
        ),
        ({"SESSION_MAX_LIFETIME": "30 days"}, "a whole number of seconds"),
        ({"SESSION_RENEW_AFTER": "1h"}, "a whole number of seconds"),
        ({"ARGON2_MEMORY_KIB": "46M"}, "a whole number of KiB from 8"),
        ({"PASSWORD_MIN_LENGTH": "7"}, "AUTHAPI_PASSWORD_MIN_LENGTH"),
        ({"PASSWORD_MIN_LENGTH": "65"}, "AUTHAPI_PASSWORD_MIN_LENGTH"),
        ({"ARGON2_MEMORY_KIB": "7"}, "AUTHAPI_ARGON2_MEMORY_KIB"),
        ({"ARGON2_TIME_COST": "0"}, "AUTHAPI_ARGON2_TIME_COST"),
        ({"ARGON2_LANES": "0"}, "AUTHAPI_ARGON2_LANES"),
        ({"ARGON2_LANES": "4", "ARGON2_MEMORY_KIB": "31"}, "set it to 32 or more"),
        ({"HASH_SLOTS": "9", "THREADS": "17"}, "AUTHAPI_THREADS must be at least twice"),
        ({"THREADS": "1"}, "AUTHAPI_THREADS"),
        ({"WORKERS": "-1"}, "AUTHAPI_WORKERS must be auto or a whole number from 0 to 256, not"),
        ({"WORKERS": "257"}, "AUTHAPI_WORKERS must be auto or a whole number from 0 to 256, not"),
        ({"WORKERS": "two"}, "AUTHAPI_WORKERS must be auto or a whole number from 0 to 256, not"),
        ({"PORT": "auto"}, "AUTHAPI_PORT"),
        ({"REGISTRATION": "maybe"}, "AUTHAPI_REGISTRATION must be open or closed, not 'maybe'"),
        ({"LOG_LEVEL": "loud"}, "AUTHAPI_LOG_LEVEL must be debug or info or warning or error"),
        ({"PROT": "1"}, "AUTHAPI_PROT is not a setting; AUTHAPI_PORT was likely meant"),
        ({"COOKIENAME": "1"}, "AUTHAPI_COOKIE_NAME was likely meant"),
        ({"": "1"}, "AUTHAPI_ is not a setting: rename"),
        ({"ZZZ": "1"}, "AUTHAPI_ZZZ is not a setting: rename or unset it."),
    ],
)
def test_what_makes_no_sense(environ, says):
    """A bad setting is refused with one sentence that names it."""
    with pytest.raises(SettingError) as refusal:
        Settings.from_env({f"AUTHAPI_{name}": value for name, value in environ.items()})

    sentence = str(refusal.value)
    assert says in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"port": "80"}, "AUTHAPI_PORT must be of type int, not str: write port=80."),
        ({"port": "http"}, "AUTHAPI_PORT must be of type int, not str."),
        ({"port": True}, "AUTHAPI_PORT must be of type int, not bool."),
        ({"port": None}, "AUTHAPI_PORT must be of type int, not NoneType."),
        ({"host": 1}, "AUTHAPI_HOST must be of type str, not int."),
        (
            {"allowed_origins": ["https://a.example", "https://b.example"]},
            (
                "AUTHAPI_ALLOWED_ORIGINS must be of type str, not list: "
                "join the items with a space between them."
            ),
        ),
        (
            {"database_url": PurePosixPath("a.db")},
            (
                "AUTHAPI_DATABASE_URL must be of type str, not PurePosixPath: "
                "write f'sqlite:///{path}'."
            ),
        ),
        (
            {"key_file": PurePosixPath("a.key")},
            "AUTHAPI_KEY_FILE must be of type str, not PurePosixPath: write str(path).",
        ),
    ],
)
def test_made_by_hand(values, says):
    """A value of another type is refused with the type that is wanted, and how to write it."""
    with pytest.raises(SettingError) as refusal:
        Settings(**values)

    assert says == str(refusal.value)


@pytest.mark.parametrize("name", [setting.name for setting in declared_settings()])
def test_empty_is_unset(name, tmp_path, monkeypatch):
    """An empty variable or option, as compose files and scripts write them, is as good as none."""
    monkeypatch.chdir(tmp_path)

    assert Settings() == Settings.from_env({f"AUTHAPI_{name.upper()}": ""}, **{name: ""})
    assert Settings() == Settings.from_env({"AUTHAPI_IMAGE": ""})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("LOG_LEVEL", "INFO", "info"),
        ("LOG_LEVEL", "Debug", "debug"),
        ("REGISTRATION", "Closed", "closed"),
        ("RATE_LIMITS", "OFF", "off"),
        ("WORKERS", "Auto", Settings(workers=0).workers),
    ],
)
def test_choices_are_caseless(name, text, value):
    """A word that is one of several choices may be written in any case."""
    settings = Settings.from_env({f"AUTHAPI_{name}": text})

    assert value == getattr(settings, name.lower())
    assert Settings(log_level="INFO").log_level == "info"


# What Kubernetes sets for a Service called authapi, on port 3001 and a named one, and authapi-db.
SERVICE_LINKS = {
    "AUTHAPI_SERVICE_HOST": "10.96.0.7",
    "AUTHAPI_SERVICE_PORT": "3001",
    "AUTHAPI_SERVICE_PORT_HTTP": "3001",
    "AUTHAPI_PORT": "tcp://10.96.0.7:3001",
    "AUTHAPI_PORT_3001_TCP": "tcp://10.96.0.7:3001",
    "AUTHAPI_PORT_3001_TCP_PROTO": "tcp",
    "AUTHAPI_PORT_3001_TCP_PORT": "3001",
    "AUTHAPI_PORT_3001_TCP_ADDR": "10.96.0.7",
    "AUTHAPI_DB_SERVICE_HOST": "10.96.0.8",
    "AUTHAPI_DB_PORT": "udp://10.96.0.8:53",
    "AUTHAPI_DB_PORT_53_UDP_ADDR": "10.96.0.8",
}


def test_service_links(caplog):
    """The variables of a Kubernetes Service are ignored, with one warning that says how to stop."""
    settings = Settings.from_env({**SERVICE_LINKS, "AUTHAPI_HOST": "0.0.0.0"})

    assert (settings.host, settings.port) == ("0.0.0.0", 3001)
    (warning,) = caplog.messages
    assert warning == (
        "AUTHAPI_DB_PORT and 10 more are ignored: Kubernetes sets them for a Service. "
        "Set enableServiceLinks: false in the pod, or give the Service another name"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [("PORT", "10.96.0.7"), ("PORT", "http://10.96.0.7"), ("SERVICE", "x"), ("PORT_X_TCP", "1")],
)
def test_no_service_links(name, text):
    """A name that only resembles a Kubernetes variable stops the start."""
    with pytest.raises(SettingError, match=f"AUTHAPI_{name}"):
        Settings.from_env({f"AUTHAPI_{name}": text})


def test_no_secret_in_a_refusal():
    """The sentence about a secret does not tell it."""
    for values in (
        {"secret_key": "zzzzzz!"},
        {"secret_key": b"zzzzzz!"},
        {"database_url": "postgres://user:zzzzzz!@host/db"},
        {"database_url": "postgres://host/db?user=u&password=zzzzzz!"},
        {"public_url": "https://user:zzzzzz!@host"},
    ):
        with pytest.raises(SettingError) as refusal:
            Settings(**values)
        assert "zzzzzz!" not in str(refusal.value)


def test_secret_key_of_any_bytes():
    """The environment may hold bytes that are no UTF-8."""
    secret = bytes(byte | 128 for byte in SECRET)

    settings = Settings.from_env({"AUTHAPI_SECRET_KEY": secret.decode(errors="surrogateescape")})

    assert settings.secret_bytes == secret


@pytest.mark.parametrize("domain", ["a.example.com", "example.com", ".example.com"])
def test_good_cookie_domains(domain):
    """The host itself, or a parent domain of it."""
    Settings(public_url="http://a.example.com", cookie_domain=domain)


def test_threads_and_slots():
    """Half of the threads at most hash; each follows the other where it is not set."""
    assert Settings(hash_slots=4).threads == 16
    assert Settings(threads=16, hash_slots=8).hash_places == 8
    assert Settings(hash_slots=20).threads == 80
    assert Settings(threads=2).hash_slots == 1
    assert Settings(threads=2).hash_places == 1


def test_any_free_port():
    """If the port is chosen at the start, the public URL follows unless it was set."""
    assert Settings(port=0).on_port(81).public_url == "http://127.0.0.1:81"
    assert Settings(port=0, public_url="http://x").on_port(81).public_url == "http://x"
    zoned = Settings(host="fe80::1%eth0", port=0, public_url="http://x")
    assert zoned.on_port(81).public_url == "http://x"


@pytest.mark.parametrize(
    ("cpus", "workers", "found", "slots"),
    [
        (8, 1, 1, 8),
        (8, 2, 2, 4),
        (8, 3, 3, 2),
        (8, 16, 16, 1),
        (8, 0, 8, 1),
        (1, 0, 1, 1),
        (1, 256, 256, 1),
        (512, 0, 256, 2),
        (512, 1, 1, 256),
    ],
)
def test_workers(cpus, workers, found, slots):
    """Workers share the CPUs between them, for their hash slots; 0 is one for each CPU."""
    settings = WorkerSettings(workers=workers).on_machine(cpus, "linux")

    assert (settings.workers, settings.hash_slots) == (found, slots)


def test_workers_elsewhere():
    """Only Linux balances connections between sockets: elsewhere there is one worker."""
    assert WorkerSettings(workers=0).on_machine(1, "darwin").workers == 1
    with pytest.raises(SettingError, match="AUTHAPI_WORKERS must be 1 on this system"):
        WorkerSettings(workers=2).on_machine(8, "darwin")


@pytest.mark.parametrize(
    "key",
    [
        b"changeme-changeme-changeme-changeme",
        b"please-change-me-please-change-me",
        b"my super secret jwt key, my super secret jwt key",
        b"password123password123password456",
        b"secret1secret2secret1secret3secret2",
        b"abcdefghijklmnopqrstuvwxyz0123456789",
        b"zyxwvutsrqponmlkjihgfedcba9876543210",
        b"aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffffgggggggghhhhhhhh",
        bytes(range(32)),
        bytes(range(16)) * 2,
        SECRET[:31],
    ],
)
def test_weak_keys(key):
    """A key that is short, a repeated word, or little more than repeats and runs is refused."""
    assert weak_key(key)


@pytest.mark.parametrize(
    "key",
    [
        SECRET,
        SECRET.hex().encode(),
        SECRET[:16].hex().encode(),
        b64encode(SECRET),
        b"31415926535897932384626433832795",
        b"a secret of thirty-two bytes, and more",
    ],
)
def test_good_keys(key):
    """Random bytes are a key, however they are written: raw, hexadecimal, base64, digits."""
    assert weak_key(key) is None


def test_docs_have_every_setting():
    """The page of settings names each one with its default and its words."""
    rows = dict(re.findall(r"^\| `(AUTHAPI_\w+)` \|(.*)\|$", DOCS.read_text(), re.MULTILINE))

    settings = {f"AUTHAPI_{setting.name.upper()}": setting for setting in declared_settings()}
    assert set(settings) == set(rows)
    for name, setting in settings.items():
        assert setting.metadata["help"].split(" Default:")[0] in rows[name]
        if setting.default:
            assert f"`{setting.default}`" in rows[name]


def test_docs_have_every_file_of_a_secret():
    """The page of settings names the file of each secret."""
    page = DOCS.read_text()

    for setting in declared_settings():
        assert setting.repr or f"`AUTHAPI_{setting.name.upper()}_FILE`" in page
