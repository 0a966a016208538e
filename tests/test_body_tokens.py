"""Tokens in the body, for clients that keep a session's token themselves and use no cookie."""

import logging
import subprocess
import sys
from email.utils import parsedate_to_datetime

import pytest
from conftest import OTHER, USER, request, running, token_of
from emails import NEW, ask, mail_to
from examples import examples
from mailboxes import _make_mailing, token_in  # noqa: F401 - a fixture
from test_cors import APP, STRANGERS
from test_sessions import claims_of

from authapi.answers import Answer
from authapi.features.sign_in import Proof, SignIn
from authapi.features.users import UserRepository

KEEPS = {"Authapi-Token": "body"}
LOGIN = {"usernameOrEmail": USER["username"], "password": USER["password"]}
PASSWORD = {"password": USER["password"]}
OURS = "https://auth.example.com"


def bearer(token, **headers):
    return {**KEEPS, "Authorization": f"Bearer {token}", **headers}


def ask_as(client, token, method="GET", path="/user", body=None, **headers):
    headers = {"Authorization": f"Bearer {token}", **headers}
    return client.simulate_request(method, path, json=body, headers=headers)


@pytest.fixture(name="kept")
def _kept(client):
    """Return the token of a registered user who keeps it."""
    return client.post("/register", USER, headers=KEEPS).json["token"]


def test_sign_in(client):
    """A registration and a login answer with the token, when it expires, and no cookie."""
    answers = [
        client.post("/register", USER, headers=KEEPS),
        client.post("/login", LOGIN, headers=KEEPS),
    ]

    for answer in answers:
        token = answer.json["token"]
        assert "set-cookie" not in answer.headers
        assert "authapi-token" not in answer.headers
        expires_at = parsedate_to_datetime(answer.json["expires_at"]).timestamp()
        assert expires_at == claims_of(token)["exp"] == client.app.core.clock() + 259_200
        assert answer.headers["cache-control"] == "no-store"
        assert ask_as(client, token).json["user"] == answer.json["user"]


def test_over_a_socket(make_app):
    """A client of the server gets its token, and logs out with it."""
    with running(make_app()) as port:
        url = f"http://127.0.0.1:{port}"
        token = request(f"{url}/register", USER, **KEEPS)[1]["token"]
        authorization = {"Authorization": f"Bearer {token}"}

        assert request(f"{url}/user", **authorization)[0] == 200
        assert request(f"{url}/logout", {}, **authorization)[0] == 200
        assert request(f"{url}/user", **authorization)[0] == 401


def test_logout(client, other, token):
    """A logout of a client that keeps the token deletes a cookie only if the request has one."""
    own, both = (
        client.simulate_post("/logout", headers={**bearer(other), **cookie})
        for cookie in ({}, {"Cookie": f"jwt={token}"})
    )

    assert "set-cookie" not in own.headers
    assert (token_of(both), client.get_as(token).status_code) == ("", 401)
    assert ask_as(client, other).status_code == 401


@pytest.mark.sqlite("it is about headers")
@pytest.mark.parametrize("value", [None, "", "Body", "BODY", "cookie", "true", "body, body"])
def test_not_asked(client, value):
    """Without the header, or with another value, the token is in the cookie alone."""
    headers = {} if value is None else {"Authapi-Token": value}

    answer = client.post("/register", USER, headers=headers)

    assert {*answer.json} == {"code", "message", "timestamp", "user"}
    assert "authapi-token" not in answer.headers
    assert ask_as(client, token_of(answer)).status_code == 200


@pytest.fixture(name="service")
def _service(make_client):
    """Return a client of a service on https, with an allowed origin."""
    return make_client(public_url=OURS, allowed_origins=APP)


def test_reading(client, token):
    """A page of our own that sends the header with each request may read all the same."""
    answer = client.get_as(token, headers={**KEEPS, "Sec-Fetch-Site": "same-origin"})

    assert answer.json["message"] == "User."


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin", None])
def test_allowed_origin(service, site):
    """A page of an allowed origin gets a token, and may read it."""
    headers = {**KEEPS, "Origin": APP, **({"Sec-Fetch-Site": site} if site else {})}

    answer = service.post("/register", USER, headers=headers)

    assert (answer.status_code, "token" in answer.json) == (201, True)
    assert answer.headers["access-control-allow-origin"] == APP
    assert "set-cookie" not in answer.headers


def test_own_origin(service, make_client):
    """A page of our own gets no token, unless its origin is an allowed one."""
    headers = {**KEEPS, "Origin": OURS, "Sec-Fetch-Site": "same-origin"}
    listed = make_client(public_url=OURS, allowed_origins=OURS)

    refused, given = (each.post("/register", USER, headers=headers) for each in (service, listed))

    assert (refused.status_code, refused.json["error"]) == (403, "token_not_allowed")
    assert "token" in given.json


@pytest.mark.sqlite("it is about headers")
@pytest.mark.parametrize("site", ["same-origin", "none", "", None])
@pytest.mark.parametrize("origin", [*STRANGERS, f"{APP}.", f"{APP}:443", "file://"])
def test_other_origins(service, origin, site):
    """No other origin gets a token, however it is spelled, and nothing happens before."""
    headers = {**KEEPS, "Origin": origin, **({} if site is None else {"Sec-Fetch-Site": site})}

    answers = [service.post(path, USER, headers=headers) for path in ("/register", "/login")]

    for answer in answers:
        passes = site in {"same-origin", "none"}
        error = "token_not_allowed" if passes else "cross_site_request"
        assert (answer.status_code, answer.json["error"]) == (403, error)
        assert "set-cookie" not in answer.headers
    assert service.events() == []


@pytest.mark.sqlite("it is about headers")
@pytest.mark.parametrize("site", ["same-origin", "none", "same-origin, same-origin", ""])
def test_browser_without_an_origin(service, site):
    """A browser that does not say its origin gets no token."""
    answer = service.post("/register", USER, headers={**KEEPS, "Sec-Fetch-Site": site})

    assert answer.status_code == 403
    assert service.events() == []


def test_programs_with_fetch(service):
    """A program whose `fetch` says its mode, as that of Node does, gets a token."""
    answer = service.post("/register", USER, headers={**KEEPS, "Sec-Fetch-Mode": "cors"})

    assert "token" in answer.json


def test_a_form(service):
    """A form of another site, which can send no header of its own, gets no token."""
    answer = service.simulate_post(
        "/login",
        body='{"usernameOrEmail":"a","password":"b"}',
        headers={"Content-Type": "text/plain", "Origin": "https://evil.example"},
    )

    assert (answer.status_code, answer.json["error"]) == (403, "cross_site_request")


def test_refusals_are_logged(service, caplog):
    """The operator reads which page asked for a token, and which setting allows it."""
    caplog.set_level(logging.INFO)
    origin = "https://app.example.net"
    headers = {**KEEPS, "Origin": origin, "Sec-Fetch-Site": "same-origin"}

    service.post("/login", LOGIN, headers=headers)

    (line,) = [each for each in caplog.messages if "token_not_allowed" in each]
    assert line.endswith(f"origin={origin!r} site='same-origin' setting=AUTHAPI_ALLOWED_ORIGINS")


@pytest.mark.parametrize("origin", [OURS, "http://auth.example.com", "https://localhost"])
def test_refusals_of_own_pages_are_logged(service, caplog, origin):
    """For a page of the service itself, the log names no setting: it is to use the cookie."""
    caplog.set_level(logging.INFO)
    host = origin.partition("//")[2]
    headers = {**KEEPS, "Origin": origin, "Host": host, "Sec-Fetch-Site": "same-origin"}

    service.post("/login", LOGIN, headers=headers)

    (line,) = [each for each in caplog.messages if "token_not_allowed" in each]
    assert line.endswith(f" origin={origin!r} site='same-origin'")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/sessions/reauthenticate", PASSWORD),
        (
            "PUT",
            "/user/password",
            {"current_password": USER["password"], "new_password": "n3w-pa$$w0rd"},
        ),
        ("PATCH", "/user", {"username": "another"}),
    ],
)
class TestInASession:
    """Routes that give the current session another token."""

    def test_bearer(self, client, kept, method, path, body):
        """A bearer who asks gets the token in the body and the header, and no cookie."""
        answer = ask_as(client, kept, method, path, body, **KEEPS)

        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
        assert answer.headers["authapi-token"] == answer.json["token"]
        assert ask_as(client, answer.json["token"]).json["user"] == answer.json["user"]

    def test_bearer_that_does_not_ask(self, client, kept, method, path, body):
        """A bearer who does not ask gets it in a header, and in the cookie as before."""
        answer = ask_as(client, kept, method, path, body)

        assert "token" not in answer.json
        assert answer.headers["authapi-token"] == token_of(answer)
        assert ask_as(client, token_of(answer)).status_code == 200

    def test_cookie(self, make_client, method, path, body):
        """SECURITY: a script cannot move a session out of the cookie, which it cannot read."""
        client = make_client(allowed_origins=APP)
        token = token_of(client.register())

        answer = client.request_as(token, method, path, body, {**KEEPS, "Origin": APP})

        assert answer.status_code == 200
        assert "authapi-token" not in answer.headers
        assert token_of(answer) not in answer.text
        assert "token" not in answer.json


def test_email_change(make_mailing):
    """A bearer who confirms another email gets the token in the body."""
    client = make_mailing()
    cookie = token_of(client.register())
    ask(client, cookie)
    proof = {"token": token_in(mail_to(client, NEW))}

    answer = ask_as(client, cookie, "POST", "/user/email/confirm", proof, **KEEPS)

    assert "set-cookie" not in answer.headers
    assert ask_as(client, answer.json["token"]).json["user"]["email"] == NEW


def test_renewal(client, kept, clock):
    """A bearer whose token is old gets a newer one in a header, and no cookie if it keeps it."""
    clock.move(3_599)
    assert "authapi-token" not in ask_as(client, kept, **KEEPS).headers
    clock.move(1)

    quiet, plain = ask_as(client, kept, **KEEPS), ask_as(client, kept)

    newer = quiet.headers["authapi-token"]
    assert newer == plain.headers["authapi-token"] == token_of(plain)
    assert "set-cookie" not in quiet.headers
    assert "token" not in quiet.json
    assert claims_of(newer)["exp"] == clock.now + 259_200
    assert ask_as(client, newer).status_code == 200


def test_renewal_and_a_new_token(client, kept, clock):
    """An answer that renews the session and has another token gives the last one alone."""
    clock.move(3_600)

    answer = ask_as(client, kept, "POST", "/sessions/reauthenticate", PASSWORD, **KEEPS)

    assert "set-cookie" not in answer.headers
    assert answer.headers["authapi-token"] == answer.json["token"]
    assert ask_as(client, answer.json["token"]).status_code == 200


def test_renewal_of_a_failure(client, kept, clock):
    """A failure that is not about the session brings the newer token too."""
    clock.move(3_600)

    answer = ask_as(client, kept, "PUT", "/user/password", {}, **KEEPS)

    assert answer.status_code == 422
    assert ask_as(client, answer.headers["authapi-token"]).status_code == 200


def test_renewal_of_a_cookie(client, token, clock):
    """SECURITY: a session in the cookie is renewed there, whatever its client asks for."""
    clock.move(3_600)

    answer = client.get_as(token, headers=KEEPS)

    assert "authapi-token" not in answer.headers
    assert token_of(answer) not in answer.text


def test_an_expired_bearer(client, token, clock):
    """SECURITY: an expired token of a session does not bring out the one in the cookie."""
    clock.move(200_000)
    newer = token_of(client.get_as(token))
    clock.move(100_000)
    headers = {"Cookie": f"jwt={newer}", **bearer(token)}

    renewed = client.simulate_get("/user", headers=headers)
    rotated = client.simulate_post("/sessions/reauthenticate", json=PASSWORD, headers=headers)

    assert (renewed.status_code, rotated.status_code) == (200, 200)
    for answer in (renewed, rotated):
        assert "authapi-token" not in answer.headers
        assert token_of(answer) not in answer.text


def test_a_login_with_a_bearer(client, kept):
    """SECURITY: a login's token goes into the cookie, whatever bearer its client has."""
    answer = client.post("/login", LOGIN, headers={"Authorization": f"Bearer {kept}"})

    assert "authapi-token" not in answer.headers
    assert "token" not in answer.json
    assert token_of(answer) != kept


def test_a_bearer_of_another(client, token, other):
    """SECURITY: a bearer of one's own beside another's cookie brings out no token."""
    headers = {"Cookie": f"jwt={token}", **bearer(other)}

    answer = client.simulate_post("/sessions/reauthenticate", json=PASSWORD, headers=headers)

    assert answer.status_code == 401
    assert "authapi-token" not in answer.headers


def test_the_cookie_of_a_sign_in(client, token):
    """The session of a cookie ends at a sign-in with a token, as at any other."""
    answer = client.post("/login", LOGIN, headers={**KEEPS, "Cookie": f"jwt={token}"})

    assert client.get_as(token).status_code == 401
    assert ask_as(client, answer.json["token"]).status_code == 200


def test_an_answer_without_room(client, kept):
    """A sign-in of an application whose answer takes no token gives it in the cookie."""

    class DoorResource:
        public = True

        def on_post(self, req, resp):
            core = client.app.core
            credential = core.of(UserRepository).by_identifier(USER["username"])
            proof = Proof(credential=credential, methods=frozenset({"door"}))
            core.of(SignIn).finish(req, resp, lambda: proof, of=credential.user.id)
            core.wire.answer(resp, Answer(message="Come in."))

    client.app.add_route("/door", DoorResource())

    answer = client.post("/door", headers=KEEPS)

    assert "token" not in answer.json
    assert client.get_as(token_of(answer)).status_code == 200


def test_preflight(service):
    """A page of an allowed origin may ask for a token, and read the header."""
    headers = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authapi-token,content-type",
    }

    preflight = service.simulate_options("/login", headers=headers)
    answer = service.simulate_get("/user", headers={"Origin": APP})

    assert "Authapi-Token, " in preflight.headers["access-control-allow-headers"]
    assert "Authapi-Token, " in answer.headers["access-control-expose-headers"]


def test_nothing_is_logged(client, caplog, clock):
    """SECURITY: neither the log nor the audit log holds a token."""
    caplog.set_level(logging.DEBUG)
    kept = client.post("/register", USER, headers=KEEPS).json["token"]
    clock.move(3_600)
    tokens = [kept, ask_as(client, kept, **KEEPS).headers["authapi-token"]]
    tokens.append(
        ask_as(client, kept, "POST", "/sessions/reauthenticate", PASSWORD, **KEEPS).json["token"]
    )
    client.post("/login", OTHER, headers={**KEEPS, "Origin": "null", "Sec-Fetch-Site": "none"})

    assert "registered" in caplog.text
    rows = client.query("SELECT * FROM audit_log")
    for token in tokens:
        for secret in (token, claims_of(token)["sid"]):
            assert secret not in caplog.text
            assert secret not in str(rows)


@pytest.mark.sqlite("a program knows nothing of the engine")
def test_the_example(client, clock, tmp_path):
    """The page's program keeps the token, also a newer one, and logs in again after the end."""
    client.register()
    with running(client.app) as port:
        code = examples("features/tokens")["whoami.py"].replace(":3001", f":{port}")
        (tmp_path / "whoami.py").write_text(code)

        def shown(*arguments):
            command = [sys.executable, "whoami.py", *arguments]
            told = subprocess.check_output(command, cwd=tmp_path, text=True).strip()
            return told, (tmp_path / "token").read_text()

        assert shown() == ("You need to be authenticated.", "")
        told, kept = shown(*LOGIN.values())
        assert (told, shown()) == ("User.", ("User.", kept))
        assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
        clock.move(3_600)
        told, newer = shown()
        assert (told, newer != kept) == ("User.", True)
        clock.move(300_000)
        assert shown() == ("Invalid token or it has expired.", newer)
        assert shown(*LOGIN.values())[0] == "User."
