"""Connections stay open or close as `Connection` says."""

import pytest
from conftest import connected, running


@pytest.mark.parametrize(
    ("version", "field", "closes"),
    [
        (b"1.1", b"", False),
        (b"1.1", b"Connection: close\r\n", True),
        (b"1.1", b"Connection: TE, Close\r\n", True),
        (b"1.1", b"Connection: keep-alive\r\nConnection: close\r\n", True),
        (b"1.1", b"Connection: closed\r\n", False),
        (b"1.0", b"", True),
        (b"1.0", b"Connection: Keep-Alive, TE\r\n", False),
        (b"1.0", b"Connection: close, keep-alive\r\n", True),
    ],
)
def test_options_of_the_connection(make_app, version, field, closes):
    """`Connection` is a list, in any case and in several lines (RFC 9110, 7.6.1)."""
    message = b"GET /user HTTP/" + version + b"\r\nHost: x\r\n" + field + b"\r\n"
    last = b"GET /user HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with running(make_app()) as port, connected(port) as connection:
        connection.sendall(message + last)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk

    assert received.count(b" 401 ") == 2 - closes
