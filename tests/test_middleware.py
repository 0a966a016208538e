"""The middleware: deny by default, the cross-site check, the headers of every response."""

import re

import pytest
from conftest import Client, attributes_of, deletes_cookie, token_of
from falcon import inspect

from authapi import Failure, fresh, principal_of

SAFE_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": (
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; sandbox"
    ),
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Notes:
    """A resource of an application's own, which says nothing about who may reach it."""

    def on_get(self, req, resp):
        resp.media = {"owner": req.context.user.username}

    def on_post(self, req, resp):
        del req
        resp.media = {}


class Open(Notes):
    public = True

    def on_get(self, req, resp):
        resp.media = {"user": hasattr(req.context, "user")}


class NearlyOpen(Notes):
    public = 1


def test_deny_by_default(client, token):
    """A resource is protected unless it says `public = True`, and finds the user when reached."""
    client.app.add_route("/notes", Notes())
    client.app.add_route("/nearly", NearlyOpen())

    for path in ("/notes", "/nearly"):
        answer = client.simulate_get(path)
        assert (answer.status_code, answer.json["error"]) == (401, "not_authenticated")
        assert answer.json["message"] == "You need to be authenticated."
    assert client.get_as(token, "/notes").json == {"owner": "crispengari"}
    assert client.post("/notes").status_code == 401


def test_public(client, token):
    """A public resource is reached by all, and is given no user."""
    client.app.add_route("/open", Open())

    assert client.simulate_get("/open").json == {"user": False}
    assert client.get_as(token, "/open").json == {"user": False}
    assert client.get_as("garbage", "/open").json == {"user": False}


class Suffixed:
    def on_get_one(self, req, resp):
        resp.media = {"owner": req.context.user.username}


class CatchAll:
    def on_request(self, req, resp):
        resp.media = {"owner": req.context.user.username}


def test_no_way_around(client):
    """Suffixed and catch-all responders are no way around, with any method."""
    client.app.router_options.default_to_on_request = True
    client.app.add_route("/one", Suffixed(), suffix="one")
    client.app.add_route("/any", CatchAll())

    assert client.simulate_get("/one").status_code == 401
    assert client.simulate_head("/one").status_code == 401
    for method in ("GET", "POST", "DELETE", "PATCH"):
        assert client.simulate_request(method, "/any").status_code == 401


class Falsy(Notes):
    def __len__(self):
        return 0


class Untrue(Notes):
    def __bool__(self):
        return False


@pytest.mark.parametrize("resource", [Falsy(), Untrue()])
def test_falsy_resources_are_refused(client, resource):
    """Falcon would skip authentication before a resource that is falsy."""
    with pytest.raises(TypeError, match="__bool__"):
        client.app.add_route("/falsy", resource)


def test_sinks_are_refused(client):
    """Falcon would skip authentication before a sink or a static route."""
    with pytest.raises(TypeError, match="add_route"):
        client.app.add_sink(lambda *_: None)
    with pytest.raises(TypeError, match="add_route"):
        client.app.add_static_route("/files", "/")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", "GET, HEAD"),
        ("/user", "DELETE, GET, HEAD, PATCH"),
        ("/user/password", "PUT"),
        ("/user/activity", "GET, HEAD"),
        ("/sessions", "DELETE, GET, HEAD"),
        ("/sessions/1", "DELETE"),
        ("/sessions/reauthenticate", "POST"),
        ("/verify", "GET, HEAD"),
        ("/login", "POST"),
        ("/register", "POST"),
        ("/logout", "POST"),
    ],
)
def test_options(client, path, methods):
    """OPTIONS lists the methods, to everyone."""
    answer = client.simulate_options(path)

    assert (answer.status_code, answer.text) == (200, "")
    assert methods == answer.headers["allow"]


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


OURS = "https://auth.example.com"


@pytest.fixture(name="https_client")
def _https_client(make_client):
    return make_client(public_url=OURS)


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Sec-Fetch-Site": "Same-Origin"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": OURS}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, True),
        ({"Origin": OURS}, True),
        ({"Origin": "https://behind.proxy", "Host": "behind.proxy"}, True),
        ({"Origin": "https://behind.proxy:8443", "Host": "behind.proxy:8443"}, True),
        ({"Origin": "http://auth.example.com", "Host": "auth.example.com"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "https://auth.example.com.evil.example"}, False),
        ({"Origin": "https://evil-auth.example.com"}, False),
        ({"Origin": "https://sub.auth.example.com"}, False),
        ({"Origin": "https://auth.example.com:444"}, False),
        ({"Origin": "https://AUTH.example.com"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": f"{OURS}, https://evil.example"}, False),
        ({"Origin": f"{OURS}, {OURS}"}, False),
        ({"Sec-Fetch-Site": "same-origin, same-origin"}, False),
        ({"Sec-Fetch-Site": "same-origin, cross-site"}, False),
        # a Host may have any case and a default port (RFC 3986, 6.2.2.1 and 6.2.3)
        ({"Origin": "https://behind.proxy", "Host": "behind.proxy:443"}, True),
        ({"Origin": "https://behind.proxy", "Host": "Behind.Proxy"}, True),
        ({"Origin": "https://[2001:db8::1]", "Host": "[2001:DB8:0::1]:443"}, True),
        ({"Origin": "https://behind.proxy", "Host": "behind.proxy:80"}, False),
        ({"Origin": "https://behind.proxy", "Host": "behind.proxy."}, False),
        ({"Origin": "https://behind.proxy", "Host": "behind.proxy, behind.proxy"}, False),
        ({"Origin": "https://behind.proxy", "Host": "x@behind.proxy"}, False),
        ({"Origin": "wss://behind.proxy", "Host": "behind.proxy"}, False),
        ({"Origin": "https://", "Host": ""}, False),
        ({"Origin": "null", "Host": "null"}, False),
    ],
)
@pytest.mark.parametrize("path", ["/login", "/register", "/logout"])
def test_cross_site(https_client, headers, passes, path):
    """Requests of other sites that would change something are refused, before anything happens."""
    answer = https_client.simulate_post(path, headers=headers)

    assert (answer.status_code == 403) is not passes
    if not passes:
        assert answer.json["error"] == "cross_site_request"
        assert not answer.cookies


def test_same_host_over_http(client):
    """Where the public URL is http, both schemes of the request's own host are ours."""
    for origin in ("http://localhost:8080", "https://localhost:8080"):
        headers = {"Origin": origin, "Host": "localhost:8080"}
        assert client.simulate_post("/logout", headers=headers).status_code == 200
    assert (
        client.simulate_post("/logout", headers={"Origin": "http://127.0.0.1:3001"}).status_code
        == 200
    )


def test_cross_site_reading(client, token):
    """What changes nothing may come from anywhere: a link to us must work."""
    answer = client.simulate_get(
        "/user", headers={"Cookie": f"jwt={token}", "Sec-Fetch-Site": "cross-site"}
    )

    assert answer.status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_cross_site_methods(client, method):
    """Every method that could change something is checked, on every path."""
    headers = {"Sec-Fetch-Site": "cross-site"}

    for path in ("/user", "/nowhere"):
        assert client.simulate_request(method, path, headers=headers).status_code == 403


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


class Delegating:
    """A resource that finds its responders where `dir` does not look."""

    def __getattr__(self, name):
        return getattr(Notes(), name)


class HeadOnly:
    def on_head(self, req, resp):
        resp.set_header("X-Secret", "open")


class Nothing:
    pass


class FreshHeadOnly(HeadOnly):
    needs = (fresh,)


class Optional(HeadOnly):
    def on_options(self, req, resp):
        resp.set_header("X-Secret", "open")


@pytest.mark.parametrize(
    ("resource", "methods"),
    [
        (Delegating(), ["GET", "HEAD", "POST"]),
        (HeadOnly(), ["HEAD"]),
        (FreshHeadOnly(), ["HEAD"]),
        (Optional(), ["HEAD"]),
        (Nothing(), []),
    ],
)
def test_odd_resources_are_protected(client, resource, methods):
    """However a resource has its responders, nobody without a session reaches one."""
    client.app.add_route("/odd", resource)

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        answer = client.simulate_request(method, "/odd")
        assert answer.status_code == (401 if method in methods else 405)
        assert answer.headers.get("allow", "") == (
            "" if method in methods else ", ".join([*methods, "OPTIONS"])
        )
        assert "x-secret" not in answer.headers


class Contradictory(Notes):
    public = True
    needs = (fresh,)


def test_public_and_needs_contradict(client):
    """A resource that says both is refused: it would be open to everyone."""
    with pytest.raises(TypeError, match="cannot be public and have needs"):
        client.app.add_route("/vault", Contradictory())


@pytest.mark.parametrize(
    "attributes", [{"fresh": True}, {"needs": fresh}, {"needs": ("fresh",)}, {"needs": 1}]
)
def test_needs_that_are_none(client, attributes):
    """A resource whose needs are misspelled is refused: it would be open to every session."""
    with pytest.raises(TypeError, match=r"Vault: write `needs = \(fresh,\)`"):
        client.app.add_route("/vault", type("Vault", (Notes,), attributes)())


class NotYou(Failure):
    status, error, message = 403, "not_you", "Not you."


def odd(principal, now):
    """A need of an application's own."""
    if principal.user.id % 2 == 0 or now != principal.claims.iat:
        raise NotYou


class Odd(Notes):
    needs = (fresh, odd)


def test_a_need_of_ones_own(client):
    """Each need is asked, with the principal and the time, before the resource."""
    client.app.add_route("/odd", Odd())
    tokens = [
        token_of(client.register(username=f"user{number}", email=f"user{number}@example.com"))
        for number in (1, 2)
    ]

    assert [client.get_as(token, "/odd").status_code for token in tokens] == [200, 403]
    assert client.get_as(tokens[1], "/odd").json["error"] == "not_you"


class Asking:
    public = True

    def on_get(self, req, resp):
        principal_of(req)


def test_nobody_is_the_principal_of_a_public_resource(client):
    """A public resource that asks who sends the request has a mistake, and fails."""
    client.app.add_route("/asking", Asking())

    assert client.simulate_get("/asking").status_code == 500


class NeverRenewed(Notes):
    renews = False


def test_renews_nothing(client, token, clock):
    """The answer of a resource with `renews = False` renews no session."""
    client.app.add_route("/never", NeverRenewed())
    clock.move(3_600)

    assert "set-cookie" not in client.get_as(token, "/never").headers
    assert "set-cookie" in client.get_as(token, "/user").headers


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
