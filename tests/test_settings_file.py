"""The settings file and secrets from files: what wins, and what stops a start."""

import os
from hashlib import sha256

import pytest
from conftest import process
from system_users import NOBODY, STRANGER, as_root, as_user

from authapi import SettingError, Settings

SECRET = sha256(b"what a test takes for random").hexdigest()
URL = "postgresql://authapi:zzzzzz!@db.example.com/authapi"


@pytest.fixture(name="file")
def _file(folder):
    """Return a function that writes a file for its owner alone, and returns its path."""

    def write(text, name="authapi.toml", mode=0o600):
        path = folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    folder.chmod(0o755)
    return write


def refusal(path, **environ):
    """Return the sentence with which a settings file is refused."""
    with pytest.raises(SettingError) as refused:
        Settings.from_env({f"AUTHAPI_{name}": text for name, text in environ.items()}, config=path)
    sentence = str(refused.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_values_of_a_file(file):
    """A file sets numbers, texts and lists by the settings' names in lower case."""
    path = file(
        'port = 8080\npublic_url = "https://auth.example.com"\nworkers = "auto"\n'
        'allowed_origins = ["https://a.example", "https://b.example"]\nmax_sessions = 0x10\n'
    )

    settings = Settings.from_env({}, config=path)

    assert settings == Settings(
        port=8080,
        public_url="https://auth.example.com",
        workers=0,
        allowed_origins="https://a.example https://b.example",
        max_sessions=16,
    )


def test_what_wins(file):
    """A variable wins over the file, and an option over both."""
    path = file('port = 1\nhost = "::1"\nmax_sessions = 7')
    environ = {"AUTHAPI_CONFIG": str(path), "AUTHAPI_PORT": "2", "AUTHAPI_HOST": "127.0.0.2"}

    settings = Settings.from_env(environ, port="3")

    assert (settings.port, settings.host, settings.max_sessions) == (3, "127.0.0.2", 7)
    assert {name: each.origin for name, each in settings.given.items()} == {
        "port": "--port",
        "host": "AUTHAPI_HOST",
        "max_sessions": f"max_sessions in {path}",
    }


def test_config_wins_over_its_variable(file):
    """`config` names another file than AUTHAPI_CONFIG; an empty one counts as unset."""
    first, second = file("port = 1", "one.toml"), file("port = 2", "two.toml")

    for config, port in ((second, 2), ("", 1), (None, 1)):
        settings = Settings.from_env({"AUTHAPI_CONFIG": str(first)}, config=config)
        assert settings.port == port
    assert Settings.from_env({"AUTHAPI_CONFIG": ""}) == Settings()


def test_empty_is_unset_in_a_file(file):
    """An empty text or list is as good as none."""
    path = file('host = ""\nallowed_origins = []\nsecret_key_file = ""\ndatabase_url_file = ""')

    settings = Settings.from_env({}, config=path)

    assert (settings, settings.given) == (Settings(), {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", "prot in {path} is not a setting; port was likely meant: rename or remove"),
        ("PORT = 1", "PORT in {path} is not a setting; port was likely meant"),
        ("AUTHAPI_PORT = 1", "AUTHAPI_PORT in {path} is not a setting; port was likely meant"),
        ("port_file = '/x'", "port_file in {path} is not a setting"),
        ("features = 'x'", "features in {path} is not a setting"),
        ("config = 'x'", "config in {path} is not a setting"),
        ("[server]\nport = 1", "server in {path} is a table: write the settings above it"),
        ("server.port = 1", "server in {path} is a table"),
        ("port = '8080'", "port in {path} must be a whole number, as in port = 8080, not text."),
        ("port = 'x'", "port in {path} must be a whole number, not text."),
        ("port = 1.5", "port in {path} must be a whole number, not a number."),
        ("port = true", "port in {path} must be a whole number, not a boolean."),
        ("port = 2026-01-01", "port in {path} must be a whole number, not a time."),
        ("workers = 'two'", 'workers in {path} must be a whole number or "auto", not text.'),
        ("rate_limits = true", 'rate_limits in {path} must be "on" or "off", not a boolean.'),
        ("host = 1", "host in {path} must be text, not a number."),
        ("host = ['a']", "host in {path} must be text, not an array."),
        ("allowed_origins = [1]", "must be text or an array of texts, not an array."),
        ("database_url_file = 1", "database_url_file in {path} must be a path as text"),
        ("port = 65536", "a whole number from 0 to 65535, not 65536 (port in {path})."),
        ("log_level = 'loud'", "not 'loud' (log_level in {path})."),
        (r'key_file = "a\u0000"', "holds a NUL"),
        (r'database_url_file = "a\u0000"', "database_url_file in {path} holds a NUL character"),
        ("port = ", "{path} is not TOML: Invalid value (at end of document)."),
        ("host = 'a'\nport 1", "is not TOML: Expected '=' after a key in a key/value pair (at li"),
        ("port = 1\nport = 2", "is not TOML: Cannot overwrite a value (at end of document)."),
        (f"port = {'9' * 5_000}", "holds a value that is too large."),
        (f"port = {'[' * 5_000}", "The settings file {path}"),
        ("session_lifetime = 100\nsession_max_lifetime = 99", "AUTHAPI_SESSION_MAX_LIFETIME"),
        (f"secret_key = '{SECRET}'\nsecret_key_file = '/x'", "secret_key_file in {path} are both"),
        (f"database_url = '{URL}'\ndatabase_url_file = '/x'", "are both set: unset one of them."),
        (f"secret_key = '{SECRET}'\nkey_file = '/x'", "and AUTHAPI_KEY_FILE are both set"),
    ],
)
def test_bad_files(file, text, says):
    """A file with a fault is refused with one sentence that names the setting and the file."""
    path = file(text)

    assert says.format(path=path) in refusal(path)


def test_files_that_cannot_be_read(file, folder):
    """A file that is missing, a directory, a pipe or not UTF-8 is refused."""
    os.mkfifo(folder / "pipe", 0o600)
    (path := file("", "bytes.toml")).write_bytes(b"host = '\xff'")

    assert "nowhere cannot be read (No such file or directory)" in refusal(folder / "nowhere")
    assert "(Is a directory)" in refusal(folder)
    assert "is not a file" in refusal(folder / "pipe")
    assert "is not UTF-8" in refusal(path)


def test_a_byte_order_mark(file):
    """A file may begin with a byte order mark and end its lines with CR and LF."""
    assert Settings.from_env({}, config=file("\ufeffport = 7\r\n")).port == 7


def test_a_huge_file(file):
    """A file of a gigabyte is refused before it is in memory."""
    path = file("")
    os.truncate(path, 1 << 30)

    assert refusal(path) == (f"The settings file {path} is larger than 1 MiB: name another one.")


@pytest.mark.parametrize("mode", [0o602, 0o646, 0o666, 0o777])
def test_a_file_that_others_can_write(file, mode):
    """A file that everyone can write is refused; one that everyone can read is used."""
    path = file("port = 1", mode=mode)

    assert f"{path} can be written by others (mode {mode:04o}): chmod go-w it." in refusal(path)
    path.chmod(0o644)
    assert Settings.from_env({}, config=path).port == 1


@as_root
def test_a_file_of_another_user(file):
    """A file of another user is refused, unless that user is root."""
    path = file("port = 1", mode=0o644)
    os.chown(path, STRANGER, STRANGER)
    assert f"{path} belongs to another user ({STRANGER})" in refusal(path)

    os.chown(path, 0, 0)
    with as_user(NOBODY, NOBODY):
        assert Settings.from_env({}, config=path).port == 1


@pytest.mark.parametrize("text", [f"secret_key = '{SECRET}'", f"database_url = '{URL}'"])
def test_a_file_with_a_secret(file, text):
    """A file that holds a secret is refused if others can read it."""
    path = file(text, mode=0o644)
    name = text.split()[0]

    sentence = refusal(path)

    assert f"{name} is a secret, and the settings file {path} can be read by others" in sentence
    path.chmod(0o600)
    given = {"AUTHAPI_SECRET_KEY": SECRET} if name == "database_url" else {}
    assert Settings.from_env(given, config=path).given[name].origin == f"{name} in {path}"
    assert SECRET not in sentence
    assert "zzzzzz!" not in sentence


def test_the_path_of_a_database_is_no_secret(file):
    """The URL of a SQLite file may be read by everyone."""
    path = file("database_url = 'sqlite:////var/lib/a.db'", mode=0o644)

    assert str(Settings.from_env({}, config=path).database_path) == "/var/lib/a.db"


# Secrets from files


def test_a_secret_from_a_file(file):
    """`_FILE` names the file of a secret, without the newlines at its end."""
    url = file(f"{URL}\n\n", "url")
    key = {"AUTHAPI_SECRET_KEY": SECRET}

    settings = Settings.from_env({**key, "AUTHAPI_DATABASE_URL_FILE": str(url)})

    assert settings == Settings(database_url=URL, secret_key=SECRET)
    assert settings.given["database_url"].file == str(url)
    config = file(f"database_url_file = '{url}'", mode=0o644)
    assert settings == Settings.from_env(key, config=config)


def test_a_file_wins_over_a_value_below(file):
    """A value in a higher place replaces a file in a lower one, and the other way round."""
    url, environ = file(URL, "url"), {"AUTHAPI_SECRET_KEY": SECRET}
    config = file("database_url = 'sqlite:///a.db'\nsecret_key_file = '/nowhere'")
    environ["AUTHAPI_DATABASE_URL_FILE"] = str(url)

    assert Settings.from_env(environ, config=config).is_postgresql
    below = Settings.from_env(environ, config=config, database_url="sqlite:////b.db")

    assert str(below.database_path) == "/b.db"
    assert set(below.given) == {"database_url", "secret_key"}


@pytest.mark.parametrize("name", ["DATABASE_URL", "SECRET_KEY"])
def test_a_value_and_its_file(name):
    """A value and its file in one place are refused."""
    environ = {name: SECRET, f"{name}_FILE": "/x"}

    assert refusal(None, **environ).startswith(
        f"AUTHAPI_{name} and AUTHAPI_{name}_FILE are both set: unset one of them."
    )


def test_only_secrets_have_files():
    """`_FILE` is for secrets: AUTHAPI_PORT_FILE is no setting."""
    assert "AUTHAPI_PORT_FILE is not a setting" in refusal(None, PORT_FILE="/x")


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ("", 0o600, "is empty: write the value into it"),
        ("\n", 0o600, "is empty"),
        (URL, 0o604, "can be read by others (mode 0604): chmod 600 it"),
        (URL, 0o602, "can be written by others (mode 0602): chmod 600 it"),
        ("mysql://u:zzzzzz!@h", 0o600, "AUTHAPI_DATABASE_URL must be"),
    ],
)
def test_bad_files_of_secrets(file, text, mode, says):
    """A file of a secret is held to the rules of secret files, and never shown."""
    sentence = refusal(None, DATABASE_URL_FILE=str(file(text, "url", mode)))

    assert says in sentence
    assert "zzzzzz!" not in sentence


def test_a_file_of_a_secret_that_is_missing(folder):
    """A file that is missing is named, with the setting that names it."""
    says = f"The file of AUTHAPI_DATABASE_URL_FILE, {folder}/x cannot be read (No such file or"

    assert says in refusal(None, DATABASE_URL_FILE=f"{folder}/x")


def test_a_secret_that_is_handed_over(folder, monkeypatch):
    """A file that systemd or Kubernetes provides may be anyone's, and readable by all."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    (folder / "url").write_text("sqlite:////a.db")
    (folder / "url").chmod(0o444)
    if os.geteuid() == 0:
        os.chown(folder / "url", STRANGER, STRANGER)

    settings = Settings.from_env({"AUTHAPI_DATABASE_URL_FILE": str(folder / "url")})

    assert str(settings.database_path) == "/a.db"


def test_a_service_of_a_file(file, folder):
    """AUTHAPI_CONFIG gives a service the settings of a file."""
    config = file(f"database_url = 'sqlite:///{folder}/from-file.db'\n")

    with process(folder, AUTHAPI_CONFIG=str(config)):
        assert (folder / "from-file.db").exists()
