"""Deadlines of connections, by a clock that the tests move; and a stop, which waits for none."""

import re
import socket
import time
from contextlib import suppress

import pytest
from conftest import Clock, connected, exchange, running, serving
from test_server import GET, POST, assert_failure


@pytest.fixture(name="monotonic")
def _monotonic():
    """Return the clock that holds clients to their deadlines."""
    return Clock()


@pytest.fixture(name="port")
def _port(make_app, monotonic):
    with running(make_app(), clock=monotonic) as port:
        yield port


@pytest.mark.parametrize("message", [b"G", GET, POST + b"Content-Length: 99\r\n\r\n{"])
def test_deadline(port, monotonic, message):
    """A request that trickles is answered 408 when its time is up, however lately a byte came."""
    with connected(port) as slow:
        slow.sendall(message)
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(10)
        received = b""
        while chunk := slow.recv(65_536):
            received += chunk

    assert_failure(received, 408, "request_timeout")


def test_silent_connections(port, monotonic):
    """A connection that never asks is closed when the time for a request is up."""
    with connected(port) as silent:
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(10)
        assert silent.recv(1) == b""


def test_a_deadline_is_for_one_request(port, monotonic):
    """A kept-alive connection that has been answered is not overdue."""
    with connected(port) as idle:
        idle.sendall(GET + b"\r\n")
        assert b" 401 " in idle.recv(65_536)
        with connected(port) as silent:
            assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
            monotonic.move(10)
            assert silent.recv(1) == b""  # maintenance has run
        idle.sendall(GET + b"\r\n")
        assert b" 401 " in idle.recv(65_536)


def test_urgent_data(port, monotonic):
    """TCP's urgent data is no request: the connection ends like a silent one."""
    with connected(port) as connection:
        connection.send(b"!", socket.MSG_OOB)
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(10)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


@pytest.mark.parametrize("before", [b"", GET + b"\r\n"])
def test_blank_lines_are_no_request(port, monotonic, before):
    """Blank lines do not hold a connection open, neither a new one nor one that was answered."""
    with connected(port) as slow:
        if before:
            slow.sendall(before)
            assert b" 401 " in slow.recv(65_536)
        slow.sendall(b"\r\n\r\n")
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(10)
        assert slow.recv(1) == b""


@pytest.mark.parametrize("message", [b"", b"GET / HT", GET + b"\r\n"])
def test_a_stop_waits_for_nothing_idle(make_app, message):
    """Neither a kept connection, nor headers that never end, hold up a stop."""
    with (
        serving(make_app(), drain=3_600) as thread,
        connected(thread.port) as connection,
    ):
        connection.sendall(message)
        assert b" 401 " in exchange(thread.port, GET + b"Connection: close\r\n\r\n")
        thread.stop()
        thread.join(60)
        assert not thread.is_alive()


def test_idle_connections(port, monotonic):
    """A kept-alive connection that is silent for too long is closed."""
    with connected(port) as idle:
        idle.sendall(GET + b"\r\n")
        assert b" 401 " in idle.recv(65_536)
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(61)
        assert idle.recv(1) == b""


def test_a_clock_that_is_set(make_app, monkeypatch):
    """Connections do not end because the clock of the machine is set."""
    with running(make_app(), maintenance=0) as port, connected(port) as kept:
        kept.sendall(GET + b"\r\n")
        assert b" 401 " in kept.recv(65_536)
        monkeypatch.setattr(time, "time", lambda: 1e12)
        for _ in range(3):
            assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        kept.sendall(GET + b"\r\n")
        assert b" 401 " in kept.recv(65_536)


def test_deadline_of_a_request_that_came_with_another(port, monotonic):
    """A request that begins in one packet with a whole one has its deadline too."""
    with connected(port) as slow:
        slow.sendall(GET + b"\r\n" + POST + b"Content-Length: 9\r\n\r\n{")
        received = slow.recv(65_536)
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(10)
        while chunk := slow.recv(65_536):
            received += chunk

    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"401", b"408"]
