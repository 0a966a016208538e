"""The signing keys: the file that holds them, and a secret key in its place."""

import base64
import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from authapi import Settings, StartError
from authapi.keys import Key, load_keys
from authapi.tokens import KeyRing

SECRET, OTHER_SECRET = (hashlib.sha256(text).digest() for text in (b"one", b"another"))


def encoded(value):
    text = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def decoded(segment):
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def key(**changes):
    good = {"kty": "oct", "kid": "a", "alg": "HS256", "k": encoded(SECRET)}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


@pytest.fixture(name="key_file")
def _key_file(tmp_path):
    path = tmp_path / "keys.json"
    path.touch(mode=0o600)
    return path


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"keys": keys})
        for keys in (
            [],
            [key(kty="RSA")],
            [key(alg="HS512")],
            [key(alg="none")],
            [key(use="enc")],
            [key(key_ops=["verify"])],
            [key(k=encoded(b"short"))],
            [key(k=encoded(b"\0" * 32))],
            [key(k=encoded(b"secret! " * 4))],
            [key(k=encoded(b"a-string-secret-at-least-256-bits-long"))],
            [key(k="not base64url!")],
            [key(k=None)],
            [key(kid=None)],
            [key(), key(k=encoded(OTHER_SECRET))],
            [key(crv="x")],
        )
    ]
    + ["", "{}", "[]", "nonsense", "\xff"],
)
def test_bad_key_files(make_app, key_file, text):
    """A key file that is not usable stops the start, says which it is, and is left alone."""
    key_file.write_text(text, encoding="latin-1")

    with pytest.raises(StartError, match="keys.json is not usable"):
        make_app(key_file=str(key_file))

    assert text == key_file.read_text(encoding="latin-1")


def test_several_keys(make_client, key_file):
    """The file format allows several keys; the documented one is a JWK Set."""
    keys = [key(kid="old", use="sig", key_ops=["sign", "verify"])]
    keys += [key(kid="new", k=encoded(OTHER_SECRET))]
    key_file.write_text(json.dumps({"keys": keys}))

    answer = make_client(key_file=str(key_file)).register()

    assert json.loads(decoded(answer.cookies["jwt"].value.split(".")[0]))["kid"] == "new"


def test_key_file_of_another_user(make_app, key_file, monkeypatch):
    """A key file that belongs to another user stops the start: its owner can read and write it."""
    key_file.write_text(json.dumps({"keys": [key()]}))
    owner = key_file.stat().st_uid + 1
    os.chown(key_file, owner, -1) if os.geteuid() == 0 else monkeypatch.setattr(
        os, "geteuid", lambda: owner
    )

    with pytest.raises(StartError, match="belongs to another user"):
        make_app(key_file=str(key_file))


def test_key_file_that_is_none(make_app, tmp_path):
    """A pipe or a directory is no key file, and the start does not wait for it."""
    os.mkfifo(tmp_path / "pipe", 0o600)

    for name in ("pipe", ""):
        with pytest.raises(StartError, match="The key file"):
            make_app(key_file=str(tmp_path / name))


def test_key_file_is_made_once(make_app, tmp_path):
    """The first start makes 32 random bytes for the owner alone; the next one keeps them."""
    make_app()
    path = tmp_path / "authapi.db.key"
    made = path.read_text()

    make_app()

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(decoded(json.loads(made)["keys"][0]["k"])) == 32
    assert made == path.read_text()
    assert {f"authapi.db{ending}" for ending in ("", ".key", ".lock", ".root", ".run")} >= {
        path.name for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm"))
    }


def test_key_file_of_two_first_starts(tmp_path):
    """If several first starts run at once, one makes the file and all read the same keys."""
    given_settings = Settings(database_url=f"sqlite:///{tmp_path}/a.db")

    with ThreadPoolExecutor(16) as pool:
        rings = list(
            pool.map(lambda _: KeyRing(load_keys(given_settings), "session+jwt"), range(64))
        )

    tokens = {ring.sign(b"{}") for ring in rings}
    assert len(tokens) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.db.key"]


@pytest.mark.parametrize("path", ["/proc/nowhere/keys", "/proc/keys.json"])
def test_key_file_that_cannot_be_made(make_app, path):
    """If no key file can be made, the start stops and names it."""
    with pytest.raises(StartError, match=f"The key file {path} cannot be used"):
        make_app(key_file=path)


def test_secret_key(make_client, tmp_path):
    """With a secret key there is no key file, and every process with that key reads its tokens."""
    one, other = (make_client(secret_key="a secret of thirty-two bytes, and more") for _ in "12")

    token = one.register().cookies["jwt"].value

    assert other.get_as(token).status_code == 200
    assert not (tmp_path / "authapi.db.key").exists()


def test_keys_are_not_shown(make_app):
    """Neither settings nor keys show the secret when they are printed."""
    secret = "a secret of thirty-two bytes, and more"
    assert secret not in repr(make_app(secret_key=secret).core.settings)
    assert encoded(SECRET) not in repr(Key.of(SECRET))
