"""Hashes of other libraries: verified at a login, made into ours, and bounded in cost."""

import hashlib
import json
import re
import subprocess
import sys
import threading
import unicodedata
from itertools import groupby
from pathlib import Path

import pytest
from conftest import CHEAP, USER

from authapi import Settings
from authapi.imports.formats import FORMATS, load
from authapi.imports.records import Fault, Row
from authapi.passwords import Passwords, foreign_hashes
from authapi.passwords.foreign_hashes import Foreign
from authapi.passwords.hash_lane import Room
from authapi.passwords.hashing import Hasher
from authapi.passwords.key_derivation import Bcrypt

PEPPER = "a pepper of Flask-Security"
VECTORS = json.loads((Path(__file__).parent / "data" / "foreign-hashes.json").read_text())
COLUMNS = {"supabase": "encrypted_password", "auth0": "passwordHash"}
GROUPS = [
    pytest.param(list(group), id=" by ".join(key))
    for key, group in groupby(
        sorted(VECTORS, key=lambda each: (each["from"], each["by"])),
        key=lambda each: (each["from"], each["by"]),
    )
]
PASSWORDS = Passwords(Settings(**CHEAP, imported_pepper=PEPPER))
SCRYPT = "$scrypt$ln={},r={},p={}$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ"
ARGON2 = "$argon2id$v=19$m={},t=1,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ"
PBKDF2 = "$pbkdf2-sha256$i={}$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ"
BCRYPT = "$2b${}$abcdefghijklmnopqrstuuD6TlXFvhTPb6yjvR.XIkE1Qq0cGIDqy"


def stored(form, text):
    """Return the hash that the reader of a format makes of a library's."""
    values = {COLUMNS.get(form, "password"): text}
    if form == "keycloak":
        values = {"credentials": [{"type": "password", **text}]}
    return load(form).read(Row({"email": "a@b.de", "username": "a", **values})).password_hash


@pytest.mark.parametrize("vectors", GROUPS)
def test_hashes_of_the_library(vectors):
    """A hash that the library made verifies its password, and nothing else; it becomes argon2id."""
    for vector in vectors:
        text = stored(vector["from"], vector["hash"])
        assert str(Foreign.parse(text)) == text
        assert PASSWORDS.import_fault(text) is None

        verdict = PASSWORDS.verify(text, vector["password"])

        assert verdict.correct, vector
        assert PASSWORDS.verify(verdict.new_hash, vector["password"]).correct
    assert not PASSWORDS.verify(text, f"X{vector['password']}").correct


def test_every_format_is_proved():
    """Each format that has hashes of its own is proved with hashes that its library made."""
    assert {each["from"] for each in VECTORS} == {*FORMATS} - {"authapi"}


def test_werkzeug_now():
    """The Werkzeug that is installed makes hashes that a login verifies, at its default cost."""
    security = pytest.importorskip("werkzeug.security")

    text = stored("werkzeug", security.generate_password_hash("correct horse"))

    assert PASSWORDS.verify(text, "correct horse").correct


@pytest.mark.parametrize("name", ["PBKDF2", "Scrypt", "BCryptSHA256"])
def test_django_now(name):
    """The Django that is installed makes hashes that a login verifies."""
    hashers = pytest.importorskip("django.contrib.auth.hashers")
    from django.conf import settings  # noqa: PLC0415

    if not settings.configured:
        settings.configure(SECRET_KEY="of the test")
    hasher = getattr(hashers, f"{name}PasswordHasher")()
    hasher.rounds, hasher.work_factor, hasher.iterations = 4, 1_024, 1_000

    text = stored("django", hasher.encode("correct horse", hasher.salt()))

    assert PASSWORDS.verify(text, "correct horse").correct


@pytest.mark.parametrize("scheme", ["scrypt:1024:8:1", "pbkdf2:sha256:1000"])
def test_a_login(client, caplog, scheme):
    """A user with a foreign hash logs in, and has a hash of ours afterwards."""
    security = pytest.importorskip("werkzeug.security")
    client.register()
    text = stored("werkzeug", security.generate_password_hash("correct horse", scheme))
    client.query("UPDATE users SET password_hash = ?", text)

    assert client.log_in(password="wrong password").status_code == 401
    assert client.query("SELECT password_hash FROM users") == [(text,)]
    assert client.log_in(password="correct horse").status_code == 200

    ((rehashed,),) = client.query("SELECT password_hash FROM users")
    assert rehashed.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert client.log_in(password="correct horse").status_code == 200
    assert not caplog.messages


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_password_from_another_keyboard(form):
    """A hash of the composed letters is found, however the keyboard composes them."""
    text = stored("werkzeug", "pbkdf2:sha256:1000$salt$" + _pbkdf2("p\u00e4ssw\u00f6rd"))

    assert PASSWORDS.verify(text, unicodedata.normalize(form, "p\u00e4ssw\u00f6rd")).correct


def test_decomposed_letters():
    """A hash of decomposed letters is found by whoever types them so: it is not of the NFC."""
    typed = unicodedata.normalize("NFD", "p\u00e4ssw\u00f6rd")
    text = stored("werkzeug", "pbkdf2:sha256:1000$salt$" + _pbkdf2(typed))

    assert PASSWORDS.verify(text, typed).correct


def _pbkdf2(password):
    return hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 1_000).hex()


def test_old_salts_of_bcrypt():
    """Old libraries set bits of a bcrypt salt that have no meaning: they count for nothing."""
    plain = "$2b$04$......................LAtw7/ohmmBAhnXqmkuIz83Rl5Qdjhm"
    set_bits = plain[:28] + "/" + plain[29:]

    assert str(Foreign.parse(set_bits)) == str(Foreign.parse(plain))


@pytest.mark.parametrize("text", ["x" * 5_000, "\u0301" * 4_096, "lone \ud800", "nul \0 nul"])
@pytest.mark.parametrize("form", ["django", "flask-security", "lucia", "pocketbase"])
def test_hostile_passwords(form, text):
    """Any text is a wrong password of a foreign hash, without an error."""
    vector = next(each for each in VECTORS if each["from"] == form)

    assert not PASSWORDS.verify(stored(form, vector["hash"]), text).correct


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (SCRYPT.format(24, 1_000, 1_000), r"takes \d+ MiB of memory"),
        (SCRYPT.format(14, 8, 10_000), r"takes \d+ seconds of CPU time"),
        (SCRYPT.format(16, 1, 1), "parameters that scrypt does not take"),  # RFC 7914, 6
        (SCRYPT.format(25, 8, 1), "parameters that scrypt does not take"),
        (SCRYPT.format(14, 1_000_000, 1_000_000), "parameters that scrypt does not take"),
        (PBKDF2.format(4_000_000_000), r"takes \d+ seconds of CPU time"),
        (BCRYPT.format(31), r"takes \d+ seconds of CPU time"),
        (BCRYPT.format(40), "is of no kind"),
        ("$pbkdf2-sha256$i=1000$c2FsdA$9sQ", "has a digest of 2 bytes"),
        ("$norm=nfkd,pre=hmac-sha512$argon2id$v=19$", "is no argon2 hash"),
        ("$norm=nope$2b$04$", "is of no kind"),
        ("", "is of no kind"),
    ],
)
def test_absurd_hashes(text, fault):
    """A hash that takes too much, or is none, is refused with the reason before it is computed."""
    assert re.search(fault, PASSWORDS.import_fault(text))
    assert PASSWORDS.verify(text, "correct horse") == (PASSWORDS.verify("", "correct horse"))


def test_costs_follow_the_machine(monkeypatch):
    """A hash that takes over 2 seconds is not imported; at a login it may take up to 5."""
    monkeypatch.setattr(foreign_hashes, "_seconds_of_a_unit", lambda _: 3 / 1_000)

    assert PASSWORDS.import_fault(PBKDF2.format(1_000)) == "takes 3 seconds of CPU time"
    assert PASSWORDS.verify(PBKDF2.format(1_000), "x").usable
    assert not PASSWORDS.verify(PBKDF2.format(2_000), "x").usable


def test_costs_of_argon2_follow_the_machine(monkeypatch):
    """argon2 has the same bounds of time as the hashes of other kinds."""
    monkeypatch.setattr(Hasher, "_seconds_per_kib", 3 / 1_000)
    passwords = Passwords(Settings(**CHEAP))

    assert passwords.import_fault(ARGON2.format(1_000)) == "takes 3 seconds of CPU time"
    assert passwords.verify(ARGON2.format(1_000), "x").usable
    assert not passwords.verify(ARGON2.format(2_000), "x").usable


def test_memory_of_the_container(monkeypatch):
    """A hash is imported if the container has its memory beside the service's own."""
    monkeypatch.setattr("authapi.passwords.memory_limit", lambda: 256 << 20)
    passwords = Passwords(Settings(hash_slots=2))

    assert passwords.import_fault(SCRYPT.format(15, 8, 1)) is None
    assert passwords.import_fault(SCRYPT.format(16, 8, 1)) == "takes 64 MiB of memory"
    assert passwords.verify(SCRYPT.format(16, 8, 1), "x").usable
    assert not passwords.verify(SCRYPT.format(18, 8, 1), "x").usable


def test_a_container_without_spare_memory(monkeypatch):
    """Hashes that take no memory to speak of are imported where the service needs it all."""
    monkeypatch.setattr("authapi.passwords.memory_limit", lambda: 1 << 20)
    passwords = Passwords(Settings(**CHEAP))

    assert passwords.import_fault(BCRYPT.format("04")) is None
    assert passwords.import_fault(PBKDF2.format(1_000)) is None
    assert passwords.import_fault(SCRYPT.format(14, 8, 1)) == "takes 16 MiB of memory"


def test_our_hashes_do_not_wait_for_memory():
    """A hash of ours is computed while another one takes more than there is to share."""
    room, done = Room(1), threading.Event()

    def hash_ours():
        with room.taken(0):
            done.set()

    with room.taken(2):
        threading.Thread(target=hash_ours, daemon=True).start()
        assert done.wait(60)


IN_TURN = f"""
import threading
from authapi import Settings
from authapi import passwords
passwords.memory_limit = lambda: (120 + 4 * 46 + 80) << 20
verify = passwords.Passwords(Settings(hash_slots=4)).verify
stored = {SCRYPT.format(16, 8, 1)!r}
threads = [threading.Thread(target=verify, args=[stored, "x"]) for _ in range(4)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print(max(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_logins_at_once_share_the_memory(tmp_path):
    """Foreign hashes of 64 MiB wait for each other where the container has 80 MiB for them."""
    done = subprocess.run(
        [sys.executable, "-c", IN_TURN], cwd=tmp_path, check=True, capture_output=True, text=True
    )

    assert 64 << 10 < int(done.stdout) < 140 << 10


def test_workers_share_the_memory(monkeypatch):
    """Each worker may use its part of the memory that the container has beside the service."""
    monkeypatch.setattr("authapi.passwords.memory_limit", lambda: (2 * 120 + 2 * 46 + 80) << 20)
    fault = Passwords(Settings(workers=2, hash_slots=1)).import_fault(SCRYPT.format(16, 8, 1))

    assert fault == "takes 64 MiB of memory"


def test_default_costs_are_far_from_the_bounds():
    """The defaults of the libraries are taken, and twice as much."""
    for text in (SCRYPT.format(16, 8, 1), PBKDF2.format(2_000_000), BCRYPT.format(13)):
        assert PASSWORDS.import_fault(text) is None


def test_without_a_pepper():
    """A peppered hash is not imported without the setting, and a login says which one it needs."""
    vector = next(each for each in VECTORS if each["from"] == "flask-security")
    plain = Passwords(Settings(**CHEAP))
    text = stored("flask-security", vector["hash"])

    assert plain.import_fault(text) == "needs the setting AUTHAPI_IMPORTED_PEPPER"
    assert not plain.verify(text, vector["password"]).usable


def test_without_bcrypt(client, monkeypatch, caplog):
    """Without the library such a login fails like another, and the log names the extra."""
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    foreign_hashes._seconds_of_a_unit.cache_clear()
    client.register()
    client.query("UPDATE users SET password_hash = ?", BCRYPT.format("04"))

    assert client.log_in(password=USER["password"]).status_code == 401
    assert "install the extra authapi-server[import]" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "$6$salt$hash",
        "$fbscrypt$v=1$x",
        "md5$salt$d41d8cd98f00b204e9800998ecf8427e",
        "sha256$salt$00",
        "plain text",
        "scrypt:1000:8:1$salt$00",
        "pbkdf2:sha256:1000$salt$0",
    ],
)
def test_kinds_that_are_not_taken(text):
    """A hash of an unknown or weak kind is refused, and the sentence does not show it."""
    with pytest.raises(Fault) as fault:
        stored("werkzeug", text)

    assert text not in str(fault.value)


def test_bcrypt_reads_72_bytes():
    """More than 72 bytes are cut, as the library that made the hash has done."""
    bcrypt = pytest.importorskip("bcrypt")
    text = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()

    assert PASSWORDS.verify(stored("pocketbase", text), "x" * 100).correct
    assert isinstance(Foreign.parse(text).inner, Bcrypt)
