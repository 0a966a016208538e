"""A trusted proxy: whose forwarded headers count."""

import json
import logging
import re
import time

import pytest
from conftest import USER, exchange, request, running

from authapi import Settings, StartError
from authapi.notices import Notices
from authapi.server import listen
from authapi.server.forwarded import Forwarding

FORGED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "forged.example",
    "X-Forwarded-Port": "1",
    "X-Forwarded-By": "x",
    "Forwarded": 'for="203.0.113.8";proto=https;host=forged.example',
    "X-Real-IP": "203.0.113.7",
}


class Environ:
    public = True
    quick = True

    def on_get(self, req, resp):
        names = ("REMOTE_ADDR", "HTTP_HOST", "wsgi.url_scheme")
        forwarded = [name for name in req.env if "FORWARDED" in name]
        resp.media = {name: req.env[name] for name in names} | {"forwarded": sorted(forwarded)}

    on_post = on_get


@pytest.fixture(name="ask")
def _ask(make_app):
    """Ask a service for its environ, with and without the loop."""
    services = []

    def ask(headers, **settings):
        app = make_app(**settings)
        app.add_route("/environ", Environ())
        service = running(app)
        services.append(service)
        url = f"http://127.0.0.1:{service.__enter__()}"
        quick = request(f"{url}/environ", Host="here.example", **headers)[1]
        slow = request(f"{url}/environ", method="POST", Host="here.example", **headers)[1]
        assert quick == slow
        return quick

    yield ask
    for service in services:
        service.__exit__(None, None, None)


HERE = {
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_HOST": "here.example",
    "wsgi.url_scheme": "http",
    "forwarded": [],
}


@pytest.mark.parametrize("trusted", ["", "192.0.2.1", "127.0.0.2 10.0.0.0/8, ::1"])
def test_nobody_is_trusted(ask, trusted):
    """Without the setting, or from another address, forwarded headers change nothing."""
    assert ask(FORGED, trusted_proxy=trusted) == HERE


@pytest.mark.parametrize(
    "trusted", ["127.0.0.1", "127.0.0.0/8", "192.0.2.1, 127.0.0.1", "10.0.0.0/8 ::ffff:7f00:0/104"]
)
def test_trusted_proxy(ask, trusted):
    """From a trusted proxy the address, scheme and host of the client count; no others do."""
    assert ask(FORGED, trusted_proxy=trusted) == {
        "REMOTE_ADDR": "203.0.113.9",
        "HTTP_HOST": "forged.example",
        "wsgi.url_scheme": "https",
        "forwarded": ["HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PROTO"],
    }


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1,203.0.113.1,203.0.113.9", "203.0.113.9"),
        ("unknown, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.1 ,\t203.0.113.9\t", "203.0.113.9"),
        ("2001:db8::9", "2001:db8::9"),
        ("[2001:db8::9]:443", "2001:db8::9"),
        ("203.0.113.9:1234", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:443", "203.0.113.9"),
        ("2001:DB8:0:0::9", "2001:db8::9"),
        ('"[2001:db8::9]"', "2001:db8::9"),
        ('203.0.113.1, "203.0.113.9:80"', "203.0.113.9"),
        ("203.0.113.9, ", "127.0.0.1"),
        (",", "127.0.0.1"),
    ],
)
def test_one_hop(ask, forwarded_for, address):
    """Only what the proxy itself added counts: a client's own part of the list does not."""
    environ = ask({"X-Forwarded-For": forwarded_for}, trusted_proxy="127.0.0.1")

    assert address == environ["REMOTE_ADDR"]


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        ("203.0.113.1, 203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("203.0.113.9, 10.1.2.3, 127.0.0.1", "203.0.113.9"),
        ("203.0.113.9, ::ffff:10.1.2.3, [::1]:80", "203.0.113.9"),
        ("203.0.113.1, 10.1.2.3, 203.0.113.9", "203.0.113.9"),
        ("10.1.2.3, 10.1.2.4", "10.1.2.3"),
        ("203.0.113.1,, 10.1.2.3", "10.1.2.3"),
        # an address that only holds a proxy's address is not trusted
        ("203.0.113.1, 64:ff9b::10.1.2.3", "64:ff9b::a01:203"),
        ("203.0.113.1, 2002:a01:203::1", "2002:a01:203::1"),
        ("203.0.113.1, ::10.1.2.3", "::a01:203"),
    ],
)
def test_several_proxies(ask, forwarded_for, address):
    """With several proxies the client is the last address that is not a proxy's, or the first."""
    trusted = "127.0.0.1, 10.0.0.0/8, ::1"

    environ = ask({"X-Forwarded-For": forwarded_for}, trusted_proxy=trusted)

    assert address == environ["REMOTE_ADDR"]


@pytest.mark.parametrize("peer", ["fe80::1%eth0", "unix:", ""])
def test_a_peer_without_an_address(caplog, peer):
    """A peer that has no address, or one with a zone, is no trusted proxy, and stays as it is."""
    settings = Settings(trusted_proxy="fe80::/10 127.0.0.1")
    environ = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": "203.0.113.9"}

    Forwarding(settings, Notices(time.time)).apply(environ)

    assert {"REMOTE_ADDR": peer} == environ
    assert f"{peer} sends X-Forwarded headers" in caplog.text


def test_a_list_in_several_lines(make_app):
    """X-Forwarded-For in several lines is one list, in their order (RFC 9110, 5.3)."""
    app = make_app(trusted_proxy="127.0.0.1 10.0.0.0/8")
    app.add_route("/environ", Environ())
    lines = [b"203.0.113.1", b"203.0.113.9, 10.0.0.1", b"10.0.0.2"]
    fields = b"".join(b"X-Forwarded-For: " + line + b"\r\n" for line in lines)
    with running(app) as port:
        answer = exchange(port, b"GET /environ HTTP/1.0\r\n" + fields + b"\r\n")

    assert json.loads(answer.partition(b"\r\n\r\n")[2])["REMOTE_ADDR"] == "203.0.113.9"


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        ("http", "http"),
        ("https", "https"),
        ("HTTPS", "https"),
        ('"https"', "https"),
        ("ws", "http"),
        ("wss", "https"),
        ("", "http"),
    ],
)
def test_schemes(ask, proto, scheme):
    """The scheme of a client is http or https, also where a proxy calls it by WebSocket's names."""
    environ = ask({"X-Forwarded-Proto": proto}, trusted_proxy="127.0.0.1")

    assert scheme == environ["wsgi.url_scheme"]


@pytest.mark.parametrize(
    ("forwarded_host", "host"),
    [
        ("auth.example.com", "auth.example.com"),
        ("forged.example, auth.example.com:8443", "auth.example.com:8443"),
        ('"auth.example.com"', "auth.example.com"),
        ("", "here.example"),
        ("forged.example,", "here.example"),
    ],
)
def test_hosts(ask, forwarded_host, host):
    """The host is the one that the nearest proxy was asked for, or that of the request itself."""
    environ = ask({"X-Forwarded-Host": forwarded_host}, trusted_proxy="127.0.0.1")

    assert host == environ["HTTP_HOST"]


def test_real_ip_never_counts(ask):
    """X-Real-IP changes nothing, from the trusted proxy neither."""
    assert ask({"X-Real-IP": "203.0.113.7"}, trusted_proxy="127.0.0.1") == HERE


def test_a_proxy_that_says_nothing(ask):
    """A request of the proxy's own, without the headers, is its own."""
    assert ask({}, trusted_proxy="127.0.0.1") == HERE


@pytest.mark.parametrize(
    "header",
    [
        b"X-Forwarded-Proto: gopher",
        b"X-Forwarded-Proto: https, http",
        b'X-Forwarded-For: "203.0.113.9',
        b"X-Forwarded-For: unknown",
        b"X-Forwarded-For: <script>",
        b"X-Forwarded-For: [",
        b"X-Forwarded-For: fe80::1%eth0",
        b"X-Forwarded-For: [::1%x user_id=1]",
        b"X-Forwarded-For: 203.0.113.9:x",
        b"X-Forwarded-For: 203.0.113.9\xa0",
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https",
        b"X-Forwarded-Proto: https\x85",
        b'X-Forwarded-Proto: "https',
        b'X-Forwarded-Host: "x',
        b"X-Forwarded-Host: a b",
        b"X-Forwarded-Host: <script>",
    ],
)
@pytest.mark.parametrize("path", [b"/user", b"/nowhere"])
def test_malformed(make_app, header, path):
    """A value that cannot be read gets 400 in the envelope, with our headers, and is closed."""
    with running(make_app(trusted_proxy="127.0.0.1")) as port:
        answer = exchange(port, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"X-Content-Type-Options: nosniff" in head
    assert json.loads(body)["error"] == "bad_request"


@pytest.mark.parametrize("header", [b"X-Forwarded-Proto: gopher", b"X-Forwarded-For: unknown"])
def test_malformed_from_others(make_app, header):
    """From anyone else even that changes nothing."""
    with running(make_app()) as port:
        message = b"GET /user HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n"

        assert b" 401 " in exchange(port, message)


def test_the_log_and_the_list_name_the_client(make_app, caplog):
    """Sessions, the activity and the log have the client's address, not the proxy's."""
    caplog.set_level(logging.INFO)
    with running(make_app(trusted_proxy="127.0.0.1")) as port:
        url = f"http://127.0.0.1:{port}"
        headers = {"X-Forwarded-For": "203.0.113.9"}
        cookie = request(f"{url}/register", USER, **headers)[2]["Set-Cookie"].partition(";")[0]

        (session,) = request(f"{url}/sessions", Cookie=cookie, **headers)[1]["sessions"]
        (entry,) = request(f"{url}/user/activity", Cookie=cookie, **headers)[1]["activity"]

    assert session["ip"] == entry["ip"] == "203.0.113.9"
    assert re.search(r"registered user_id=1 ip=203\.0\.113\.9 ", caplog.text)


def test_forwarded_host_is_our_own(make_app):
    """Behind the proxy a browser's Origin is held to the host that it saw."""
    forwarded = {"X-Forwarded-Host": "auth.example.com", "X-Forwarded-Proto": "https"}
    with running(make_app(trusted_proxy="127.0.0.1")) as port:
        url = f"http://127.0.0.1:{port}/logout"

        ours = request(url, {}, Origin="https://auth.example.com", **forwarded)[0]
        theirs = request(url, {}, Origin="https://evil.example", **forwarded)[0]

    assert (ours, theirs) == (200, 403)


def has_ipv6():
    try:
        listen(Settings(host="::", port=0)).close()
    except StartError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("trusted", ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1"])
def test_ipv4_over_an_ipv6_socket(make_app, trusted):
    """A peer that comes over IPv4 to a socket of IPv6 has its address of IPv4."""
    app = make_app(trusted_proxy=trusted)
    app.add_route("/environ", Environ())
    with running(app, host="::") as port:
        url = f"http://127.0.0.1:{port}/environ"
        assert request(url)[1]["REMOTE_ADDR"] == "127.0.0.1"
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        assert request(url, **forwarded)[1]["REMOTE_ADDR"] == "203.0.113.9"


def test_what_a_proxy_says_wrongly_is_logged(make_app, caplog):
    """An operator finds why a proxy's requests are refused: one line a minute, with the value."""
    caplog.set_level(logging.INFO)
    field = b"X-Forwarded-For: unknown" + b"x" * 1_000
    with running(make_app(trusted_proxy="127.0.0.1")) as port:
        for _ in range(3):
            exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\n" + field + b"\r\n\r\n")

    shown = "'unknown" + "x" * 93 + "'"
    detail = f"error=bad_request network=127.0.0.1 AUTHAPI_TRUSTED_PROXY X-Forwarded-For={shown}"
    (line,) = [record.getMessage() for record in caplog.records if "error=" in record.getMessage()]
    assert line == f"refused {detail}"


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("field", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host"])
def test_a_proxy_that_is_not_trusted_is_warned_of(make_app, caplog, field):
    """One warning tells that a peer sends forwarded headers, which setting names it, and why."""
    with running(make_app(trusted_proxy="192.0.2.1")) as port:
        for _ in range(3):
            request(f"http://127.0.0.1:{port}/user", **{field: "x"})

    (warning,) = warnings(caplog)
    assert "127.0.0.1 sends X-Forwarded headers, which are ignored" in warning
    assert "all users share the limits of one address" in warning


def test_https_at_a_proxy_that_is_not_trusted_is_warned_of(make_app, caplog):
    """If the public URL is http too, a second warning says that the cookie is not Secure."""
    with running(make_app()) as port:
        for _ in range(3):
            request(f"http://127.0.0.1:{port}/user", **{"X-Forwarded-Proto": "https"})

    (_, warning) = warnings(caplog)
    assert "AUTHAPI_PUBLIC_URL is http://127.0.0.1:3001" in warning
    assert "the cookie is not Secure" in warning


@pytest.mark.parametrize(
    ("method", "headers", "seen"),
    [
        ("POST", {"X-Forwarded-Proto": "https"}, "https://auth.example.com"),
        ("POST", {"X-Forwarded-Host": "x.example:80"}, "http://x.example"),
        ("POST", {}, None),
        ("POST", {"X-Forwarded-Host": "AUTH.example.com:80", "X-Forwarded-Proto": "http"}, None),
        ("POST", {"X-Forwarded-Host": "%"}, None),
        ("GET", {"X-Forwarded-Host": "app.example.com"}, None),
    ],
)
def test_another_public_url_is_warned_of(make_app, caplog, method, headers, seen):
    """One warning tells that a proxy forwards for another URL than the public one.

    Requests that only read are none: with forward authentication they are of other hosts.
    """
    app = make_app(trusted_proxy="127.0.0.1", public_url="http://auth.example.com")
    with running(app) as port:
        for _ in range(3):
            url = f"http://127.0.0.1:{port}/logout"
            request(url, method=method, Host="auth.example.com", **headers)

    expected = f"forwards requests for {seen}, but AUTHAPI_PUBLIC_URL is http://auth.example.com"
    assert [expected in warning for warning in warnings(caplog)] == ([True] if seen else [])


@pytest.mark.parametrize("path", ["/user", "/login", "/verify", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("proto", ["http", "ws", "HTTP"])
def test_https_is_required(make_app, method, path, proto):
    """With an https public URL, a request that reached the proxy by http gets 403, no redirect."""
    app = make_app(trusted_proxy="127.0.0.1", public_url="https://auth.example.com")
    with running(app) as port:
        url, headers = f"http://127.0.0.1:{port}{path}", {"X-Forwarded-Proto": proto}
        status, body, headers = request(url, method=method, Cookie="__Host-jwt=x", **headers)

    assert (status, body["error"]) == (403, "https_required")
    assert headers["Set-Cookie"] is headers["Location"] is None
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("trusted", "headers"),
    [
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}),
        ("127.0.0.1", {}),
        ("", {"X-Forwarded-Proto": "http"}),
    ],
)
def test_https_is_not_missed(make_app, trusted, headers):
    """Requests that no trusted proxy calls plain http pass."""
    app = make_app(trusted_proxy=trusted, public_url="https://auth.example.com")
    with running(app) as port:
        assert request(f"http://127.0.0.1:{port}/user", **headers)[0] == 401


def test_https_that_is_missed_is_logged(make_app, caplog):
    """The refusal leaves a line that names the client's network, the header and the setting."""
    caplog.set_level(logging.INFO)
    app = make_app(trusted_proxy="127.0.0.1", public_url="https://auth.example.com")
    with running(app) as port:
        headers = {"X-Forwarded-Proto": "http", "X-Forwarded-For": "203.0.113.9"}
        request(f"http://127.0.0.1:{port}/user", **headers)

    line = "refused error=https_required network=203.0.113.9 X-Forwarded-Proto=http "
    assert f"{line}AUTHAPI_PUBLIC_URL=https://auth.example.com" in caplog.text
