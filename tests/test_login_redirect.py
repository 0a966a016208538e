"""Forward authentication with AUTHAPI_LOGIN_URL: browsers are redirected to the login page."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import connected, running

from authapi.settings import SettingError, Settings

PAGE = "https://auth.example.com/login"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
PROXY = {"X-Forwarded-Host": "app.example.com", "Host": "app.example.com"}
SITE = {
    "public_url": "https://auth.example.com",
    "allowed_origins": "https://app.example.com",
    "login_url": PAGE,
}


@pytest.fixture(name="site")
def _site(make_client):
    return make_client(**SITE)


def way_back(answer):
    """Return where a redirect to the login page leads back to, or None."""
    assert answer.status_code == 302
    url = urlsplit(answer.headers["Location"])
    assert url._replace(query="").geturl() == PAGE
    return parse_qs(url.query).get("return_to", [None])[0]


def asked(client, target, path="/verify", method="GET", **headers):
    """Ask as a proxy does for a browser that wants a target."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {**BROWSER, **NAVIGATION, **PROXY, "X-Forwarded-Uri": target, **named}
    return client.simulate_request(method, path, headers=given)


def test_a_browser(site):
    """A browser goes to the login page, with the way back, and nothing may keep the answer."""
    answer = asked(site, "/notes?a=b&c=%2F+d")

    assert way_back(answer) == "https://app.example.com/notes?a=b&c=%2F+d"
    assert (answer.json["error"], answer.headers["Cache-Control"]) == ("login_required", "no-store")
    assert way_back(asked(site, "/", Cookie="__Host-jwt=garbage")) == "https://app.example.com/"
    assert way_back(asked(site, "/", method="HEAD")) == "https://app.example.com/"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Mode": "cors", **BROWSER},
        {"Sec-Fetch-Mode": "websocket", "Upgrade": "websocket", "Connection": "Upgrade", **BROWSER},
        {"Sec-Fetch-Mode": "navigate, cors", **BROWSER},
        {"X-Requested-With": "XMLHttpRequest", **BROWSER},
        {"HX-Request": "true", **BROWSER},
        {"Accept": "application/json"},
        {"Accept": "*/*"},
        {},
    ],
)
def test_a_program(site, headers):
    """A program, also one that a page runs, gets the 401."""
    answer = site.simulate_get("/verify", headers={**PROXY, "X-Forwarded-Uri": "/", **headers})

    assert (answer.status_code, answer.json["error"]) == (401, "not_authenticated")
    assert "Location" not in answer.headers


def test_an_older_browser(site):
    """A browser without Fetch metadata is known by its Accept."""
    answer = site.simulate_get("/verify", headers={**BROWSER, **PROXY, "X-Forwarded-Uri": "/x"})

    assert way_back(answer) == "https://app.example.com/x"


def test_without_a_login_page(client):
    """Without the setting a browser gets the 401."""
    assert asked(client, "/").status_code == 401


def test_with_a_session(site):
    """A browser with a session is not redirected."""
    token = site.register().cookies["__Host-jwt"].value

    assert asked(site, "/", Cookie=f"__Host-jwt={token}").status_code == 200


@pytest.mark.parametrize(
    "target",
    ["", "evil", "evil.example/", "javascript:alert(1)", "https://evil.example/", "@evil.example/"]
    + [".evil.example/", ":pass@evil.example/", "\\\\evil.example", "/é", "/a b", "/" + "x" * 2_048]
    + ["/" + "<" * 700],
)
def test_targets_that_lead_nowhere(site, target):
    """A target that is no path, or too long, is left out."""
    assert way_back(asked(site, target)) is None


@pytest.mark.parametrize(
    "target",
    ["//evil.example/", "/\\evil.example", "/%2Fevil.example", "/a%2Fb", "/%0d%0aX: y"[:7]]
    + ["/#@evil.example", "/?return_to=https://evil.example", "/&return_to=https://evil.example"],
)
def test_targets_stay_on_their_host(site, target):
    """However a target is written, the way back is on the host of the application, as it came."""
    found = way_back(asked(site, target))

    assert found == f"https://app.example.com{target}"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "app.example.com.evil.example", "evilapp.example.com", "app.example.com:8443"]
    + ["app.example.com@evil.example", "", "app.example.com.", "sub.app.example.com"],
)
def test_hosts_that_are_not_ours(site, host):
    """No way back leads to a host that is neither ours nor allowed."""
    assert way_back(asked(site, "/", Host=host or "x", X_Forwarded_Host=host)) is None


def test_hosts_of_the_cookie(make_client):
    """With AUTHAPI_COOKIE_DOMAIN each host below it may be led back to, and no other."""
    domain = {"cookie_domain": "example.com", "cookie_name": "__Secure-jwt"}
    site = make_client(**SITE, **domain)

    for host in ("wiki.example.com", "example.com", "a.b.example.com:8443", "WIKI.example.com"):
        assert way_back(asked(site, "/", Host=host)) == f"https://{host.lower()}/"
    for host in ("example.com.evil.example", "evilexample.com", "com"):
        assert way_back(asked(site, "/", Host=host)) is None


def test_a_login_page_that_needs_a_session(site):
    """A request for the login page is not redirected to it again, but gets the 401."""
    at_page = {"Host": "auth.example.com", "X_Forwarded_Host": "auth.example.com"}

    assert asked(site, "/login?return_to=x", **at_page).status_code == 401
    assert way_back(asked(site, "/log", **at_page)) == "https://auth.example.com/log"


def test_under_nginx(site):
    """With ?status=401 the redirect is a 401 with Location, which nginx can use."""
    answer = asked(site, "/notes", path="/verify?status=401")

    assert (answer.status_code, answer.json["error"]) == (401, "login_required")
    assert answer.headers["Location"] == f"{PAGE}?return_to=https://app.example.com/notes"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_page_with_a_query(make_client):
    """The way back is added to the query of the login page."""
    client = make_client(**{**SITE, "login_url": f"{PAGE}?lang=de"})

    assert asked(client, "/a").headers["Location"] == (
        f"{PAGE}?lang=de&return_to=https://app.example.com/a"
    )


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("/login", "http:// or https://, a host"),
        ("//evil.example/login", "http:// or https://, a host"),
        ("javascript:alert(1)", "http:// or https://, a host"),
        ("https://auth.example.com/\r\nX: y", "http:// or https://, a host"),
        ("https://auth.example.com/#top", "http:// or https://, a host"),
        ("https://auth.example.com\\login", "http:// or https://, a host"),
        ("https://auth.example.com/a\\b", "http:// or https://, a host"),
        ("https://user@auth.example.com/", "http:// or https://, a host"),
        ("http://auth.example.com/login", "an https:// URL"),
    ],
)
def test_bad_pages(url, wanted):
    """A login page that is no URL, or is without TLS, stops the start with one sentence."""
    with pytest.raises(SettingError) as caught:
        Settings(public_url="https://auth.example.com", login_url=url)

    told = str(caught.value)
    assert told.startswith("AUTHAPI_LOGIN_URL must be ")
    assert wanted in told
    assert "\n" not in told


def _sent(port, headers):
    with connected(port) as connection:
        connection.sendall(b"GET /verify HTTP/1.1\r\nConnection: close\r\n" + headers + b"\r\n")
        return b"".join(iter(lambda: connection.recv(65_536), b""))


HEAD = b"Host: app.example.com\r\nAccept: text/html\r\nX-Forwarded-Host: app.example.com\r\n"


@pytest.mark.parametrize("proxy", ["127.0.0.1", "10.9.9.9"])
def test_only_a_trusted_proxy_names_the_target(make_app, proxy):
    """X-Forwarded-Uri counts from a trusted proxy; from anybody else there is no way back."""
    app = make_app(
        trusted_proxy=proxy, public_url="http://app.example.com", login_url="http://a.example/login"
    )
    with running(app) as port:
        told = _sent(port, HEAD + b"X-Forwarded-Uri: /notes\r\n")

    (location,) = re.findall(rb"\r\nLocation: ([^\r]*)", told)
    trusted = b"?return_to=http://app.example.com/notes" if proxy == "127.0.0.1" else b""
    assert location == b"http://a.example/login" + trusted


@pytest.mark.parametrize("value", [b"/a\nX-Evil: 1", b"/a\r\n X-Evil: 1", b"/a\rX-Evil: 1", b"/\0"])
def test_line_breaks(make_app, value):
    """A line break within a header is 400, or ends the header: none is in an answer."""
    app = make_app(trusted_proxy="127.0.0.1", login_url="http://a.example/login")
    with running(app) as port:
        told = _sent(port, HEAD + b"X-Forwarded-Uri: " + value + b"\r\n")

    assert told.startswith(b"HTTP/1.1 400 ")
    assert b"\nX-Evil" not in told
