"""Forward authentication by real proxies, with the files of docs/examples."""

from urllib.parse import unquote

import pytest
from conftest import DELETED, LASTING, USER, parsed_cookie
from proxies import BROWSER, CLIENT, EXAMPLES, caddy, envoy, free_port, nginx

pytest_plugins = ("proxies_fixtures",)


def test_proxied(site):
    """Only a request with a session reaches the application, and the proxy says whose it is."""
    refused = [
        site.ask("GET", "/app"),
        site.ask("GET", "/app", Cookie="jwt=garbage"),
        site.ask("POST", "/app", "text"),
        site.ask("OPTIONS", "/app"),
    ]
    assert [answer.status for answer in refused] == [401] * 4
    assert site.seen == []

    answer = site.ask("GET", "/app?a=b", Cookie=site.register())

    assert (answer.status, site.seen[-1]["target"]) == (200, "/app?a=b")
    assert site.named() == site.ours


SPOOFS = [
    {"X-Auth-User-Id": "666", "X-Auth-Username": "root", "X-Auth-Email": "root@example.com"},
    {"x-auth-user-id": "666", "x-auth-username": "root", "x-auth-email": "root@example.com"},
    {"X-AUTH-USER-ID": "666", "x-auth-User-id": "667"},
    {"X_Auth_User_Id": "666", "X_AUTH_USERNAME": "root", "x_auth_email": "root@example.com"},
    {"X-Auth_User-Id": "666", "X_Auth-Username": "root", "X-Auth_Email": "root@example.com"},
    {"X.Auth.User.Id": "666", "X-Auth.Username": "root", "X.Auth-Email": "root@example.com"},
    {"X-Auth-User-Id": ""},
    {"Remote-User": "666", "Remote_User": "667", "REMOTE.USER": "668"},
    {"Remote-Email": "root@example.com", "Remote-Groups": "admins", "remote-name": "root"},
    {"Remote_Email": "root@example.com", "Remote.Groups": "admins", "REMOTE_NAME": "root"},
    {"Connection": "close, Remote-User"},
    {"Connection": "close, X-Auth-User-Id, x-auth-username"},
    {"Connection": "X-Auth-Email"},
    {"Connection": "X-Forwarded-For"},
]


def passed(site, spoof, **headers):
    """Return whether a request with a spoof passes. Envoy itself refuses one of `Connection`."""
    status = site.ask("GET", "/app", **headers, **spoof).status
    assert status == 200 or (status, spoof) == (400, {"Connection": "X-Forwarded-For"})
    return status == 200


def test_spoofed_headers(site):
    """The client's own values of our headers never get through, in any spelling."""
    for spoof in SPOOFS:
        assert site.ask("GET", "/app", **spoof).status in {400, 401}
    assert site.seen == []

    cookie = site.register()
    for spoof in SPOOFS:
        assert not passed(site, spoof, Cookie=cookie) or site.named() == site.ours, spoof


def test_emails_where_the_operator_asks(behind, configure):
    """With AUTHAPI_VERIFY_EMAIL_HEADER=always the application gets the address of the session."""
    site = behind(configure, free_port(), verify_email_header="always")
    cookie = site.register()

    ours = sorted([("x-auth-email", USER["email"]), *site.ours])
    for spoof in ({}, *SPOOFS):
        assert not passed(site, spoof, Cookie=cookie) or site.named() == ours, spoof


def test_caddy_that_leaves_a_header_alone(behind):
    """A client's own header is gone also where Caddy copies none in its place, as 2.10 does."""

    def without_email(binary, folder, port, **addresses):
        copied = "copy_headers X-Auth-User-Id X-Auth-Username"
        return caddy(binary, folder, port, **{f"{copied} X-Auth-Email": copied}, **addresses)

    without_email.__name__ = "caddy"
    site = behind(without_email, free_port())
    cookie = site.register()

    for spoof in SPOOFS:
        assert site.ask("GET", "/app", Cookie=cookie, **spoof).status == 200
        assert site.named() == site.ours, spoof


@pytest.mark.parametrize(
    ("username", "email"),
    [
        ("Straße.é日本", "a+b%41@example.com"),
        ("_x", "{http.request.host}{env.HOME}@example.com"),
        ("-x", "$host$$`id`'%s!#&*/?^|~@example.com"),
    ],
)
def test_names_that_need_care(behind, configure, username, email):
    """Names come through as they are, decoded: no proxy takes them for its own variables."""
    site = behind(configure, free_port(), verify_email_header="always")
    cookie = site.register(username=username, email=email)

    site.ask("GET", "/app", Cookie=cookie)

    found = [unquote(value) for _, value in site.named()]
    assert found[-3:] == [email, "1", username]
    assert found[:-3] == [value for name, value in site.ours if name == "remote-user"]


def test_life_of_a_session(site):
    """A browser registers, logs in and out through the proxy, at the application's own host."""
    origin = {"Origin": f"http://127.0.0.1:{site.port}"}
    login = {"usernameOrEmail": USER["email"], "password": USER["password"]}
    assert site.post("/auth/register", USER, **origin).status == 201

    answer = site.post("/auth/login", login, **origin, **{"Sec-Fetch-Site": "same-origin"})

    name, token, attributes = parsed_cookie(answer.headers["Set-Cookie"])
    cookie = f"{name}={token}"
    assert (answer.status, answer.json["user"]["username"]) == (200, USER["username"])
    assert attributes == LASTING
    assert site.ask("GET", "/auth/user", Cookie=cookie).json["user"]["id"] == 1
    verified = site.ask("GET", "/app", Cookie=cookie)
    assert (verified.status, verified.headers["Set-Cookie"]) == (200, None)

    foreign = site.post("/auth/logout", {}, Cookie=cookie, Origin="http://evil.example")
    assert foreign.json["error"] == "cross_site_request"
    assert site.ask("GET", "/app", Cookie=cookie).status == 200

    out = site.post("/auth/logout", {}, Cookie=cookie, **origin)
    assert parsed_cookie(out.headers["Set-Cookie"]) == ("jwt", "", DELETED)
    assert site.ask("GET", "/app", Cookie=cookie).status == 401
    assert len(site.seen) == 2


def test_bearer_through_a_proxy(site):
    """A client without cookies sends the token in the Authorization header."""
    token = site.register().removeprefix("jwt=")

    assert site.ask("GET", "/app", Authorization=f"Bearer {token}").status == 200
    assert site.named() == site.ours


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_body(site, method):
    """A body reaches the application whole, also one that the service itself would not take."""
    cookie, body = site.register(), "0123456789abcdef" * 20_000

    for text in (body, "{}", ""):
        answer = site.ask(method, "/app", text, Cookie=cookie, **{"Content-Type": "text/plain"})
        seen = site.seen[-1]
        assert (answer.status, seen["method"], seen["body"]) == (200, method, text)


TRICKS = [
    "/verify",
    "/verify/../x",
    "/auth",
    "/auth/../app",
    "/auth/..%2fapp",
    "/auth%2f..%2fapp",
    "/auth/%2e%2e/app",
    "/auth/%2e%2e%2fapp",
    "/auth/%252e%252e/app",
    "/auth/./../app",
    "/auth/x/../../app",
    "/auth//../app",
    "/auth/..;/app",
    "/auth/..\\app",
    "/auth/..%5capp",
    "/auth/%00/../app",
    "/auth/verify/../../app",
    "/auth/verify",
    "/auth/verify?/../../app",
    "/auth/?/../app",
    "/%61uth/../app",
    "/AUTH/login",
    "/app/../auth/../app",
    "/app/..%2fauth/login/../../app",
    "//",
    "//auth/login",
    "//app",
    "///app",
    "/./app",
    "/app?x=/auth/login",
    "/app%3f/auth/",
    "/app;/auth/login",
    "/app/%0d%0aX-Auth-User-Id:%20666",
    "http://127.0.0.1/app",
    "http://127.0.0.1/auth/../app",
    "http://other.example/app",
]


def test_tricks_without_a_session(site):
    """However a target is written, without a session nothing reaches the application."""
    for target in TRICKS:
        for method in ("GET", "POST", "HEAD"):
            site.ask(method, target)

    assert site.seen == []


def test_tricks_with_a_session(site):
    """However a target is written, what reaches the application names whose request it is."""
    cookie = site.register()

    for target in TRICKS:
        passed = len(site.seen)
        site.ask("GET", target, Cookie=cookie)
        if len(site.seen) > passed:
            assert site.named() == site.ours, target

    assert len(site.seen) > len(TRICKS) / 3


VERIFY = [
    "/auth/verify",
    "/auth/verify?status=401",
    "/auth/verify/",
    "/auth/verify/app.css",
    "/auth/verify/../verify/app",
    "/auth/verify%2Fapp",
    "/auth/verify%2fapp",
    "/auth/%76erify/app",
    "/auth/%76erify%2Fapp",
    "/auth/./verify/app",
    "/auth/.%2fverify/app",
    "/auth//verify/app",
    "/auth/%2fverify/app",
    "/auth/x/../verify/app",
    "/app/../auth/verify/app",
    "/auth/verify;/app",
    "/auth/verify%00/app",
]


def test_the_check_is_for_the_proxy_alone(site):
    """A client that asks for `/verify` or a path below gets no answer of it, however written."""
    cookie = site.register()

    assert [site.ask("GET", target, Cookie=cookie).status for target in VERIFY[:4]] == [404] * 4
    for target in VERIFY:
        for method in ("GET", "POST"):
            answer = site.ask(method, target, Cookie=cookie)
            assert not [name for name in answer.headers if name.startswith("X-Auth")], target
    assert site.ask("GET", "/app", Cookie=cookie).status == 200


def test_address(site):
    """The service has the client's address from the proxy, whatever the client says of it."""
    claims = {
        "X-Forwarded-For": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "X-Real-IP": "203.0.113.9",
    }
    cookie = site.post("/auth/register", USER, **claims).headers["Set-Cookie"].partition(";")[0]

    (session,) = site.ask("GET", "/auth/sessions", Cookie=cookie, **claims).json["sessions"]
    site.ask("GET", "/app", Cookie=cookie, **claims)

    assert session["ip"] == CLIENT
    seen = dict(site.seen[-1]["headers"])
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == (CLIENT, "http")
    own = f"127.0.0.1:{site.port}"
    assert (seen["host"], seen.get("x-forwarded-host", own)) == (own, own)


def test_fails_closed(site):
    """While the service is away nobody gets through, with a session or without."""
    cookie = site.register()
    assert site.ask("GET", "/app", Cookie=cookie).status == 200

    site.service.close()

    statuses = [site.ask("GET", "/app", Cookie=cookie).status, site.ask("GET", "/app").status]
    assert min(statuses) >= 500
    assert len(site.seen) == 1


@pytest.mark.parametrize("headers", [{}, {"Cookie": "jwt=garbage"}])
def test_a_browser_is_sent_to_the_login_page(site, headers):
    """Without a session a browser goes to the login page; any other client gets the 401."""
    own = f"http://127.0.0.1:{site.port}"
    for method in ("GET", "POST", "HEAD"):
        answer = site.ask(method, "/app?a=b", **BROWSER, **headers)
        to = f"{own}/login?return_to={own}/app?a=b"
        assert (answer.status, answer.headers["Location"]) == (302, to)
    for accept in ("application/json", "*/*"):
        answer = site.ask("GET", "/app", Accept=accept, **headers)
        assert (answer.status, answer.headers["Location"]) == (401, None)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert site.seen == []


@pytest.mark.parametrize("configure", [nginx, caddy, envoy], indirect=True)
def test_login_page(site):
    """Everybody sees the login page, in no frame, and it comes from no application."""
    answer = site.ask("GET", "/login", **BROWSER)

    assert (answer.status, answer.headers.get_content_type()) == (200, "text/html")
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.body == (EXAMPLES / "login.html").read_bytes()
    assert site.ask("GET", "/app", Cookie=site.register(), **BROWSER).status == 200
    assert len(site.seen) == 1
