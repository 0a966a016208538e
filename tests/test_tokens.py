"""Tokens: what opens a session, and every game that must not."""

import base64
import hashlib
import hmac
import json

import msgspec
import pytest
from conftest import deletes_cookie
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authapi.errors import InvalidToken
from authapi.keys import Key
from authapi.principal import Claims
from authapi.session_tokens import REMEMBERED
from authapi.tokens import Tokens

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
        for remembered in (signed.issued, signed.claims):
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
