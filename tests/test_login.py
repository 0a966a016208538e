"""Login."""

import re
import unicodedata

import argon2
import pytest
from conftest import CHEAP, USER, token_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authapi.passwords.hashing import Hasher
from authapi.passwords.stored_hashes import Cost


@pytest.mark.parametrize("identifier", [USER["username"], USER["email"]])
def test_documented_example(client, identifier):
    """The documented login works by username and by email, and sets the cookie."""
    client.register()

    answer = client.post("/login", {"usernameOrEmail": identifier, "password": USER["password"]})

    assert (
        answer.status_code,
        answer.json["code"],
        answer.json["message"],
    ) == (200, 200, "Logged in.")
    assert USER["username"] == answer.json["user"]["username"]
    assert answer.cookies["jwt"].max_age == 259_200
    assert client.get_as(token_of(answer)).status_code == 200


def test_failures_are_alike(client):
    """Unknown user, wrong password, disabled user: one answer, but for the request id."""
    client.register()
    client.register(username="disabled", email="disabled@example.com")
    client.query("UPDATE users SET disabled_at = 1 WHERE username = 'disabled'")

    answers = [
        client.log_in("nobody"),
        client.log_in("nobody@example.com"),
        client.log_in(password="wrong password"),
        client.log_in(password=""),
        client.log_in("disabled"),
        client.log_in("", ""),
    ]

    assert [answer.status_code for answer in answers] == [401] * 6
    assert answers[0].json == {
        "code": "401",
        "message": "Invalid credentials.",
        "timestamp": "Tue, 16 Aug 2022 10:21:29 GMT",
        "error": "invalid_credentials",
        "user": None,
    }
    assert len({answer.content for answer in answers}) == 1
    ours = [{**answer.headers, "x-request-id": ""} for answer in answers]
    assert [ours[0]] * 6 == ours
    assert not any(answer.cookies for answer in answers)


@pytest.fixture(name="verified")
def _verified(monkeypatch):
    """The hashes that passwords are compared with."""
    verified, matches = [], Hasher.matches

    def spy(self, stored, password):
        verified.append(stored)
        return matches(self, stored, password)

    monkeypatch.setattr(Hasher, "matches", spy)
    return verified


def test_unknown_user_costs_a_verification(client, verified):
    """A decoy is verified at the current cost where there is no user, once each."""
    client.register()
    client.log_in("nobody")
    client.log_in(password="wrong password")

    decoy, real = (argon2.extract_parameters(str(stored)) for stored in verified)
    assert real == decoy


def test_each_login_is_a_session_of_its_own(client, token):
    """Two logins have two tokens; ending one leaves the other."""
    other = token_of(client.log_in())
    assert token != other

    client.post("/logout", headers={"Cookie": f"jwt={token}"})

    assert client.get_as(token).status_code == 401
    assert client.get_as(other).status_code == 200


def stored_hash(client):
    ((stored,),) = client.query("SELECT password_hash FROM users")
    return stored


@pytest.mark.parametrize(
    "hasher",
    [
        argon2.PasswordHasher(),
        argon2.PasswordHasher(salt_len=12),
        argon2.PasswordHasher(time_cost=2, memory_cost=512, parallelism=2),
        argon2.PasswordHasher(type=argon2.Type.I, memory_cost=64),
        argon2.PasswordHasher(type=argon2.Type.D, memory_cost=64),
    ],
)
def test_rehash(client, hasher):
    """A login replaces a hash of another cost, argon2-cffi's own among them; a failure does not."""
    client.register()
    old = hasher.hash(USER["password"])
    client.query("UPDATE users SET password_hash = ?", old)

    assert client.log_in(password="wrong password").status_code == 401
    assert old == stored_hash(client)
    assert client.log_in().status_code == 200
    new = stored_hash(client)
    assert re.match(r"\$argon2id\$v=19\$m=8,t=1,p=1\$", new)
    assert client.log_in().status_code == 200
    assert new == stored_hash(client)


def test_rehash_follows_the_settings(make_client):
    """After a change of the cost settings each user's hash follows at their next login."""
    make_client().register()

    client = make_client(**{**CHEAP, "argon2_time_cost": 2})
    client.log_in()

    assert "m=8,t=2,p=1" in stored_hash(client)


NO_HASH = "a stored password hash is of no kind that this service verifies: its user cannot log in"
DEAR = "$argon2id$v=19$m={},t={},p={}$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("", NO_HASH),
        ("plain", NO_HASH),
        ("$2b$12$abcdefghijklmnopqrstuv", NO_HASH),
        ("$argon2id$v=19$", "a stored password hash is no argon2 hash: its user cannot log in"),
        (
            DEAR.format(4_000_000, 1, 1),
            "a stored password hash takes 3906 MiB of memory: its user cannot log in",
        ),
        (
            DEAR.format(8, 4_000_000_000, 1),
            r"a stored password hash takes \d+ seconds of CPU time: its user cannot log in",
        ),
        (
            DEAR.format(1_048_576, 100, 100_000),
            r"a stored password hash takes \d+ seconds of CPU time: its user cannot log in",
        ),
    ],
)
def test_unusable_hash(client, verified, caplog, stored, said):
    """A stored hash that is none, or would take too much, fails like a wrong password.

    The log says it, without a name, and it takes the time of a hash: a decoy is verified.
    """
    client.register()
    client.query("UPDATE users SET password_hash = ?", stored)

    assert client.log_in().status_code == 401
    assert [decoy.cost for decoy in verified] == [Cost(8, 1, 1)]
    assert any(re.fullmatch(said, message) for message in caplog.messages)


@pytest.mark.parametrize(
    ("statement", "login", "said"),
    [
        ("SELECT 1", (USER["username"], "wrong password"), "user_id=1 reason=wrong_password"),
        ("SELECT 1", ("nobody", USER["password"]), "user_id=- reason=unknown_name"),
        ("UPDATE users SET disabled_at = 1", [USER["email"]], "user_id=1 reason=disabled"),
        ("UPDATE users SET password_hash = ''", ["crispengari"], "user_id=1 reason=unusable_hash"),
        (
            "UPDATE users SET password_hash = NULL",
            [USER["email"]],
            "user_id=1 reason=wrong_password",
        ),
    ],
)
def test_the_log_says_why(client, caplog, statement, login, said):
    """The log gives a reason for each refused login, and no name; the answer gives none."""
    caplog.set_level("INFO")
    client.register()
    client.query(statement)

    answer = client.log_in(*login, remote_addr="192.0.2.7")

    assert set(answer.json) == {"code", "message", "timestamp", "error", "user"}
    (line,) = [text for text in caplog.messages if text.startswith("login_failed")]
    request_id = answer.headers["x-request-id"]
    assert line == f"login_failed {said} ip=192.0.2.7 request_id={request_id}"
    assert not [text for text in caplog.messages if login[0] in text]


@pytest.fixture(name="unlimited")
def _unlimited(make_client):
    return make_client(rate_limits="off")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(identifier=st.text(), password=st.text())
def test_whatever_the_text(unlimited, identifier, password):
    """A login with an unknown name fails with 401, whatever is typed."""
    assert unlimited.log_in(identifier, password).status_code == 401


def test_a_disabled_user_is_not_rehashed(client):
    """The right password of a disabled user costs no more than a wrong one."""
    client.register()
    old = argon2.PasswordHasher(memory_cost=64).hash(USER["password"])
    client.query("UPDATE users SET password_hash = ?, disabled_at = 1", old)

    assert client.app.core.passwords.verify(old, USER["password"], rehash=False).new_hash is None
    assert client.log_in().status_code == 401
    assert stored_hash(client) == old


@pytest.mark.parametrize("text", ["x" * 60_000, "a" + "\u0301\u0316" * 10_000])
def test_long_input_is_not_normalised(client, monkeypatch, text):
    """Normalising takes its time: what is too long to be right is wrong without it."""
    client.register()
    normalize = unicodedata.normalize

    def bounded(form, value):
        assert len(value) <= 4_096
        return normalize(form, value)

    monkeypatch.setattr(unicodedata, "normalize", bounded)

    assert client.log_in(text).status_code == 401
    assert client.log_in(password=text).status_code == 401
    assert client.register(password=text).status_code == 422
    assert client.register(username=text).status_code == 422


def test_no_memory_for_a_hash(client, monkeypatch, caplog):
    """A lack of memory is told as such, and not as a wrong password."""
    client.register()

    def fail(*_):
        raise MemoryError("Memory allocation error")

    for name in ("matches", "hash"):
        monkeypatch.setattr(Hasher, name, fail)

    assert client.log_in().json["error"] == "overloaded"
    assert client.register(username="a", email="a@b.c").json["error"] == "overloaded"
    assert sum("overloaded Memory allocation error" in text for text in caplog.messages) == 2


def test_events(client, caplog):
    """Each thing that happens is told once, with its user; a logout of nothing is none."""
    caplog.set_level("INFO", "authapi.events")
    told = []
    client.app.core.events.subscribe(told.append)

    client.register()
    client.log_in(password="wrong password")
    client.log_in("nobody")
    token = token_of(client.log_in())
    for _ in range(2):
        client.post("/logout", headers={"Cookie": f"jwt={token}"})

    expected = [
        ("Registered", 1),
        ("LoginFailed", 1),
        ("LoginFailed", None),
        ("LoggedIn", 1),
        ("LoggedOut", 1),
    ]
    assert [(type(event).__name__, event.user_id) for event in told] == expected
    assert [text.split()[0] for text in caplog.messages] == [
        "registered",
        "login_failed",
        "login_failed",
        "logged_in",
        "logged_out",
    ]


def test_the_longest_email(client):
    """An email of the greatest length can be logged in with."""
    email = "a" * 10 + "@" + ".".join(["d" * 60] * 4)[:244]
    client.register(email=email)

    assert len(email) == 254
    assert client.log_in(email).status_code == 200
