"""The nginx example as it stands: TLS, redirects, and sessions over it."""

import http.client
import json
import shutil
import socket
import ssl
from contextlib import closing

import pytest
from conftest import USER, connected
from proxies import OURS, Site, nginx_with_tls

pytest_plugins = ("proxies_fixtures",)


@pytest.fixture(name="ports")
def _ports():
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture(name="secure")
def _secure(behind, ports):
    """Run the nginx example unchanged, with TLS."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    return behind(nginx_with_tls, *ports, public_url="https://example.com")


def handshake(port, **limits):
    """Return the version and cipher that a client with such limits agrees on; None on failure."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(limits.pop("ciphers", "ALL:@SECLEVEL=0"))
    for name, value in limits.items():
        setattr(context, name, value)
    try:
        with connected(port) as plain, context.wrap_socket(plain) as wrapped:
            return wrapped.version(), wrapped.cipher()[0]
    except ssl.SSLError:
        return None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls(secure):
    """The nginx example speaks TLS 1.2 and 1.3 alone, with forward secrecy and AEAD ciphers."""
    version = ssl.TLSVersion

    assert handshake(secure.port)[0] == "TLSv1.3"
    assert handshake(secure.port, maximum_version=version.TLSv1_2)[0] == "TLSv1.2"
    old = {"minimum_version": version.TLSv1, "maximum_version": version.TLSv1_1}
    assert handshake(secure.port, **old) is None
    for ciphers in ("kRSA", "kDHE", "ECDHE+AES128+SHA1", "ECDHE+AES256+SHA384:!AESGCM"):
        limits = {"ciphers": f"{ciphers}:@SECLEVEL=0", "maximum_version": version.TLSv1_2}
        assert handshake(secure.port, **limits) is None, ciphers


def test_plain_http_is_redirected(secure, ports):
    """The nginx example sends whoever comes without TLS to the same path with it."""
    plain = Site(ports[1], None, secure.seen, OURS)

    answer = plain.ask("POST", "/app?a=b", "{}", Host="example.com")

    assert (answer.status, answer.headers["Location"]) == (308, "https://example.com/app?a=b")
    assert secure.seen == []


def test_session_over_tls(secure):
    """Behind the nginx example the session cookie is Secure, and opens the application."""
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", secure.port, timeout=30, context=context)
    with closing(connection):
        connection.request(
            "POST", "/auth/register", json.dumps(USER), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
        answer.read()
        connection.request("GET", "/app", headers={"Cookie": cookie})
        status = connection.getresponse().status

    assert (answer.status, cookie.partition("=")[0], status) == (201, "__Host-jwt", 200)
    assert "Secure" in attributes
    assert secure.named() == OURS
    assert dict(secure.seen[-1]["headers"])["x-forwarded-proto"] == "https"
