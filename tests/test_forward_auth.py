"""Forward authentication: GET /verify says whose session a request comes in."""

from urllib.parse import unquote

import pytest
from conftest import USER, token_of

from authapi.inline import IN_LOOP

HEADERS = ("X-Auth-User-Id", "X-Auth-Username", "X-Auth-Email")


def identity(result):
    """Return the user in an answer's headers, decoded."""
    return tuple(unquote(result.headers[name]) for name in HEADERS)


def test_verified(client, token):
    """A live session is answered 200, with its user in the headers and in the envelope."""
    answer = client.get_as(token, "/verify")

    assert (answer.status_code, answer.json["user"]["username"]) == (200, USER["username"])
    assert [answer.headers[name] for name in HEADERS[:2]] == ["1", USER["username"]]
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("settings", "email"),
    [
        ({}, None),
        ({"verify_email_header": "confirmed"}, None),
        ({"verify_email_header": "always"}, USER["email"]),
    ],
)
def test_unconfirmed_email(make_client, settings, email):
    """An address that nobody has confirmed is sent only where the operator asks for it."""
    client = make_client(**settings)

    answer = client.get_as(token_of(client.register()), "/verify")

    assert (answer.status_code, answer.headers.get("X-Auth-Email")) == (200, email)


@pytest.mark.parametrize(
    ("username", "encoded_username", "email", "encoded_email"),
    [
        (
            "Straße.é日本",
            "Stra%C3%9Fe.%C3%A9%E6%97%A5%E6%9C%AC",
            "a+b%c@example.com",
            "a+b%25c@example.com",
        ),
        ("41", "41", "%41@example.com", "%2541@example.com"),
        ("_.-a", "_.-a", "!#$&'*+/=?^_`{|}~-@example.com", "!#$&'*+/=?^_`{|}~-@example.com"),
    ],
)
def test_encoding(make_client, username, encoded_username, email, encoded_email):
    """Invisible characters, characters beyond ASCII and the percent sign are percent-encoded."""
    client = make_client(verify_email_header="always")
    token = token_of(client.register(username=username, email=email))

    answer = client.get_as(token, "/verify")

    assert [answer.headers[name] for name in HEADERS] == ["1", encoded_username, encoded_email]
    assert identity(answer) == ("1", username, email)


def test_refused(client, token):
    """Without a session, with a bad token, and after a logout: 401, and nobody is named."""
    client.post("/logout", headers={"Cookie": f"jwt={token}"})

    answers = [
        client.simulate_get("/verify"),
        client.get_as("garbage", "/verify"),
        client.get_as(token, "/verify"),
    ]

    errors = [(answer.status_code, answer.json["error"]) for answer in answers]
    assert errors == [(401, "not_authenticated"), (401, "invalid_token"), (401, "invalid_token")]
    named = [name for answer in answers for name in answer.headers if name.startswith("x-auth")]
    assert named == []


@pytest.mark.sqlite("it traces SQLite")
def test_one_statement(client, token):
    """A verification runs one statement, and writes none."""
    statements = []
    client.app.core.database.connection.set_trace_callback(statements.append)

    client.get_as(token, "/verify")

    assert [statement.split()[0] for statement in statements] == ["SELECT"]


@pytest.mark.sqlite("on a server the loop looks the session up first: see test_look_ups")
def test_nothing_is_renewed(client, token, clock):
    """If a renewal is due, a verification stays in the loop, sets no cookie and writes nothing."""
    clock.move(3_601)
    before = client.query("SELECT last_seen_at, expires_at FROM sessions")

    answer = client.get_as(token, "/verify", extras={IN_LOOP: True})

    assert (answer.status_code, answer.cookies) == (200, {})
    assert client.query("SELECT last_seen_at, expires_at FROM sessions") == before
    assert client.get_as(token).cookies["jwt"].max_age == 259_200


def test_verified_sessions_end(client, token, clock):
    """A session that is only ever verified ends with its first lifetime."""
    for _ in range(2):
        clock.move(129_599)
        assert client.get_as(token, "/verify").status_code == 200

    clock.move(2)

    assert client.get_as(token, "/verify").status_code == 401


def test_head(client, token):
    """HEAD has the same headers, and no body."""
    cookie = {"Cookie": f"jwt={token}"}

    answer = client.simulate_head("/verify", headers=cookie)

    assert (answer.status_code, answer.content) == (200, b"")
    assert (answer.headers["X-Auth-User-Id"], answer.headers["X-Auth-Username"]) == (
        "1",
        USER["username"],
    )
    assert client.simulate_head("/verify").status_code == 401


def test_bearer(client, token):
    """The token counts in the Authorization header too."""
    answer = client.simulate_get("/verify", headers={"Authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.headers["X-Auth-User-Id"]) == (200, "1")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_methods(client, token, method):
    """Other methods are refused: a proxy asks with GET, whatever the client's method."""
    answer = client.simulate_request(method, "/verify", headers={"Cookie": f"jwt={token}"})

    assert answer.status_code == 405


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"Origin": "https://evil.example"}, 403),
        ("POST", {"Sec-Fetch-Site": "same-site", "Origin": "https://other.example.com"}, 403),
        ("POST, GET", {"Origin": "https://evil.example"}, 403),
        ("get", {"Origin": "https://evil.example"}, 403),
        ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "https://app.example.com"}, 200),
        ("POST", {"Origin": "https://app.example.com"}, 200),
        ("POST", {"Sec-Fetch-Site": "same-site", "Origin": "https://www.example.com"}, 200),
        ("POST", {}, 200),
        ("GET", {"Origin": "https://evil.example"}, 200),
        ("", {"Origin": "https://evil.example"}, 200),
    ],
)
def test_methods_that_a_proxy_names(make_client, method, headers, status):
    """A request of another site is refused if the proxy names a method that may change things."""
    client = make_client(allowed_origins="https://www.example.com")
    asked = {"X-Forwarded-Method": method, "Host": "app.example.com", **headers}

    answer = client.get_as(token_of(client.register()), "/verify", headers=asked)

    assert answer.status_code == status
    assert answer.json.get("error") == ("cross_site_request" if status == 403 else None)
    assert ("X-Auth-User-Id" in answer.headers) is (status == 200)
