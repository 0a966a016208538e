"""The metrics port: a small server of its own, beside that of requests."""

from __future__ import annotations

import logging
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from selectors import EVENT_READ, EVENT_WRITE

from authapi.errors import StartError
from authapi.server.listeners import listen_on
from authapi.settings import ObservationSettings, Settings
from authapi.signals import kept_from_threads

PATH = "/metrics"
DEADLINE = 5.0  # seconds for a request and its answer
MOST_CONNECTIONS = 16  # of one worker; a further one takes the place of the oldest
LONGEST_REQUEST = 8_192  # bytes
PAUSE = 0.1  # seconds, while no file is left for a connection

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) (/[^ ?]*)(?:\?[^ ]*)? HTTP/1\.[01]\r\n")
_ACCEPT = re.compile(rb"\r\naccept:[ \t]*([^\r\n]*)\r\n", re.IGNORECASE)

Render = Callable[[str], tuple[str, bytes]]

logger = logging.getLogger("authapi.metrics")


@contextmanager
def metrics_socket(settings: Settings) -> Iterator[socket.socket | None]:
    """Yield a socket that listens on the settings' metrics address; None without one.

    Raises StartError, also where the library that writes the metrics is not installed.
    """
    host, port = settings.of(ObservationSettings).metrics_endpoint
    if port < 0:
        yield None
        return
    try:
        import authapi.server.exposition  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise StartError(
            f"AUTHAPI_METRICS_ADDRESS is set, and prometheus_client cannot be imported ({error}): "
            "install the extra, as by pip install '.[metrics]' in a clone."
        ) from error
    del authapi
    with closing(listen_on(host, port, "AUTHAPI_METRICS_ADDRESS")) as listener:
        listener.settimeout(0)
        yield listener


class Scrape:
    """A connection of a scraper: its request, and the answer that is on its way."""

    def __init__(self, connection: socket.socket) -> None:
        """Take the connection."""
        self.socket = connection
        self.ends = time.monotonic() + DEADLINE
        self._received = b""
        self._answer = memoryview(b"")

    def receive(self, render: Render) -> bool:
        """Take bytes; return whether the answer can be sent. Raises ConnectionError at the end."""
        data = self.socket.recv(LONGEST_REQUEST)
        if not data:
            raise ConnectionResetError
        self._received += data
        if b"\r\n\r\n" not in self._received and len(self._received) <= LONGEST_REQUEST:
            return False
        self._answer = memoryview(_answer(self._received, render))
        return True

    def send(self) -> bool:
        """Send a part of the answer; return whether that was all."""
        self._answer = self._answer[self.socket.send(self._answer) :]
        if self._answer:
            return False
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return True


def _answer(received: bytes, render: Render) -> bytes:
    """Return the whole answer to a request."""
    request = _REQUEST_LINE.match(received)
    accept = _ACCEPT.search(received)
    media_type, body = "text/plain; charset=utf-8", b""
    if b"\r\n\r\n" not in received:
        status = "431 Request Header Fields Too Large"
    elif request is None:
        status = "400 Bad Request"
    elif request[2].decode("latin-1") != PATH:
        status, body = "404 Not Found", f"The metrics are at {PATH}.\n".encode()
    elif request[1] not in {b"GET", b"HEAD"}:
        status = "405 Method Not Allowed\r\nAllow: GET, HEAD"
    else:
        status = "200 OK"
        media_type, body = render(accept[1].decode("latin-1") if accept else "")
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    is_head = request is not None and request[1] == b"HEAD"
    return head.encode() + (b"" if is_head else body)


class MetricsPort:
    """Answers scrapers in a thread of each worker, on the socket that all workers share.

    Any of them answers for all. NOTE: a slow scraper waits alone, because the thread waits for all
    connections at once; and it holds no more than a place that the next one takes.
    """

    def __init__(self, listener: socket.socket, render: Render) -> None:
        """Take the socket, and what writes the metrics for an `Accept` header."""
        self._listener, self._render = listener, render
        self._scrapes: dict[socket.socket, Scrape] = {}  # the oldest first
        self._selector = selectors.DefaultSelector()

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        thread = threading.Thread(target=self._run, name="authapi-metrics", daemon=True)
        with kept_from_threads():
            thread.start()

    def _run(self) -> None:
        self._selector.register(self._listener, EVENT_READ)
        while True:
            try:
                for key, _ in self._selector.select(1 if self._scrapes else None):
                    scrape = self._scrapes.get(key.fileobj)  # type: ignore[call-overload]
                    if scrape:
                        self._advance(scrape)
                    elif key.fileobj is self._listener:
                        self._accept()
                self._expire()
            except Exception:  # nothing is above a thread
                logger.exception("a scrape failed")
                time.sleep(PAUSE)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:  # another worker was quicker
            return
        except OSError:
            time.sleep(PAUSE)
            return
        connection.settimeout(0)
        while len(self._scrapes) >= MOST_CONNECTIONS:
            self._close(next(iter(self._scrapes.values())))
        self._scrapes[connection] = Scrape(connection)
        self._selector.register(connection, EVENT_READ)

    def _advance(self, scrape: Scrape) -> None:
        try:
            if self._selector.get_key(scrape.socket).events == EVENT_WRITE:
                if scrape.send():
                    self._close(scrape)
            elif scrape.receive(self._render):
                self._selector.modify(scrape.socket, EVENT_WRITE)
        except BlockingIOError:
            pass
        except OSError:
            self._close(scrape)
        except BaseException:
            self._close(scrape)
            raise

    def _expire(self) -> None:
        now = time.monotonic()
        while self._scrapes and (oldest := next(iter(self._scrapes.values()))).ends <= now:
            self._close(oldest)

    def _close(self, scrape: Scrape) -> None:
        del self._scrapes[scrape.socket]
        self._selector.unregister(scrape.socket)
        scrape.socket.close()
