"""Forward authentication for Envoy's ext_authz: /verify/{path}, in every method."""

import json
import re

import pytest
from conftest import USER, connected, running, token_of

from authapi.inline import IN_LOOP

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
OTHERS = ("PROPFIND", "QUERY", "BREW")
BROWSER = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
PAGE = "https://app.example.com/login"


def sent(port, line, headers=(), body=b""):
    """Send a request; return its status, its headers with names in lower case, and its body."""
    fields = {"Host": "app.example.com", "Connection": "close", **dict(headers)}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with connected(port) as connection:
        connection.sendall(f"{line} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        told = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = told.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin-1").split("\r\n")
    found = {name.lower(): value for name, _, value in (each.partition(": ") for each in fields)}
    return int(status.split()[1]), found, body


@pytest.fixture(name="port")
def _port(client):
    with running(client.app) as port:
        yield port


@pytest.fixture(name="site")
def _site(make_app):
    """Serve with a login page; give the port."""
    app = make_app(public_url="https://app.example.com", login_url=PAGE)
    with running(app) as port:
        yield port


@pytest.mark.parametrize("method", METHODS + OTHERS)
def test_methods(port, token, method):
    """Each method of a request is answered alike: with the user, or 401 where there is no session.

    OPTIONS needs a session too, because the application may act on it.
    """
    known = sent(port, f"{method} /verify/notes/1", {"Cookie": f"jwt={token}"})
    unknown = sent(port, f"{method} /verify/notes/1")

    assert (known[0], known[1]["x-auth-user-id"]) == (200, "1")
    assert unknown[0] == 401
    assert "x-auth-user-id" not in unknown[1]
    if method != "HEAD":
        assert json.loads(known[2])["user"]["username"] == USER["username"]
        assert json.loads(unknown[2])["error"] == "not_authenticated"


def test_connect(port, token):
    """CONNECT is no such method: a proxy that sees it answered 200 would open a tunnel to us."""
    assert sent(port, "CONNECT /verify/x", {"Cookie": f"jwt={token}"})[0] == 405
    assert sent(port, "CONNECT /verify/x")[0] == 401


PATHS = [
    *("/verify/", "/verify//", "/verify/a/", "/verify/../user", "/verify/%2e%2e/user"),
    *("/verify/..%2fuser", "/verify%2Fuser", "/verify/%00", "/verify/%ff%c3", "/verify/;x=/user"),
    *("/verify/?status=401", "/verify/x?/../../user", "/verify/\\user", "/verify/%0d%0aX:%20y"),
    "/verify/" + "x" * 4_000,
    "http://other.example/verify/x",
]


def test_paths(port, token):
    """However the appended path is written, the answer is that of `/verify`, and no other's."""
    told = {path: sent(port, f"DELETE {path}", {"Cookie": f"jwt={token}"}) for path in PATHS}

    assert {path: each[0] for path, each in told.items()} == dict.fromkeys(PATHS, 200)
    assert {each[1]["x-auth-user-id"] for each in told.values()} == {"1"}
    assert {sent(port, f"GET {path}")[0] for path in PATHS} == {401}


@pytest.mark.parametrize(
    ("path", "status"),
    [("//verify/x", 404), ("/verifyx", 404), ("/Verify/x", 404), ("/x/verify/x", 404)]
    + [("/verify/" + "x" * 4_096, 414), ("/verify/ x", 400), ("*", 404)],
)
def test_other_paths(port, token, path, status):
    """What is not below `/verify/`, or longer than the server reads, lets nothing pass."""
    assert sent(port, f"GET {path}", {"Cookie": f"jwt={token}"})[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://other.example.com"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://app.example.com"}, 200),
        ({"Origin": "https://app.example.com"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://www.example.com"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({}, 200),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "TRACE"])
def test_other_sites(make_client, method, headers, status):
    """A method that may change something passes from the own host and allowed origins alone."""
    client = make_client(allowed_origins="https://www.example.com")
    fields = {"Cookie": f"jwt={token_of(client.register())}", "Host": "app.example.com", **headers}
    answer = client.simulate_request(method, "/verify/notes", headers=fields)

    assert answer.status_code == status
    assert answer.json.get("error") == ("cross_site_request" if status == 403 else None)
    assert client.simulate_get("/verify/notes", headers=fields).status_code == 200


def test_preflight(client):
    """A preflight, which has no cookie, is refused: the proxy answers those of an application."""
    asking = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}

    answer = client.simulate_options("/verify/notes", headers=asking)

    assert answer.status_code == 401
    assert [name for name in answer.headers if name.startswith("access-control")] == []


@pytest.mark.parametrize(
    "target",
    ["/", "/notes?a=b&c=%2F+d", "/a%2Fb", "//evil.example/", "/\\evil.example", "/?status=401"]
    + ["/verify/x", "/..%2F", "/@evil.example", "/?return_to=https://evil.example"],
)
def test_the_way_back(site, target):
    """A browser goes to the login page, and the way back is what it asked for, as it came."""
    for method in ("GET", "POST", "HEAD"):
        asked = {**BROWSER, "X-Forwarded-Uri": "/other", "Sec-Fetch-Site": "same-origin"}
        status, headers, _ = sent(site, f"{method} /verify{target}", asked)

        back = f"https://app.example.com{target}".replace("%", "%25")
        back = back.replace("&", "%26").replace("+", "%2B").replace("\\", "%5C")
        assert (status, headers["location"]) == (302, f"{PAGE}?return_to={back}")
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("GET http://app.example.com/verify/x", {}),
        ("GET /%76erify/x", {}),
        ("GET /verify%2Fx", {}),
        ("GET /verify/x", {"Host": "evil.example"}),
        ("GET /verify/x", {"Host": "app.example.com@evil.example"}),
        ("GET /verify/" + "<" * 700, {}),
    ],
)
def test_no_way_back(site, line, headers):
    """Where the target is not in the request line, or not on our host, there is no way back."""
    status, told, _ = sent(site, line, {**BROWSER, **headers})

    assert status in {302, 400}
    assert told.get("location", PAGE) == PAGE


def test_programs(site):
    """A program is not redirected, nor a browser that asks for the login page, in any method."""
    for method in METHODS + OTHERS:
        assert sent(site, f"{method} /verify/x", {"Accept": "*/*"})[0] == 401
    assert sent(site, "PUT /verify/x", BROWSER)[0] == 401
    assert sent(site, "GET /verify/login?return_to=x", BROWSER)[0] == 401


def test_embedded(make_client, token):
    """Below the prefix of an application, what follows that and `/verify` leads back."""
    client = make_client(public_url="http://a.example", login_url="http://a.example/login")
    told = {"REQUEST_URI": "/auth/verify/a%2Fb", "HTTP_HOST": "a.example"}

    answer = client.simulate_get("/verify/a/b", root_path="/auth", headers=BROWSER, extras=told)

    assert answer.headers["Location"].partition("return_to=")[2] == "http://a.example/a%252Fb"


def test_bodies(port, token):
    """A body that the proxy sends along is read and left alone; one over the limit is refused."""
    cookie = {"Cookie": f"jwt={token}"}
    next_one = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    chunked = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    kept = {**cookie, "Connection": "keep-alive"}

    sized = sent(port, "POST /verify/x", {**kept, "Content-Length": 5}, b"{bad}" + next_one)
    pieces = sent(port, "PUT /verify/x", {**kept, **chunked}, b"1\r\nx\r\n0\r\n\r\n" + next_one)
    large = sent(port, "POST /verify/x", {**cookie, "Content-Length": 1_000_000})

    assert (sized[0], pieces[0], large[0]) == (200, 200, 413)
    assert sized[2].count(b'"Alive."') == pieces[2].count(b'"Alive."') == 1


@pytest.mark.sqlite("on a server the loop looks the session up first: see test_look_ups")
def test_in_the_loop(client, token, clock):
    """Each method is answered in the loop, and renews nothing."""
    clock.move(3_601)
    for method in METHODS:
        answer = client.request_as(token, method, "/verify/a", extras={IN_LOOP: True})

        assert (answer.status_code, answer.cookies) == (200, {})
        assert client.app.inline.takes(method, "/verify/a/b")


def test_the_loop_takes_no_more(client):
    """Other routes, and other methods of quick ones, are left to threads as before."""
    takes = client.app.inline.takes

    assert not takes("POST", "/verify")
    assert not takes("POST", "/user")
    assert not takes("GET", "/verifyx")
    assert takes("GET", "/verify")


def test_no_path_in_the_metrics(client):
    """Metrics and the access log have the template of the route, whatever the path holds."""
    route = client.app.route_of("/verify/token=secret")

    assert route == "/verify/{path:path}"
    assert client.app.observed[route]


def test_other_methods_elsewhere(client, port, token):
    """Any other route answers a method that it does not have with 405, and OPTIONS with a list."""
    assert sent(port, "PROPFIND /user", {"Cookie": f"jwt={token}"})[0] == 405
    assert re.fullmatch(r"[A-Z, ]+", client.simulate_options("/verify").headers["Allow"])
