"""Tokens: what opens a session, and every game that must not."""

import base64
import hashlib
import hmac
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from conftest import deletes_cookie
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authapi import Settings, StartError
from authapi.errors import InvalidToken
from authapi.keys import Key, load_keys
from authapi.principal import Claims
from authapi.session_tokens import REMEMBERED
from authapi.tokens import KeyRing, Tokens

SECRET, OTHER_SECRET = (hashlib.sha256(text).digest() for text in (b"one", b"another"))


def encoded(value):
    text = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def decoded(segment):
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def forged(header, payload, secret, digest=hashlib.sha256):
    signing_input = f"{encoded(header)}.{encoded(payload)}"
    signature = hmac.new(secret, signing_input.encode(), digest).digest()
    return f"{signing_input}.{encoded(signature)}"


@pytest.fixture(name="secret")
def _secret(client, token):
    """Return the key that signs the client's tokens."""
    del token
    path = client.app.core.settings.key_file
    with open(path, "rb") as file:  # noqa: PTH123
        return decoded(json.load(file)["keys"][0]["k"])


@pytest.fixture(name="parts")
def _parts(token):
    """Return the header and the payload of a good token."""
    header, payload, _ = token.split(".")
    return json.loads(decoded(header)), json.loads(decoded(payload))


def assert_refused(client, token, *, deletes=True):
    answer = client.get_as(token)
    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert deletes == deletes_cookie(answer)


def test_claims(parts, clock):
    """The payload holds the documented `id` and `username`, and the registered claims."""
    header, payload = parts

    assert {k: header[k] for k in ("alg", "typ")} == {"alg": "HS256", "typ": "session+jwt"}
    assert {"id", "username", "sub", "iat", "exp", "iss", "aud", "sid"} == set(payload)
    assert (payload["id"], payload["username"], payload["sub"]) == (1, "crispengari", "1")
    assert (clock.now, clock.now + 259_200) == (payload["iat"], payload["exp"])


def test_the_forger_can_succeed(client, parts, secret):
    """With the right key and the right bytes a forged token passes: the refusals mean something."""
    assert client.get_as(forged(*parts, secret)).status_code == 200


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", None, 0])
@pytest.mark.parametrize("signature", ["", "AA"])
def test_no_algorithm(client, parts, algorithm, signature):
    """`none` in any spelling, with or without a signature."""
    header, payload = parts

    assert_refused(
        client, f"{encoded({**header, 'alg': algorithm})}.{encoded(payload)}.{signature}"
    )


@pytest.mark.parametrize("key", [b"", b"\0", b"secret", b"\0" * 32, b"crispengari"])
def test_weak_keys(client, parts, key):
    """Signed with an empty or a weak key."""
    assert_refused(client, forged(*parts, key))


@pytest.mark.parametrize(
    ("algorithm", "digest"), [("HS384", hashlib.sha384), ("HS512", hashlib.sha512)]
)
def test_another_algorithm_with_the_right_key(client, parts, secret, algorithm, digest):
    """The key's own algorithm and no other."""
    header, payload = parts

    assert_refused(client, forged({**header, "alg": algorithm}, payload, secret, digest))


@pytest.mark.parametrize(
    "change",
    [
        {"kid": "other"},
        {"kid": ""},
        {"kid": None},
        {"kid": 1},
        {"kid": ["x"]},
        {"kid": "../../../../dev/null"},
        {"kid": "x' UNION SELECT 'secret"},
        {"typ": "JWT"},
        {"typ": "at+jwt"},
        {"jwk": {"kty": "oct", "k": encoded(SECRET)}},
        {"jku": "http://127.0.0.1:9/keys"},
        {"x5u": "http://127.0.0.1:9/keys"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"b64": True},
        {"cty": "JWT"},
        {"zip": "DEF"},
    ],
)
def test_header_games(client, parts, secret, change):
    """Any other header than the key's own is refused, even rightly signed."""
    header, payload = parts

    assert_refused(client, forged({**header, **change}, payload, secret))


@pytest.mark.parametrize("missing", ["alg", "kid", "typ"])
def test_header_lacks(client, parts, secret, missing):
    """A header that lacks something is another header."""
    header, payload = parts
    del header[missing]

    assert_refused(client, forged(header, payload, secret))


def test_embedded_key(client, parts):
    """A token that brings the key that signed it is not believed."""
    header, payload = parts
    key = {"kty": "oct", "kid": "mine", "k": encoded(SECRET)}

    assert_refused(client, forged({**header, "kid": "mine", "jwk": key}, payload, SECRET))
    assert_refused(client, forged({**header, "jwk": key}, payload, SECRET))


def test_swapped_payload(client, token, parts):
    """Another payload under an old signature."""
    header, _, signature = token.split(".")
    client.register(username="other", email="other@example.com")

    assert_refused(client, f"{header}.{encoded({**parts[1], 'id': 2, 'sub': '2'})}.{signature}")


@pytest.mark.parametrize(
    "change",
    [
        {"id": 2},
        {"id": "1"},
        {"id": True},
        {"id": 2**63},
        {"id": -1},
        {"sub": "2"},
        {"sub": 1},
        {"iss": "other"},
        {"iss": None},
        {"aud": "other"},
        {"aud": ["authapi"]},
        {"exp": 0},
        {"exp": "9999999999"},
        {"exp": 9999999999.5},
        {"exp": None},
        {"iat": "0"},
        {"sid": "other"},
        {"sid": ""},
        {"sid": None},
        {"username": 1},
        {"nbf": 0},
        {"admin": True},
    ],
)
def test_payload_games(client, parts, secret, change):
    """Any payload that we would not write is refused, even rightly signed."""
    header, payload = parts

    is_only_older = change == {"exp": 0}  # of a session that lives: the browser has a newer cookie
    token = forged(header, {**payload, **change}, secret)
    assert_refused(client, token, deletes=not is_only_older)


@pytest.mark.parametrize("missing", ["id", "username", "sub", "iat", "exp", "iss", "aud", "sid"])
def test_payload_lacks(client, parts, secret, missing):
    """Every claim is required."""
    header, payload = parts
    del payload[missing]

    assert_refused(client, forged(header, payload, secret))


def test_duplicate_claims(client, parts, secret):
    """A claim that stands twice is refused, whichever is the good one."""
    header, payload = parts
    text = json.dumps(payload, separators=(",", ":"))

    for doubled in ('{"exp":0,' + text[1:], text[:-1] + ',"exp":9999999999}', text + " "):
        assert_refused(client, forged(header, doubled.encode(), secret))


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b'"x"', b"1", b"{", b"\xff", b"{}"])
def test_payload_is_no_claims(client, parts, secret, payload):
    """A signed payload that is no object of claims."""
    assert_refused(client, forged(parts[0], payload, secret))


@pytest.mark.parametrize(
    "mangle",
    [
        lambda token: token + "=",
        lambda token: token + ".",
        lambda token: token + ".x",
        lambda token: "." + token,
        lambda token: token.replace(".", "=.", 1),
        lambda token: token.rsplit(".", 1)[0],
        lambda token: token.rsplit(".", 1)[0] + ".",
        lambda token: token.upper(),
        lambda token: token * 20,
        lambda token: "x" * 5_000,
        lambda token: "",
        lambda token: "..",
        lambda token: "é",
    ],
)
def test_mangled(client, token, mangle):
    """Padding, cut or doubled parts, other letters, and what is far too long."""
    with pytest.raises(InvalidToken):
        client.tokens.read(mangle(token), now=0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_changed_character(client, token, data):
    """No character of a token can be another one."""
    position = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from("ABab01-_.=é ").filter(lambda c: c != token[position]))

    with pytest.raises(InvalidToken):
        client.tokens.read(token[:position] + character + token[position + 1 :], now=0)


def test_expiry_by_the_clock(client, token, parts):
    """A token lives until `exp`, which is the first second that it is dead; also once verified."""
    tokens = client.tokens
    assert tokens.read(token, parts[1]["exp"] - 0.001).id == 1
    with pytest.raises(InvalidToken):
        tokens.read(token, parts[1]["exp"])


class Ticket(msgspec.Struct, frozen=True):
    """The claims of a type of token that a feature declares."""

    sub: str
    exp: int


def tickets(*keys):
    """Return what issues and reads tokens of a type, with these keys."""
    return Tokens(list(keys)).signed("ticket+jwt", Ticket)


def issue(*keys):
    return tickets(*keys).issue(Ticket("1", exp=9))


def test_the_newest_key_signs_and_all_verify():
    """Rotation: a new key signs, the old ones still verify until they are taken out."""
    old, new = Key.of(SECRET), Key.of(OTHER_SECRET)

    from_old, from_both = issue(old), issue(old, new)

    assert new.kid == json.loads(decoded(from_both.split(".")[0]))["kid"]
    for token in (from_old, from_both):
        assert tickets(old, new).read(token, now=0).sub == "1"
    with pytest.raises(InvalidToken):
        tickets(new).read(from_old, now=0)


def test_what_is_remembered_is_bounded():
    """No client makes a process remember more: not by tokens, nor by headers spelled otherwise."""
    tokens = Tokens([Key.of(SECRET)])
    sessions = tokens.signed("session+jwt", Claims, remembered=REMEMBERED)
    others = tokens.signed("ticket+jwt", Ticket)

    for signed, number in [(sessions, REMEMBERED), (others, 0)]:
        for remembered in (signed.issue, signed.claims):
            assert remembered.cache_info().maxsize == number


def test_types():
    """A token says what it is (RFC 8725, 3.11), and is not taken for another."""
    tokens = Tokens([Key.of(SECRET)])
    signed, others = tokens.signed("ticket+jwt", Ticket), tokens.signed("other+jwt", Ticket)
    ticket = signed.issue(Ticket("1", exp=2))

    assert json.loads(decoded(ticket.split(".")[0]))["typ"] == "ticket+jwt"
    assert signed.read(ticket, now=1).sub == "1"
    for later in (2, 3):
        with pytest.raises(InvalidToken):
            signed.read(ticket, now=later)
    with pytest.raises(InvalidToken):
        others.read(ticket, now=1)


def test_a_type_is_declared_once():
    """Two features cannot declare the same type of token."""
    tokens = Tokens([Key.of(SECRET)])
    tokens.signed("ticket+jwt", Ticket)

    with pytest.raises(ValueError, match=r"the token type ticket\+jwt is declared already"):
        tokens.signed("ticket+jwt", Claims)


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
    assert {"authapi.db", "authapi.db.key", "authapi.db.lock", "authapi.db.root"} >= {
        path.name for path in tmp_path.iterdir() if not path.name.endswith(("-wal", "-shm"))
    }


def test_key_file_of_two_first_starts(tmp_path):
    """Of many first starts at once, one makes the file and all read the same keys."""
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


def test_longest_token(client, parts, secret):
    """A token of 4 KiB is read, one byte more is not."""
    header, payload = parts
    fits = next(
        token
        for length in range(2_000, 3_000)
        if len(token := forged(header, {**payload, "username": "u" * length}, secret)) >= 4_096
    )
    longer = forged(header, {**payload, "username": payload["username"] * 300}, secret)

    assert len(fits) == 4_096
    assert client.get_as(fits).status_code == 200
    assert len(longer) > 4_096
    assert_refused(client, longer)
