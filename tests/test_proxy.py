"""A trusted proxy: whose forwarded headers count."""

import json
import logging
import re
import threading

import pytest
from conftest import USER, exchange, request, running

from authapi import Settings, StartError
from authapi.serve import listen
from authapi.server import Server

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


@pytest.mark.parametrize("settings", [{}, {"trusted_proxy": "192.0.2.1"}])
def test_nobody_is_trusted(ask, settings):
    """Without the setting, or from another address, forwarded headers change nothing."""
    assert ask(FORGED, **settings) == HERE


def test_trusted_proxy(ask):
    """From the trusted proxy the address, scheme and host of the client count; no others do."""
    assert ask(FORGED, trusted_proxy="127.0.0.1") == {
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
        ("2001:db8::9", "2001:db8::9"),
        ("[2001:db8::9]:443", "2001:db8::9"),
        ("203.0.113.9:1234", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:443", "203.0.113.9"),
        ("2001:DB8:0:0::9", "2001:db8::9"),
        ('"[2001:db8::9]"', "2001:db8::9"),
        ("203.0.113.9, ", "127.0.0.1"),
    ],
)
def test_one_hop(ask, forwarded_for, address):
    """Only what the proxy itself added counts: a client's own part of the list does not."""
    environ = ask({"X-Forwarded-For": forwarded_for}, trusted_proxy="127.0.0.1")

    assert address == environ["REMOTE_ADDR"]


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
        b"X-Forwarded-Host: a b",
        b"X-Forwarded-Host: <script>",
    ],
)
@pytest.mark.parametrize("path", [b"/user", b"/nowhere"])
def test_malformed(make_app, header, path):
    """What cannot be read ends with 400 in the envelope, with our headers, and is closed."""
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
    listener = listen(Settings(host="::", port=0))
    server = Server(app, listener, threads=4)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/environ"
        assert request(url)[1]["REMOTE_ADDR"] == "127.0.0.1"
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        assert request(url, **forwarded)[1]["REMOTE_ADDR"] == "203.0.113.9"
    finally:
        server.stop()
        thread.join()


def test_what_a_proxy_says_wrongly_is_logged(make_app, caplog):
    """An operator finds why a proxy's requests are refused."""
    with running(make_app(trusted_proxy="127.0.0.1")) as port:
        exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: unknown\r\n\r\n")

    assert "X-Forwarded-For from the trusted proxy: no address, 'unknown'" in caplog.text
