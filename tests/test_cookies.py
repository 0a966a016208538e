"""Cookies: how they are declared, named, written and found."""

import falcon
import pytest
from conftest import CHEAP, LASTING, OTHER, cookie_of, exchange, parsed_cookie, running, token_of
from falcon import testing
from tokens_of_requests import outcome

from authapi import Settings, StartError, mount
from authapi.cookies import Cookie

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


# Declarations


def test_attributes(client, make_client):
    """A declared cookie lives for its time, on this host alone; over https it is `__Host-`."""
    https = make_client(public_url="https://auth.example.com")
    lasting = {**LASTING, "max-age": "60"}
    for each, name, expected in [
        (client, "ticket", lasting),
        (https, "__Host-ticket", {**lasting, "secure": ""}),
    ]:
        each.app.add_route("/ticket", TicketResource(each.app.core))

        (given,) = set_cookies(each, "POST", "/ticket")
        (taken,) = set_cookies(each, "DELETE", "/ticket")

        assert parsed_cookie(given) == (name, "one", expected)
        assert parsed_cookie(taken) == (name, "", {**expected, "max-age": "0"})


class TicketResource:
    """A resource with a cookie of its own."""

    public = True

    def __init__(self, core):
        self.ticket = core.cookies.add(Cookie("ticket", max_age=60))

    def on_get(self, req, resp):
        resp.media = self.ticket.values(req)

    def on_post(self, _req, resp):
        self.ticket.delete(resp)
        self.ticket.set(resp, "one")

    def on_delete(self, _req, resp):
        self.ticket.set(resp, "one")
        self.ticket.delete(resp)

    def on_put(self, _req, resp):
        self.ticket.set(resp, "one")
        self.ticket.leave(resp)

    def on_patch(self, _req, resp):
        self.ticket.set(resp, "a b")


def test_what_was_asked_for_last_counts(client):
    """A cookie that is set and then left alone is not in the answer."""
    client.app.add_route("/ticket", TicketResource(client.app.core))

    assert set_cookies(client, "PUT", "/ticket") == []
    answer = client.simulate_get("/ticket", headers={"Cookie": "ticket=one; jwt=x; ticket=two"})
    assert answer.json == ["one", "two"]


def test_values(client):
    """A value that would have to be quoted is the mistake of a feature: nothing unquotes it."""
    client.app.add_route("/ticket", TicketResource(client.app.core))

    assert client.simulate_patch("/ticket").status_code == 500


@pytest.mark.parametrize("settings", [{}, {"public_url": "https://auth.example.com"}])
@pytest.mark.parametrize("name", ["device", "Device", "__Host-device"])
def test_session_cookie_with_the_name_of_another(make_app, settings, name):
    """A service whose session cookie has the name of a feature's cookie does not start."""
    if name.startswith("__") and not settings:
        return
    with pytest.raises(StartError, match=r"^AUTHAPI_COOKIE_NAME cannot be 'device', .+\.$"):
        make_app(cookie_name=name, **settings)


@pytest.mark.parametrize("name", ["path", "Max-Age"])
def test_session_cookie_with_the_name_of_an_attribute(make_app, name):
    """A session cookie cannot have the name of an attribute of cookies."""
    with pytest.raises(StartError, match=f"^A cookie cannot be named '{name}': .+\\.$"):
        make_app(cookie_name=name)


def test_two_features_with_one_name(client):
    """Two features cannot declare cookies of one name."""
    with pytest.raises(ValueError, match="a cookie named 'device' is declared already"):
        client.app.core.cookies.add(Cookie("device", max_age=60))


def set_cookies(client, method, path):
    """Return the values of each `Set-Cookie` of an answer."""
    environ = testing.create_environ(path, method=method)
    started = testing.StartResponseMock()
    b"".join(client.app(environ, started))
    return [value for name, value in started.headers if name.lower() == "set-cookie"]
