"""Every answer has the same headers, whichever part of the service gives it."""

import re
from email import message_from_bytes

import falcon
import pytest
from conftest import CHEAP, Clock, connected, exchange, running
from falcon import testing

from authapi import AuthAPI, Settings, mount, protect
from authapi.cookies import Cookie
from authapi.errors import NotFound
from authapi.passwords.hash_lane import Lane
from authapi.server.bounds import Bounds

APP, STRANGER = "https://app.example.com", "https://evil.example"
PUBLIC_URL = "https://auth.example.com"
ALWAYS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": (
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; sandbox"
    ),
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "vary": "Origin",
}
READABLE = {
    "access-control-allow-origin": APP,
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "Authapi-Token, RateLimit, RateLimit-Policy, "
    "Retry-After, X-Request-ID",
}
OF_ITS_OWN = {  # headers that an answer may have besides
    "allow",
    "connection",
    "content-length",
    "content-type",
    "date",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "set-cookie",
    "www-authenticate",
    "x-request-id",
}


def headers_of(received, status):
    """Return the headers of the one answer in these bytes, by name in lower case."""
    line, _, rest = received.partition(b"\r\n")
    assert line.startswith(b"HTTP/1.1 %d " % status), received[:200]
    message = message_from_bytes(rest)
    assert len({name.lower() for name in message}) == len(message)
    return {name.lower(): value for name, value in message.items()}


def assert_headers(headers, origin):
    assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])
    shown = {name: value for name, value in headers.items() if name not in OF_ITS_OWN}
    assert {**ALWAYS, **(READABLE if origin == APP else {})} == shown


class Broken:
    public = True

    def on_get(self, _req, _resp):
        raise MemoryError


JSON = b"Content-Type: application/json\r\n"
LOGIN = b'{"usernameOrEmail": "nobody", "password": "wrong"}'


def request(method, path, *fields, body=b""):
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    head = b"%s %s HTTP/1.1\r\nHost: x\r\n" % (method, path)
    return head + b"".join(fields) + length + b"Connection: close\r\n@\r\n" + body


ANSWERS = {
    "200": (200, request(b"OPTIONS", b"/user")),
    "400 http": (400, request(b"GET", b"/user", b"Host: y\r\n")),
    "400 fold": (400, request(b"GET", b"/user", b"X: y\r\n z\r\n")),
    "414": (414, request(b"GET", b"/" + b"a" * 5_000)),
    "431 size": (431, request(b"GET", b"/user", b"X: " + b"x" * 17_000 + b"\r\n")),
    "501": (501, request(b"POST", b"/login", JSON, b"Transfer-Encoding: gzip\r\n")),
    "400 json": (400, request(b"POST", b"/login", JSON, body=b"{")),
    "400 proxy": (400, request(b"GET", b"/user", b"X-Forwarded-For: unknown\r\n")),
    "401": (401, request(b"GET", b"/user")),
    "401 login": (401, request(b"POST", b"/login", JSON, body=LOGIN)),
    "401 head": (401, request(b"HEAD", b"/user")),
    "403 https": (403, request(b"GET", b"/user", b"X-Forwarded-Proto: http\r\n")),
    "404": (404, request(b"GET", b"/nowhere")),
    "405": (405, request(b"DELETE", b"/login")),
    "413 length": (413, request(b"POST", b"/login", JSON, body=b"x" * 70_000)),
    "413 chunks": (
        413,
        request(b"POST", b"/login", JSON, b"Transfer-Encoding: chunked\r\n")
        + b"11170\r\n"
        + b"x" * 70_000,
    ),
    "415": (415, request(b"POST", b"/login", body=LOGIN)),
    "422": (422, request(b"POST", b"/login", JSON, body=b"{}")),
    "500": (500, request(b"GET", b"/broken")),
}


@pytest.fixture(name="app")
def _app(make_app):
    app = make_app(allowed_origins=APP, public_url=PUBLIC_URL, trusted_proxy="127.0.0.1")
    app.add_route("/broken", Broken())
    return app


def asked_by(message, origin):
    """Add an Origin to a message that has a place for one."""
    return message.replace(b"@", b"Origin: %s\r\n" % origin.encode(), 1)


@pytest.mark.parametrize("origin", [APP, STRANGER])
@pytest.mark.parametrize("answer", ANSWERS)
def test_answers(app, answer, origin):
    """A success, each failure and each refusal of the server have the headers of all answers."""
    status, message = ANSWERS[answer]
    if origin == STRANGER:  # it would be refused for that
        message = message.replace(b"@", b"Sec-Fetch-Site: same-origin\r\n@", 1)
    with running(app) as port:
        received = exchange(port, asked_by(message, origin))

    assert_headers(headers_of(received, status), origin)


def test_a_cross_site_request(app):
    """A page that is refused cannot read why."""
    with running(app) as port:
        received = exchange(port, asked_by(request(b"POST", b"/logout"), STRANGER))

    assert_headers(headers_of(received, 403), STRANGER)


BODY = b'{"username": "a", "email": "a@b.example", "password": "correct horse"}'


def test_a_client_over_a_limit(make_app):
    """So has the answer to a client that is over a limit."""
    app = make_app(allowed_origins=APP, public_url=PUBLIC_URL, registration_limit="1/hour")
    message = asked_by(request(b"POST", b"/register", JSON, body=BODY), APP)
    with running(app) as port:
        exchange(port, message)
        received = exchange(port, message)

    assert_headers(headers_of(received, 429), APP)


def test_a_full_lane(app, monkeypatch):
    """So has the answer to a login that finds all places taken."""
    monkeypatch.setattr(Lane, "is_full", True)
    with running(app) as port:
        received = exchange(port, asked_by(request(b"POST", b"/register", JSON, body=BODY), APP))

    assert_headers(headers_of(received, 503), APP)


@pytest.mark.parametrize(
    "line", [b"Origin: %s\r\nOrigin: %s\r\n", b"Origin: %s\xa0\r\n", b"X-Origin: %s\r\n"]
)
@pytest.mark.parametrize("answer", ["401", "400 http", "413 length", "431 size"])
def test_an_origin_that_is_none(app, answer, line):
    """Two origins are none, and neither is what only looks like one, whoever answers."""
    status, message = ANSWERS[answer]
    line = line.replace(b"%s", APP.encode())
    message = message.replace(b"@", b"Sec-Fetch-Site: same-origin\r\n" + line, 1)
    with running(app) as port:
        received = exchange(port, message)

    assert_headers(headers_of(received, status), None)


@pytest.mark.parametrize("origin", [APP, STRANGER])
def test_an_application_that_falls(app, origin, monkeypatch):
    """So has the answer of the server when the application itself falls; HEAD has no body."""

    def broken(_app, _environ, _start_response):
        raise MemoryError

    monkeypatch.setattr(AuthAPI, "__call__", broken)
    with running(app) as port:
        received = exchange(port, asked_by(request(b"GET", b"/user"), origin))
        head = exchange(port, asked_by(request(b"HEAD", b"/user"), origin))

    assert_headers(headers_of(received, 500), origin)
    assert_headers(headers_of(head, 500), origin)
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("origin", [APP, STRANGER])
@pytest.mark.parametrize("missing", [1, 3])
def test_a_request_that_does_not_arrive(app, origin, missing):
    """So has the answer to a request whose body does not come, or the end of whose header."""
    message = asked_by(request(b"POST", b"/login", JSON, body=b"{"), origin)[:-missing]
    monotonic = Clock()
    with running(app, clock=monotonic) as port, connected(port) as slow:
        slow.sendall(message)
        exchange(port, request(b"GET", b"/user").replace(b"@", b"", 1))
        monotonic.move(Bounds().request + 1)
        received = b""
        while chunk := slow.recv(65_536):
            received += chunk

    assert_headers(headers_of(received, 408), origin)


class Page:
    def on_get(self, _req, resp):
        resp.text = "a page of the host's own"


@pytest.fixture(name="settings")
def _settings(tmp_path):
    url = f"sqlite:///{tmp_path}/authapi.db"
    return Settings(database_url=url, allowed_origins=APP, public_url=PUBLIC_URL, **CHEAP)


@pytest.mark.parametrize("origin", [APP, STRANGER])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/page", 401),
        ("GET", "/auth/user", 401),
        ("GET", "/auth/nowhere", 404),
        ("OPTIONS", "/auth/user", 200),
    ],
)
def test_mount(settings, method, path, status, origin):
    """In a Falcon application, so have our routes, and the refusals on its own ones."""
    host = falcon.App()
    auth = mount(host, settings)
    host.add_route("/page", Page())

    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    answer = falcon.testing.simulate_request(host, method, path, headers=headers)

    auth.close()
    assert answer.status_code == status
    assert_headers(answer.headers, origin)


@pytest.mark.parametrize("origin", [APP, STRANGER])
@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Cookie": "__Host-jwt=x"}, 401), ({"Sec-Fetch-Site": "cross-site"}, 403)],
)
def test_protect(settings, headers, status, origin):
    """Around any application, so have the refusals."""
    protected = protect(lambda *_: [], settings, required=True)
    method = "POST" if status == 403 and origin == STRANGER else "GET"

    headers = {"Origin": origin, **headers}
    answer = falcon.testing.simulate_request(protected, method, "/", headers=headers)

    protected.close()
    assert answer.status_code == (status if method == "POST" else 401)
    assert_headers(answer.headers, origin)


def test_vary_is_kept(make_app):
    """A resource's own Vary stays, and Origin is added."""

    class Varying:
        public = True

        def on_get(self, _req, resp):
            resp.append_header("Vary", "Accept-Language")

    app = make_app(allowed_origins=APP)
    app.add_route("/varying", Varying())

    answer = falcon.testing.simulate_get(app, "/varying")

    assert answer.headers["vary"] == "Origin, Accept-Language"


def test_no_vary(make_app):
    """Without allowed origins no answer depends on the origin."""
    answer = falcon.testing.simulate_get(make_app(), "/user", headers={"Origin": APP})

    assert "vary" not in answer.headers


class KeysResource:
    """A resource whose answers anybody may keep."""

    public = True
    answer_headers = (("Cache-Control", "public, max-age=600"),)

    def __init__(self, core):
        self.ticket = core.cookies.add(Cookie("ticket", max_age=60))

    def on_get(self, req, resp):
        if req.get_param("fail"):
            raise NotFound("/keys")
        self.ticket.set(resp, "one")

    def on_post(self, _req, resp):
        self.ticket.set(resp, "one")


def test_caching(app):
    """Only a GET that succeeds may be cached, and then sets no cookie."""
    app.add_route("/keys", KeysResource(app.core))
    client = testing.TestClient(app)
    cached, others = "public, max-age=600", "no-store"

    kept = [client.simulate_get("/keys"), client.simulate_head("/keys")]
    fresh = [client.simulate_get("/keys?fail=1"), client.simulate_post("/keys")]

    assert [answer.headers["cache-control"] for answer in kept] == [cached, cached]
    assert [answer.headers["cache-control"] for answer in fresh] == [others, others]
    assert [bool(answer.cookies) for answer in (*kept, *fresh)] == [False, False, False, True]


class PageResource:
    """A page, with a policy of its own."""

    public = True
    answer_headers = (("Content-Security-Policy", "default-src 'none'; style-src 'self'"),)

    def on_get(self, _req, resp):
        resp.content_type, resp.text = falcon.MEDIA_HTML, "<!doctype html>"

    def on_post(self, _req, _resp):
        raise falcon.HTTPSeeOther("/page")


def test_a_page(app):
    """A page has its own policy, and the other headers of every answer; its failures have ours."""
    app.add_route("/page", PageResource())
    client = testing.TestClient(app)

    page, wrong = client.simulate_get("/page"), client.simulate_put("/page")

    policy = "content-security-policy"
    own = {**ALWAYS, policy: "default-src 'none'; style-src 'self'"}
    assert own.items() <= page.headers.items()
    assert wrong.headers[policy] == ALWAYS[policy]


def test_a_redirect(app):
    """A resource redirects as any of Falcon's does, and the answer has every header."""
    app.add_route("/page", PageResource())

    answer = testing.TestClient(app).simulate_post("/page")

    assert (answer.status_code, answer.headers["location"], answer.text) == (303, "/page", "")
    assert ALWAYS.items() <= answer.headers.items()


@pytest.mark.parametrize(
    "attributes",
    [
        {"answer_headers": (("X-Content-Type-Options", ""),), "public": True},
        {"answer_headers": (("Cache-Control", "s-maxage=600"),)},
        {"answer_headers": (("Cache-Control", "public"),), "public": 1},
    ],
)
def test_headers_that_no_resource_may_have(app, attributes):
    """A resource replaces only two headers, and no shared cache keeps what needs a session."""
    with pytest.raises(TypeError, match="^Resource"):
        app.add_route("/keys", type("Resource", (), attributes)())
