"""The middleware: headers, request ids, bearer tokens, and what the log says of a request."""

import re

import pytest
from conftest import Client, attributes_of, deletes_cookie, token_of
from embedding import SAFE_HEADERS
from falcon import inspect


@pytest.fixture(name="https_client")
def _https_client(make_client):
    return make_client(public_url="https://auth.example.com")


def test_bearer(client, token):
    """The token may come as `Authorization: Bearer`, whatever the case of the scheme."""
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = client.simulate_get("/user", headers={"Authorization": f"{scheme} {token}"})
        assert answer.status_code == 200


@pytest.mark.parametrize("authorization", ["Bearer", "Bearer ", "Bearer x", "Bearer  x y"])
def test_bad_bearer(client, authorization):
    """A bearer token that is none is a bad token, not a missing one."""
    answer = client.simulate_get("/user", headers={"Authorization": authorization})

    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("authorization", ["", "Basic dTpw", "Digest x", "bearertoken"])
def test_other_authorization(client, token, authorization):
    """Another scheme is somebody else's business."""
    answer = client.simulate_get("/user", headers={"Authorization": authorization})
    assert (answer.status_code, answer.json["error"]) == (401, "not_authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"

    headers = {"Authorization": authorization, "Cookie": f"jwt={token}"}
    assert client.simulate_get("/user", headers=headers).status_code == 200


def test_other_cookies(client, token):
    """Cookies of other names are no tokens, and do not disturb ours."""
    for cookie in (f"JWT={token}", f"jwt2={token}", f"__Host-jwt={token}", f"xjwt={token}"):
        answer = client.simulate_get("/user", headers={"Cookie": cookie})
        assert answer.json["error"] == "not_authenticated"
    headers = {"Cookie": f"a=b; jwt={token}; c={token}"}
    assert client.simulate_get("/user", headers=headers).status_code == 200


def answers_of_every_kind(client):
    client.app.add_route("/broken", Broken())
    return [
        client.register(),
        client.register(),
        client.log_in(),
        client.log_in("nobody"),
        client.simulate_get("/user"),
        client.simulate_get("/nowhere"),
        client.simulate_delete("/user"),
        client.simulate_options("/user"),
        client.simulate_post("/login", body="x"),
        client.post("/login", {}),
        client.simulate_get("/broken"),
        client.simulate_post("/login", headers={"Origin": "null"}),
        client.post("/logout"),
    ]


class Broken:
    public = True

    def on_get(self, req, resp):
        raise RuntimeError("password hash and SQL")


def test_headers_of_every_response(client):
    """Successes and failures of every kind carry our headers; there is no HSTS over http."""
    for answer in answers_of_every_kind(client):
        assert {name: answer.headers[name] for name in SAFE_HEADERS} == SAFE_HEADERS
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])
        assert "strict-transport-security" not in answer.headers
        assert "server" not in answer.headers


def test_https(https_client):
    """Https turns on HSTS on every response, Secure, and the name __Host-jwt."""
    hsts = "max-age=31536000; includeSubDomains"
    assert {hsts} == {
        answer.headers["strict-transport-security"]
        for answer in answers_of_every_kind(https_client)
    }

    login = https_client.log_in()
    token = token_of(login)
    assert attributes_of(login, "__Host-jwt") == (259_200, "/", None, True, "Lax", True)
    assert attributes_of(login, "__Host-device") == (31_536_000, "/", None, True, "Lax", True)
    by_name = https_client.simulate_get("/user", headers={"Cookie": f"__Host-jwt={token}"})
    assert by_name.status_code == 200
    assert https_client.get_as(token).json["error"] == "not_authenticated"
    assert deletes_cookie(https_client.post("/logout"), "__Host-jwt", secure="")


def test_cookie_settings(make_client):
    """Name and domain of the cookie are settings, and a deletion has them too."""
    client = make_client(
        public_url="https://auth.example.com",
        cookie_name="__Secure-sid",
        cookie_domain="example.com",
    )

    answer = client.register()

    of_session = attributes_of(answer, "__Secure-sid")
    assert of_session == (259_200, "/", "example.com", True, "Lax", True)
    of_device = attributes_of(answer, "__Host-device")
    assert of_device == (31_536_000, "/", None, True, "Lax", True)
    assert deletes_cookie(client.post("/logout"), "__Secure-sid", secure="", domain="example.com")


def test_request_ids_differ(client):
    """Each request has an id of its own; one that the client sends is not taken over."""
    ids = {
        client.simulate_get("/user", headers={"X-Request-ID": "mine"}).headers["x-request-id"]
        for _ in range(10)
    }

    assert len(ids - {"mine"}) == 10


def test_forwarded_headers_change_nothing(client, caplog):
    """The peer's address is the socket's, whatever the headers say."""
    caplog.set_level("INFO")
    client.simulate_post(
        "/login",
        json={"usernameOrEmail": "nobody", "password": "x"},
        headers={"X-Real-IP": "6.6.6.6", "X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"},
        extras={"REMOTE_ADDR": "127.0.0.1"},
    )

    (line,) = [text for text in caplog.messages if text.startswith("login_failed ")]
    assert re.fullmatch("login_failed user_id=- reason=unknown_name ip=127.0.0.1 .*", line)


def test_internal_error(client, caplog):
    """Our own fault tells the client nothing but a request id, which finds the cause in the log."""
    client.app.add_route("/broken", Broken())

    answer = client.simulate_get("/broken")

    assert (
        answer.status_code,
        answer.json["message"],
        answer.json["error"],
    ) == (500, "Internal server error.", "internal_error")
    assert "SQL" not in answer.text
    (record,) = caplog.records
    assert answer.headers["x-request-id"] in record.getMessage()
    assert "password hash and SQL" in record.exc_text or str(record.exc_info[1])


def test_two_applications_in_one_process(make_app, tmp_path):
    """Applications share nothing but what their settings share."""
    one = Client(make_app())
    other = Client(make_app(database_url=f"sqlite:///{tmp_path}/other.db"))

    token = one.register().cookies["jwt"].value

    assert other.get_as(token).status_code == 401


def test_the_log_finds_a_failure(client, caplog):
    """Each failure has a debug line under its request id, and a warning where there is a cause."""
    caplog.set_level("DEBUG", "authapi")

    answer = client.simulate_get("/user")
    client.app.core.database.lock_timeout = 0
    with client.app.core.database.writer_lock.hold(0):
        unavailable = client.register()

    first, second = caplog.records[0], caplog.records[-1]
    assert answer.headers["x-request-id"] in first.getMessage()
    assert (first.levelname, second.levelname) == ("DEBUG", "WARNING")
    assert unavailable.headers["x-request-id"] in second.getMessage()
    assert "503 unavailable other threads kept on writing" in second.getMessage()


def test_inspection(client):
    """Falcon's inspection, as `falcon-inspect-app` does it, lists our routes and their methods."""
    routes = {route.path: route for route in inspect.inspect_app(client.app).routes}

    assert {"/", "/login", "/sessions/{session_id}"} <= set(routes)
    methods = {method.method for method in routes["/user"].methods if not method.internal}
    assert {"GET", "HEAD", "PATCH", "DELETE"} == methods


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("fe80::7%eth0", "fe80::7%eth0"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_address_of_the_peer(client, peer, shown):
    """The list of sessions has one text for an address, whatever a server calls its peer."""
    body = {"username": "a", "email": "a@example.com", "password": "correct horse"}
    token = token_of(client.post("/register", body, remote_addr=peer))

    assert [shown] == [session["ip"] for session in client.sessions_of(token)]


@pytest.mark.parametrize("place", ["cookie", "bearer"])
def test_forged_tokens_are_logged(client, token, caplog, place):
    """A token that none of our keys signed leaves one line a minute, with the client's network."""
    caplog.set_level("INFO", "authapi.refusals")
    forged = f"{token[:-4]}AAAA"
    headers = {"Cookie": f"jwt={forged}", "Authorization": f"Bearer {forged}"}
    sent = {"Cookie": headers["Cookie"]} if place == "cookie" else headers

    for _ in range(3):
        answer = client.simulate_get("/user", headers=sent, remote_addr="192.0.2.7")
        assert answer.status_code == 401

    assert [line.strip() for line in caplog.messages] == [
        "refused error=invalid_token forged network=192.0.2.7"
    ]


def test_what_is_no_forgery_is_not_logged(client, token, caplog, clock):
    """A session that has ended, and a bearer token of another service, leave no line."""
    caplog.set_level("INFO", "authapi.refusals")
    client.simulate_get("/user", headers={"Authorization": "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln"})
    clock.move(259_200)
    assert client.get_as(token).status_code == 401
    client.simulate_get("/user", headers={"Cookie": "jwt="})

    assert caplog.messages == []
