"""Cookies: whose they are, which token counts, what an answer may delete, and a changed domain."""

import email.message
import http.cookiejar
import json
import urllib.request

import falcon
import pytest
from conftest import (
    CHEAP,
    OTHER,
    USER,
    cookie_of,
    deletes_cookie,
    exchange,
    running,
    token_of,
)
from falcon import testing

from authapi import Settings, mount, protect
from authapi.errors import Unavailable

RENEWED_AFTER = 3_600  # seconds, as the settings have it
FOREIGN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"


def bearing(token, *cookies):
    """Headers with a bearer token, and cookies beside it."""
    return {"Authorization": f"Bearer {token}", **carrying(*cookies)}


def carrying(*tokens):
    """Headers with so many session cookies."""
    return {"Cookie": "; ".join(f"jwt={token}" for token in tokens)} if tokens else {}


def outcome(answer):
    """What an answer says, and whether it deletes the session cookie."""
    return answer.status_code, answer.json.get("error"), deletes_cookie(answer)


GOOD, BAD, SPARED = (200, None, False), (401, "invalid_token", True), (401, "invalid_token", False)


@pytest.fixture(name="other")
def _other(client, token):
    """A token of another user."""
    return token_of(client.register(**OTHER))


@pytest.fixture(name="dead")
def _dead(client, token):
    """A token whose session has ended."""
    dead = token_of(client.log_in())
    client.request_as(dead, "POST", "/logout")
    return dead


# Names

OURS = ["jwt={}", " \tjwt={}", "jwt \t={}", "jwt=\t {} ", "a=b;jwt={}", "a=b; ; =; x; jwt={}; c"]
NOT_OURS = [
    "\xa0jwt={}",
    "\x85jwt={}",
    "jwt\xa0={}",
    "\x0cjwt={}",
    "JWT={}",
    "jwt={}\xa0",
    'jwt="{}"',
    'a="; jwt={}"',
    "a=b, jwt={}",
    "jwt",
    "={}",
    "{}",
]


def named(cookies, token):
    return [{"HTTP_COOKIE": cookie.replace("{}", token)} for cookie in cookies]


def test_names(client, token):
    """A cookie is ours by the exact bytes of its name, but for space and tab around it."""
    for environ, status in [
        *((environ, 200) for environ in named(OURS, token)),
        *((environ, 401) for environ in named(NOT_OURS, token)),
    ]:
        for path in ("/user", "/verify"):
            assert client.simulate_get(path, extras=environ).status_code == status, environ


def test_names_under_a_prefix(make_client):
    """A cookie whose name merely looks like a `__Host-` name opens no session, and stays."""
    client = make_client(public_url="https://auth.example.com")
    token = token_of(client.register())

    for space in ("\xa0", "\x85", "\u2003".encode().decode("latin-1")):
        environ = {"HTTP_COOKIE": f"{space}__Host-jwt={token}"}
        answer = client.simulate_get("/user", extras=environ)
        assert outcome(answer) == (401, "not_authenticated", False)


def test_names_of_device_cookies(client):
    """A device cookie is ours by the exact bytes of its name too."""
    device = cookie_of(client.register(), "device")
    for _ in range(10):
        client.log_in(password="wrong")

    statuses = [
        client.log_in(extras=environ).status_code
        for environ in named(["\xa0device={}", 'device="{}"', " device={}"], device)
    ]

    assert statuses == [429, 429, 200]


def test_names_in_other_applications(tmp_path, clock, token, guarded):
    """`mount` and `protect` know the same cookies as our own routes do."""
    app = falcon.App()
    auth = mount(
        app, Settings(database_url=f"sqlite:///{tmp_path}/authapi.db", **CHEAP), clock=clock
    )
    app.add_route("/page", Page())
    host = testing.TestClient(app)

    for ask, path in [(host, "/page"), (host, "/auth/user"), (guarded, "/")]:
        for cookies, status in [(OURS, 200), (NOT_OURS, 401)]:
            for environ in named(cookies, token):
                assert ask.simulate_get(path, extras=environ).status_code == status, environ
    auth.close()


class Page:
    def on_get(self, req, resp):
        resp.media = {"id": req.context.user.id}


def application(_environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return []


def test_several_lines(client, token, make_app):
    """Cookies in several header lines are read as one line with semicolons (RFC 9113, 8.2.3)."""
    with running(make_app()) as port:
        for lines, status in [
            (["a=b", f"jwt={token}"], b"200"),
            ([f"jwt={token}", "a=b"], b"200"),
            ([f"jwt={token}", "jwt=bad"], b"200"),
            ([f"jwt={token[:-1]}", token[-1:]], b"401"),
            ([f"a=b, jwt={token}"], b"401"),
            ([f"\xa0jwt={token}", "a=b"], b"401"),
        ]:
            fields = "".join(f"cOOKIE:{line}\r\n" for line in lines)
            head = f"GET /user HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n"
            assert exchange(port, head.encode("latin-1")).split()[1] == status, lines


# Which token counts, and what is deleted


def test_one_good_cookie(client, token, dead):
    """Of several cookies the one counts that opens a session, wherever it stands."""
    for others in ([dead], ["bad"], [""], [FOREIGN], [dead, "bad", FOREIGN, "", "x"] * 9):
        for cookies in ([token, *others], [*others, token]):
            assert outcome(client.simulate_get("/user", headers=carrying(*cookies))) == GOOD


def test_same_session_twice(client, token, clock):
    """Two tokens of one session are one session, and the newer of them counts."""
    clock.move(RENEWED_AFTER)
    newer = token_of(client.get_as(token))

    for cookies in ([token, token], [token, newer], [newer, token]):
        answer = client.simulate_get("/user", headers=carrying(*cookies))
        assert answer.status_code == 200
        assert answer.cookies.keys() == ({"jwt"} if newer not in cookies else set())


def test_two_sessions(client, token, other):
    """Cookies of two live sessions are refused, and neither is deleted."""
    for path in ("/user", "/verify"):
        answer = client.simulate_get(path, headers=carrying(token, other))
        assert outcome(answer) == SPARED
    assert client.get_as(token).status_code == 200


def test_bad_cookies(client, dead):
    """A cookie that opens no session is deleted, and so are several."""
    for cookies in ([dead], ["bad"], [""], [FOREIGN], [dead, "bad"], [dead] * 2):
        assert outcome(client.simulate_get("/user", headers=carrying(*cookies))) == BAD


def test_bearer_of_another_service(client, token, dead):
    """A bearer token that is not ours leaves a live cookie as good as it was."""
    for bearer in (FOREIGN, "opaque", "", f"{token}, Bearer {token}"):
        for path in ("/user", "/verify"):
            assert outcome(client.simulate_get(path, headers=bearing(bearer, token))) == GOOD
        assert outcome(client.simulate_get("/user", headers=bearing(bearer, dead))) == BAD
        assert outcome(client.simulate_get("/user", headers=bearing(bearer))) == SPARED


def test_bearer_beside_a_cookie(client, token, other, dead, clock):
    """A bearer token of ours must open the session, and it alone or the cookie's."""
    assert outcome(client.simulate_get("/user", headers=bearing(token, token))) == GOOD
    assert outcome(client.simulate_get("/user", headers=bearing(token, dead))) == GOOD
    assert outcome(client.simulate_get("/user", headers=bearing(token, other))) == SPARED
    assert outcome(client.simulate_get("/user", headers=bearing(dead, token))) == SPARED
    assert outcome(client.simulate_get("/user", headers=bearing(dead, dead))) == BAD
    assert outcome(client.simulate_get("/user", headers=bearing(dead))) == SPARED


def test_expired_bearer_of_the_same_session(client, token, clock):
    """An older token of a session, sent as a bearer, does not count against its newer cookie."""
    clock.move(RENEWED_AFTER)
    newer = token_of(client.get_as(token))
    clock.move(259_200 - RENEWED_AFTER)

    assert client.simulate_get("/user", headers=bearing(token)).status_code == 401
    assert client.simulate_get("/user", headers=bearing(token, newer)).status_code == 200


@pytest.fixture(name="guarded")
def _guarded(tmp_path, clock, client):
    """A client of an application behind `protect`, on the service's database."""
    settings = Settings(database_url=f"sqlite:///{tmp_path}/authapi.db", **CHEAP)
    protected = protect(application, settings, required=True, clock=clock)
    yield testing.TestClient(protected)
    protected.close()


def test_protect(guarded, token, other, dead):
    """`protect` finds the same session, and deletes no cookie that may be good."""
    assert guarded.simulate_get("/", headers=bearing(FOREIGN, token)).status_code == 200
    assert guarded.simulate_get("/", headers=carrying(dead, token)).status_code == 200
    assert outcome(guarded.simulate_get("/", headers=carrying(token, other))) == SPARED
    assert outcome(guarded.simulate_get("/", headers=bearing(FOREIGN))) == SPARED
    assert outcome(guarded.simulate_get("/", headers=carrying(dead))) == BAD


def test_device_cookies_of_several_domains(client):
    """A device cookie that another host of the domain plants makes no browser unknown."""
    mine = cookie_of(client.register(), "device")
    theirs = cookie_of(client.register(**OTHER), "device")
    for _ in range(10):
        client.log_in(password="wrong")

    for cookies in ([theirs, mine], ["bad", mine], [mine, mine]):
        header = "; ".join(f"device={cookie}" for cookie in cookies)
        assert client.log_in(headers={"Cookie": header}).status_code == 200
        mine = cookie_of(client.log_in(headers={"Cookie": f"device={mine}"}), "device")
    for _ in range(10):
        client.log_in(password="wrong")
    assert client.log_in(headers={"Cookie": f"device={theirs}"}).status_code == 429


PROVED = {"password": USER["password"]}
CHANGED = {"current_password": USER["password"], "new_password": "another one"}
CHANGES = [
    ("POST", "/sessions/reauthenticate", PROVED),
    ("PUT", "/user/password", CHANGED),
    ("PATCH", "/user", {"username": "renamed"}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_change_by_bearer(client, token, other, dead, change):
    """A change by a bearer token replaces a cookie that is bad, and none of another session."""
    method, path, body = change
    headers = bearing(token, other)
    refused = client.simulate_request(method, path, json=body, headers=headers)
    assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)

    changed = client.simulate_request(method, path, json=body, headers=bearing(token, dead))

    assert changed.status_code == 200
    assert client.get_as(token_of(changed)).status_code == 200
    assert client.get_as(other).status_code == 200


def test_end_by_bearer(client, token):
    """Ending a session or deleting a user by a bearer token deletes no cookie that was not sent."""
    ended = token_of(client.log_in())
    (session,) = [each for each in client.sessions_of(ended) if each["current"]]

    answers = [
        client.simulate_delete(f"/sessions/{session['id']}", headers=bearing(ended)),
        client.simulate_delete("/user", headers=bearing(token)),
    ]

    assert [(answer.status_code, "set-cookie" in answer.headers) for answer in answers] == [
        (200, False),
        (200, False),
    ]


def test_end_by_cookie(client, token):
    """Ending one's session or deleting the user deletes the cookie that was sent."""
    ended = token_of(client.log_in())
    (session,) = [each for each in client.sessions_of(ended) if each["current"]]

    assert deletes_cookie(client.request_as(ended, "DELETE", f"/sessions/{session['id']}"))
    assert deletes_cookie(client.request_as(token, "DELETE", "/user"))


def test_nothing_is_renewed_for_who_is_gone(client, token, clock):
    """A request that ends its own session sets no newer token for it."""
    clock.move(RENEWED_AFTER)

    answer = client.simulate_delete("/user", json=PROVED, headers=bearing(token))

    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_database_failure_deletes_nothing(client, token, dead, method, monkeypatch):
    """A cookie stays where the database cannot tell whether it is good."""

    def fails(*_):
        raise Unavailable

    monkeypatch.setattr(client.app.authenticate._sessions, "authenticate", fails)

    for cookies in ([token], [dead], [token, dead]):
        answer = client.simulate_request(method, "/user", headers=carrying(*cookies))
        assert outcome(answer) == (503, "unavailable", False)


def test_password_that_changed_meanwhile(client, token, monkeypatch):
    """A deletion whose password changed while it was checked is refused, and the cookie stays."""
    verify = client.app.core.passwords.verify

    def and_then(*args, **options):
        verdict = verify(*args, **options)
        client.query("UPDATE users SET password_version = password_version + 1")
        return verdict

    monkeypatch.setattr(client.app.core.passwords, "verify", and_then)

    answer = client.request_as(token, "DELETE", "/user", PROVED)

    assert outcome(answer) == (403, "wrong_password", False)
    assert client.get_as(token).status_code == 200


def test_logout_everywhere(client, token, other, dead):
    """A logout everywhere takes the one live session; two of them are refused, and none ends."""
    again = token_of(client.log_in())
    refused = client.post("/logout", {"everywhere": True}, headers=carrying(token, other))
    assert outcome(refused) == SPARED
    assert [client.get_as(each).status_code for each in (token, other)] == [200, 200]

    answer = client.post("/logout", {"everywhere": True}, headers=carrying(dead, token))

    assert answer.status_code == 200
    assert [client.get_as(each).status_code for each in (token, again, other)] == [401, 401, 200]


# A login ends the session that it replaces


@pytest.mark.parametrize("way", ["login", "registration"])
def test_session_is_replaced(client, token, other, way):
    """A login and a registration end the sessions of the cookies that they bring (ASVS 7.2.4)."""
    kept = token_of(client.log_in())
    headers = carrying(token, other, "bad")

    if way == "login":
        answer = client.log_in(headers=headers)
    else:
        fields = {"username": "third", "email": "third@example.com"}
        answer = client.post("/register", {**USER, **fields}, headers=headers)

    tokens = (token, other, kept, token_of(answer))
    assert [client.get_as(each).status_code for each in tokens] == [401, 401, 200, 200]
    ended = client.events("event", "user_id")[-3:]
    opened = ("logged_in", 1) if way == "login" else ("registered", 3)
    assert ended == [("session_revoked", 1), ("session_revoked", 2), opened]


def test_nothing_is_replaced(client, token, other, clock):
    """A failed login ends nothing; nor does one with a bearer, a foreign or an expired token."""
    client.log_in(password="wrong", headers=carrying(token))
    client.log_in(headers=bearing(token))
    client.log_in(extras={"HTTP_COOKIE": f"\xa0jwt={token}"})
    assert client.get_as(token).status_code == 200

    clock.move(RENEWED_AFTER)
    newer = token_of(client.get_as(token))
    clock.move(259_200 - RENEWED_AFTER)
    client.log_in(headers=carrying(token, FOREIGN))

    assert client.get_as(newer).status_code == 200
    assert "session_revoked" not in client.events()


def test_replaced_session_leaves_room(make_client):
    """The session that a login replaces does not count as one of the most that a user may have."""
    client = make_client(max_sessions=2)
    first, second = token_of(client.register()), token_of(client.log_in())

    client.log_in(headers=carrying(second))

    assert client.get_as(first).status_code == 200
    assert client.events().count("session_revoked") == 1


def test_replacing_is_undone_with_the_login(client, token, monkeypatch):
    """Where the new session is not opened, the one that it would replace goes on."""
    client.app.core.events.subscribe(raises)

    assert client.log_in(headers=carrying(token)).status_code == 500

    assert client.get_as(token).status_code == 200


def raises(event):
    if event.name == "logged_in":
        raise RuntimeError


# Answers to older requests


REPLACEMENTS = {
    "login": ("POST", "/login", {"usernameOrEmail": USER["username"], **PROVED}),
    "registration": ("POST", "/register", OTHER),
    "reauthentication": ("POST", "/sessions/reauthenticate", PROVED),
    "password change": ("PUT", "/user/password", CHANGED),
}


@pytest.mark.parametrize("way", REPLACEMENTS)
def test_late_answer(client, token, clock, way):
    """For a minute a token that was replaced is refused without deleting the newer cookie."""
    method, path, body = REPLACEMENTS[way]
    newer = token_of(client.request_as(token, method, path, body))

    for seconds, expected in [(0, SPARED), (59, SPARED), (1, BAD)]:
        clock.move(seconds)
        assert outcome(client.get_as(token)) == expected
        assert outcome(client.request_as(token, "PATCH", "/user", {"username": "x"})) == expected
    assert client.get_as(newer).status_code == 200


def test_late_answer_of_protect(guarded, client, token):
    """`protect` deletes no newer cookie either."""
    client.request_as(token, "POST", "/sessions/reauthenticate", PROVED)

    assert outcome(guarded.simulate_get("/", headers=carrying(token))) == SPARED


def test_late_answer_after_the_end(client, token, other):
    """Where the newer session has ended too, the older token's cookie is deleted at once."""
    newer = token_of(client.request_as(token, "POST", "/sessions/reauthenticate", PROVED))
    client.request_as(newer, "POST", "/logout")

    assert outcome(client.get_as(token)) == BAD


def test_late_answer_to_an_older_token(client, token, clock):
    """A token that has expired deletes no cookie while its session goes on with a newer one."""
    clock.move(RENEWED_AFTER)
    newer = token_of(client.get_as(token))
    clock.move(259_200 - RENEWED_AFTER)

    assert outcome(client.get_as(token)) == SPARED
    assert client.get_as(newer).status_code == 200


# A changed domain

HOST = "auth.example.test"


class Browser:
    """What a browser does, with the standard library's cookie jar."""

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
    """A browser that logged in before the domain was changed, and the service since then."""
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
    protected = protect(application, settings, clock=clock)
    clock.move(RENEWED_AFTER)

    assert browser.ask(protected, "GET", "/page") == 200

    assert browser.domains == [".example.test"]
    protected.close()


SCOPES = [
    ({"public_url": f"http://{HOST}"}, [f"Domain={HOST}", "Domain=example.test", ""]),
    ({"public_url": f"http://{HOST}:8000"}, [f"Domain={HOST}", "Domain=example.test", ""]),
    (
        {"public_url": f"http://{HOST}", "cookie_domain": "example.test"},
        ["", f"Domain={HOST}", "Domain=example.test"],
    ),
    ({"public_url": "http://example.test"}, ["Domain=example.test", ""]),
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

    secure = "; Secure" if name.startswith("__") else ""
    deletion = f"{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax{secure}"
    assert lines == [f"{deletion}; {scope}" if scope else deletion for scope in scopes]


def set_cookies(client, path, body=None, headers=None):
    """The values of each Set-Cookie that a POST is answered with."""
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
    """What expires another domain's cookie comes before the cookie itself is set.

    So a client that knows cookies by their names alone keeps it.
    """
    client = make_client(public_url=f"http://{HOST}", cookie_domain="example.test")

    first, second, _ = set_cookies(client, "/register", USER)

    assert first == "jwt=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
    assert second.endswith("; Max-Age=259200; Path=/; HttpOnly; SameSite=Lax; Domain=example.test")
