"""Registration: a new account, logged in at once."""

import random
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import OTHER, USER, token_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from overtaking import during_the_hash


def test_documented_example(client):
    """The documented example works as it stands, and sets the documented cookie."""
    answer = client.post("/register", USER)

    assert (
        answer.status_code,
        answer.json["code"],
        answer.json["message"],
    ) == (201, 201, "User created.")
    assert USER["username"] == answer.json["user"]["username"]
    cookie = answer.cookies["jwt"]
    assert (
        cookie.max_age,
        cookie.path,
        cookie.http_only,
        cookie.same_site,
    ) == (259_200, "/", True, "Lax")
    assert not cookie.secure
    assert cookie.value not in answer.text
    assert client.get_as(cookie.value).status_code == 200


def test_every_fault_at_once(client):
    """All the faults of a body are named together: those of the route's own fields first."""
    body = {"extra": 1, "username": "a b", "email": "no", "password": "short"}

    answer = client.post("/register", body)

    assert (
        answer.status_code,
        answer.json["code"],
        answer.json["message"],
        answer.json["error"],
    ) == (422, "422", "Validation failed.", "validation_failed")
    fields = [fault["field"] for fault in answer.json["errors"]]
    assert fields == ["username", "email", "password", "extra"]
    assert all(fault["message"] for fault in answer.json["errors"])


@pytest.mark.parametrize("field", list(USER))
@pytest.mark.parametrize("value", [None, 1, True, 1.5, ["x"], {"x": "x"}, 2**70])
def test_wrong_types(client, field, value):
    """A field of another type than text is a fault of that field, never coerced."""
    answer = client.register(**{field: value})

    assert answer.status_code == 422
    assert [field] == [fault["field"] for fault in answer.json["errors"]]


@pytest.mark.parametrize("field", list(USER))
def test_missing_fields(client, field):
    """A field that is missing is a fault of that field."""
    body = {name: value for name, value in USER.items() if name != field}

    answer = client.post("/register", body)

    assert [{"field": field, "message": "Is required."}] == answer.json["errors"]


def test_taken(client):
    """If both are taken, the username is reported first; nothing is added."""
    client.register()

    answer = client.register()

    assert (
        answer.status_code,
        answer.json["code"],
        answer.json["error"],
    ) == (409, "409", "username_taken")
    assert client.query("SELECT count(*) FROM users") == [(1,)]


def test_closed(make_client):
    """If registration is closed nobody registers."""
    answer = make_client(registration="closed").register()

    assert (answer.status_code, answer.json["error"]) == (403, "registration_closed")
    assert not answer.cookies


LONGEST = " ".join(str(number) for number in range(1_000))[:1_024]


@pytest.mark.parametrize(
    "password",
    [
        "8 chars.",
        LONGEST,
        "   what   ",
        "пароль-и-ещё",
        "🙂🙃🙈🙉🙊🐵🐒🦍",
        "tab\tand\nline",
        USER["username"],
    ],
)
def test_good_passwords(client, password):
    """8 to 1,024 characters of any kind, kept exactly: never trimmed, never cut."""
    assert client.register(password=password).status_code == 201
    assert client.log_in(password=password).status_code == 200
    for other in (password[:-1], password + " ", password.swapcase() + "x"):
        assert client.log_in(password=other).status_code == 401


@pytest.mark.parametrize(
    ("password", "message"),
    [
        ("7 chars", "Must have at least 8 characters."),
        ("x" * 1025, "Must have at most 1024 characters."),
        ("null\0byte", "Must not hold NUL or a lone surrogate."),
        *(
            (word, "Is one of the most common passwords.")
            for word in ("baseball", "PassWord", "iloveyou", "12345678")
        ),
    ],
)
def test_bad_passwords(client, password, message):
    """Short, long, NUL, and the common ones in any case."""
    answer = client.register(password=password)

    assert answer.status_code == 422
    assert answer.json["errors"] == [{"field": "password", "message": message}]


def test_password_length_counts_characters_after_nfc(client):
    """Eight decomposed letters are eight, not sixteen; and both forms are one password."""
    composed = "éàóíúñçô"
    parts = unicodedata.normalize("NFD", composed)

    assert client.register(password=parts[:-2]).status_code == 422
    assert client.register(password=parts).status_code == 201
    assert client.log_in(password=composed).status_code == 200


def test_password_min_length_is_a_setting(make_client):
    """A longer least length holds for new passwords."""
    client = make_client(password_min_length=15)

    assert client.register(password="14 characters.").status_code == 422
    assert client.register(password="15 characters..").status_code == 201


def test_one_name_32_threads(make_client):
    """If 32 requests want a name, one gets it; the rest hear that it is taken or the lane full."""
    client = make_client(hash_slots=2, threads=40, rate_limits="off")

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda n: client.register(email=f"u{n}@example.com"), range(32)))

    statuses = [answer.status_code for answer in answers]
    assert statuses.count(201) == 1
    assert {201, 409, 503} >= set(statuses)
    assert client.query("SELECT count(*) FROM users") == [(1,)]
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]


@pytest.mark.parametrize(
    ("field", "error"), [("username", "username_taken"), ("email", "email_taken")]
)
def test_constraint_has_the_last_word(client, monkeypatch, field, error):
    """A name that is taken while the password is hashed is refused, and nothing is stored."""
    during_the_hash(monkeypatch, client, lambda: client.register(**{**OTHER, field: USER[field]}))

    answer = client.register()

    assert (answer.status_code, answer.json["error"]) == (409, error)
    assert client.query("SELECT count(*) FROM users") == [(1,)]
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]
    assert client.events() == ["registered"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(name="unlimited")
def _unlimited(make_client):
    return make_client(rate_limits="off")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    username=st.text() | st.text(alphabet="aÉß._-٣़ﬁ", min_size=1, max_size=80) | JSON,
    email=st.emails() | st.text() | JSON,
    password=st.text(min_size=8) | JSON,
)
def test_whatever_the_text(unlimited, username, email, password):
    """Whatever the fields hold, the answer is below 500; what is accepted comes back unchanged."""
    body = {"username": username, "email": email, "password": password}

    answer = unlimited.post("/register", body)

    assert answer.status_code in {201, 400, 409, 422}
    if answer.status_code == 201:
        user = unlimited.get_as(token_of(answer)).json["user"]
        assert (username, email) == (user["username"], user["email"])
        assert unlimited.log_in(username, password).status_code == 200
        assert unlimited.log_in(email, password).status_code == 200


def test_closed_before_anything_else(make_client):
    """If registration is closed, the answer tells nothing of the body or of existing users."""
    answer = make_client(registration="closed").post("/register", {})

    assert answer.json["error"] == "registration_closed"


def test_the_longest_password_decomposed(client):
    """1,024 characters may come as four parts each; either form logs in."""
    password = "".join(random.Random(1).choices("ᾂᾃᾄᾅᾆᾇ", k=1_024))
    parts = unicodedata.normalize("NFD", password)

    assert len(parts) == 4_096
    assert client.register(password=parts).status_code == 201
    assert client.log_in(password=password).status_code == 200
