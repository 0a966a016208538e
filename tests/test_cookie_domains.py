"""The cookie domain: an operator who changes it locks nobody out, in a cookie jar."""

import email.message
import http.cookiejar
import json
import urllib.request

import pytest
from conftest import (
    CHEAP,
    DELETED,
    LASTING,
    OTHER,
    USER,
    cookie_of,
    empty_application,
    parsed_cookie,
    token_of,
)
from falcon import testing
from tokens_of_requests import CHANGED, FOREIGN, PROVED, RENEWED_AFTER

from authapi import Settings, protect
from authapi.server.start_log import warn_of

HOST = "auth.example.test"


class Browser:
    """A browser's behaviour, with the standard library's cookie jar."""

    def __init__(self):
        self.jar = http.cookiejar.CookieJar()

    def ask(self, app, method, path, body=None):
        """Send a request with the jar's cookies, and keep those of the answer; give the status."""
        request = urllib.request.Request(f"http://{HOST}{path}", method=method)
        self.jar.add_cookie_header(request)
        environ = testing.create_environ(
            path,
            method=method,
            host=HOST,
            headers={
                "Cookie": request.get_header("Cookie", ""),
                "Content-Type": "application/json",
            },
            body="" if body is None else json.dumps(body),
        )
        started = testing.StartResponseMock()
        b"".join(app(environ, started))
        self.jar.extract_cookies(_Answer(started.headers), request)
        return int(started.status[:3])

    def log_in(self, app, name=USER["username"]):
        credentials = {"usernameOrEmail": name, "password": USER["password"]}
        return self.ask(app, "POST", "/login", credentials)

    @property
    def domains(self):
        """The domains of the session cookies that are in the jar."""
        return [cookie.domain for cookie in self.jar if cookie.name == "jwt"]


class _Answer:
    def __init__(self, headers):
        self.message = email.message.Message()
        for name, value in headers:
            self.message[name] = value

    def info(self):
        return self.message


@pytest.fixture(name="service")
def _service(make_app):
    """Start the service with a cookie domain, on the same database each time."""
    return lambda domain: make_app(public_url=f"http://{HOST}", cookie_domain=domain)


DOMAINS = ["", "example.test", HOST, f".{HOST}"]
SWITCHES = [(before, after) for before in DOMAINS for after in DOMAINS if before != after]
IN_JAR = {"": HOST, "example.test": ".example.test", HOST: f".{HOST}", f".{HOST}": f".{HOST}"}


@pytest.fixture(name="browser", params=SWITCHES, ids=" to ".join)
def _browser(request, service):
    """Return a browser that logged in before the domain changed, and the service since then."""
    before, after = request.param
    browser, old = Browser(), service(before)
    assert browser.ask(old, "POST", "/register", USER) == 201
    browser.service, browser.domain = service(after), IN_JAR[after]
    return browser


def test_use_after_a_change(browser, clock):
    """A session goes on through renewals, a reauthentication, a password change and a rename."""
    app = browser.service
    for _ in range(3):
        assert [browser.ask(app, "GET", path) for path in ("/user", "/verify")] == [200, 200]
        clock.move(RENEWED_AFTER)
    assert browser.ask(app, "POST", "/sessions/reauthenticate", PROVED) == 200
    assert browser.ask(app, "GET", "/user") == 200
    assert browser.ask(app, "PUT", "/user/password", CHANGED) == 200
    assert browser.ask(app, "GET", "/user") == 200
    assert browser.ask(app, "PATCH", "/user", {"username": "renamed"}) == 200
    assert browser.ask(app, "GET", "/user") == 200
    assert browser.domains == [browser.domain]


def test_logout_after_a_change(browser):
    """A logout ends the session, and one can log in again and stays so."""
    app = browser.service
    assert browser.ask(app, "POST", "/logout") == 200
    assert browser.domains == []
    assert browser.ask(app, "GET", "/user") == 401
    for _ in range(2):
        assert browser.log_in(app) == 200
        assert browser.ask(app, "GET", "/user") == 200
        assert browser.ask(app, "POST", "/logout") == 200
        assert browser.ask(app, "GET", "/user") == 401
    assert browser.domains == []


def test_login_after_a_change(browser):
    """A login opens a session that works, as another user too, and leaves one cookie."""
    app = browser.service
    assert browser.ask(app, "POST", "/register", OTHER) == 201
    assert browser.ask(app, "GET", "/user") == 200
    assert browser.log_in(app) == 200
    assert browser.ask(app, "GET", "/user") == 200
    assert browser.domains == [browser.domain]


def test_there_and_back(service, clock):
    """A domain that is set and unset again, or changed twice, logs nobody out."""
    browser = Browser()
    browser.ask(service(""), "POST", "/register", USER)

    for domain in ("example.test", "", HOST, "example.test", "", "example.test"):
        app = service(domain)
        for _ in range(2):
            clock.move(RENEWED_AFTER)
            assert browser.ask(app, "GET", "/user") == 200
    assert browser.ask(app, "POST", "/logout") == 200
    assert browser.ask(app, "GET", "/user") == 401
    assert browser.log_in(app) == 200
    assert browser.ask(app, "GET", "/user") == 200


def test_dead_session_after_a_change(browser, clock):
    """A session that ended while the domain was changed leaves nobody out."""
    app = browser.service
    clock.move(259_200)
    assert browser.ask(app, "GET", "/user") == 401
    assert browser.log_in(app) == 200
    assert browser.ask(app, "GET", "/user") == 200
    assert browser.ask(app, "GET", "/user") == 200


def test_cookie_of_another_service(make_app, clock):
    """Another service's cookie of the same name and a parent domain is never deleted."""
    app = make_app(public_url=f"http://{HOST}")
    browser = Browser()
    theirs = [("Set-Cookie", f"jwt={FOREIGN}; Max-Age=259200; Path=/; Domain=example.test")]
    request = urllib.request.Request("http://www.example.test/")
    browser.jar.extract_cookies(_Answer(theirs), request)

    assert browser.ask(app, "GET", "/user") == 401
    assert browser.ask(app, "POST", "/register", USER) == 201
    clock.move(RENEWED_AFTER)
    assert browser.ask(app, "GET", "/user") == 200
    assert browser.ask(app, "POST", "/logout") == 200

    assert browser.domains == [".example.test"]


def test_renewal_by_protect(tmp_path, clock, service):
    """A renewal by `protect` expires the cookie of the host alone where there is a domain."""
    browser = Browser()
    browser.ask(service(""), "POST", "/register", USER)
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/authapi.db",
        public_url=f"http://{HOST}",
        cookie_domain="example.test",
        **CHEAP,
    )
    protected = protect(empty_application, settings, clock=clock)
    clock.move(RENEWED_AFTER)

    assert browser.ask(protected, "GET", "/page") == 200

    assert browser.domains == [".example.test"]
    protected.close()


SCOPES = [
    ({"public_url": f"http://{HOST}"}, [HOST, "example.test", ""]),
    ({"public_url": f"http://{HOST}:8000"}, [HOST, "example.test", ""]),
    (
        {"public_url": f"http://{HOST}", "cookie_domain": "example.test"},
        ["", HOST, "example.test"],
    ),
    ({"public_url": "http://example.test"}, ["example.test", ""]),
    ({"public_url": "http://localhost:3001"}, [""]),
    ({"public_url": "http://127.0.0.1:3001"}, [""]),
    ({"public_url": "http://[::1]:3001"}, [""]),
    ({"public_url": f"https://{HOST}"}, [""]),
]


@pytest.mark.parametrize(("settings", "scopes"), SCOPES)
def test_what_a_logout_deletes(make_client, settings, scopes):
    """A logout deletes the cookie for each domain that its host may have set it for, once."""
    client = make_client(**settings)
    name = client.app.core.settings.cookie_name
    token = cookie_of(client.register(), "jwt")

    lines = set_cookies(client, "/logout", headers={"Cookie": f"{name}={token}"})

    secure = {"secure": ""} if name.startswith("__") else {}
    assert [parsed_cookie(line) for line in lines] == [
        (name, "", {**DELETED, **secure, **({"domain": scope} if scope else {})})
        for scope in scopes
    ]


def test_a_logout_without_a_cookie(make_client):
    """A logout that brings no cookie expires it for no domain but its own, and for this host."""
    for domain, scopes in [("", [None]), ("example.test", [None, "example.test"])]:
        client = make_client(public_url=f"http://{HOST}", cookie_domain=domain)

        lines = set_cookies(client, "/logout")

        assert [parsed_cookie(line)[2].get("domain") for line in lines] == scopes


def test_what_a_new_token_expires(make_client, clock):
    """A new token expires the cookies of other domains if the request brings two tokens."""
    client = make_client(public_url=f"http://{HOST}")
    older = token_of(client.register())
    clock.move(RENEWED_AFTER)
    newer = token_of(client.get_as(older))

    assert renewed(client, older, newer)[1] == [HOST, "example.test", None]
    token, scopes = renewed(client, token_of(client.log_in()))
    assert scopes == [None]
    assert renewed(client, token, token)[1] == [None]


def renewed(client, *tokens):
    """The new token that a request with these cookies gets, and the domains of its lines."""
    headers = {"Cookie": "; ".join(f"jwt={token}" for token in tokens)}
    lines = set_cookies(client, "/sessions/reauthenticate", PROVED, headers)
    *_, (_, token, _), _ = parsed = [parsed_cookie(line) for line in lines]
    return token, [attributes.get("domain") for name, _, attributes in parsed if name == "jwt"]


def set_cookies(client, path, body=None, headers=None):
    """Return the values of each Set-Cookie in the answer to a POST."""
    environ = testing.create_environ(
        path,
        method="POST",
        headers={"Content-Type": "application/json", **(headers or {})},
        body="" if body is None else json.dumps(body),
    )
    started = testing.StartResponseMock()
    b"".join(client.app(environ, started))
    return [value for name, value in started.headers if name.lower() == "set-cookie"]


def test_order_of_lines(make_client):
    """The line that expires another domain's cookie comes before the cookie itself.

    So a client that identifies cookies only by name keeps it.
    """
    client = make_client(public_url=f"http://{HOST}", cookie_domain="example.test")

    first, second, _ = set_cookies(client, "/register", USER)

    assert parsed_cookie(first) == ("jwt", "", DELETED)
    name, value, attributes = parsed_cookie(second)
    assert (name, attributes) == ("jwt", {**LASTING, "domain": "example.test"})
    assert value


@pytest.mark.parametrize("domain", ["co.uk", "example.co.uk"])
def test_a_public_suffix(domain, caplog):
    """A start warns of a domain below which anybody can have a name."""
    warn_of(Settings(public_url="http://auth.example.co.uk", cookie_domain=domain))

    named = f"AUTHAPI_COOKIE_DOMAIN {domain} is a public suffix" in caplog.text
    assert named == (domain == "co.uk")
