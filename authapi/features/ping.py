"""Ping: whether a running service is ready, for the health check of a container.

Endpoints: none. Command: `authapi ping`. Table: none.

NOTE: it runs every few seconds, so it imports no more than it needs: no settings, no http.client.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from authapi.commands import Argument, Call, Command, CommandError

DEADLINE = 5.0  # seconds for all of it
LARGEST_PORT = 65_535  # a look-up takes a higher one for another
LONGEST_ANSWER = 65_536  # bytes
PATH = "/readyz"
HOST, PORT = "127.0.0.1", 3001  # the defaults of AUTHAPI_HOST and AUTHAPI_PORT

_URL = re.compile(r"(https?)://(\[[0-9A-Za-z:.%]+\]|[^/?#@\s:\[\]]+)(?::(\d{1,5}))?(/[^?#\s]*)?")
_LINK = re.compile(r"(tcp|udp|sctp)://.*")  # as Kubernetes sets AUTHAPI_PORT in a pod
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_REASON = re.compile(rb'"reason": ?"(\w+)"')
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - of a service that listens on all


def url_of(environ: Mapping[str, str]) -> str:
    """Return the URL at which a service with this environment listens on this machine.

    Raises CommandError.
    """
    port = environ.get("AUTHAPI_PORT", "")
    host, port = environ.get("AUTHAPI_HOST", ""), "" if _LINK.fullmatch(port) else port
    given: Mapping[str, Any] = {}
    if environ.get("AUTHAPI_CONFIG") and not (host and port):
        given = _file(environ["AUTHAPI_CONFIG"])
    host, port = host or str(given.get("host") or HOST), port or str(given.get("port", PORT))
    if port.strip("0") == "":
        raise CommandError("AUTHAPI_PORT is 0, so the port is not known: name the URL.")
    host = _LOOPBACK.get(host.strip("[]"), host.strip("[]"))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _file(name: str) -> Mapping[str, Any]:
    """Return what the settings file sets. Raises CommandError."""
    import tomllib  # noqa: PLC0415 - few have such a file

    try:
        return tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CommandError(
            f"The settings file {name} cannot be read ({error}): let this user read it, "
            "or name the URL."
        ) from error


def ping(url: str) -> None:
    """Return where the service at a URL is ready. Raises CommandError where it is not.

    A path in the URL is the prefix under which a proxy, or `mount`, has the service.
    """
    match = _URL.fullmatch(url)
    if match is None or int(match[3] or 1) not in range(1, LARGEST_PORT + 1):
        raise CommandError(f"{url!r} is no URL such as http://127.0.0.1:3001.", "usage")
    scheme, host, port, prefix = match[1], match[2], match[3], (match[4] or "").rstrip("/")
    place = f"{host}:{port}" if port else host
    try:
        answer = _ask(scheme, host.strip("[]"), int(port or 0), f"{prefix}{PATH}", place)
    except (OSError, UnicodeError, OverflowError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"{url} does not answer ({cause}).", "no_answer") from error
    status, reason = _STATUS.match(answer), _REASON.search(answer)
    if status is None:
        raise CommandError(f"{url} does not answer in HTTP.", "no_answer")
    if status[1] != b"200":
        word = f" ({reason[1].decode()})" if reason else ""
        raise CommandError(
            f"{url} is not ready: {prefix}{PATH} answers {status[1].decode()}{word}.", "not_ready"
        )


def _ask(scheme: str, host: str, port: int, path: str, place: str) -> bytes:
    """Return the answer to a GET. Raises OSError."""
    deadline = time.monotonic() + DEADLINE
    address = host, port or {"http": 80, "https": 443}[scheme]
    with closing(socket.create_connection(address, timeout=DEADLINE)) as plain:
        connection = plain
        if scheme == "https":
            import ssl  # noqa: PLC0415 - it takes as long as all the rest

            connection = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
        with closing(connection):
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode()
            )
            return _received(connection, deadline)


def _received(connection: socket.socket, deadline: float) -> bytes:
    """Return what comes until the end, or until there is enough. Raises OSError."""
    received = b""
    while len(received) < LONGEST_ANSWER:
        rest = deadline - time.monotonic()
        if rest <= 0:
            raise TimeoutError(f"no whole answer within {DEADLINE:.0f} seconds")
        connection.settimeout(rest)
        data = connection.recv(65_536)
        if not data:
            break
        received += data
    return received


def _run(call: Call) -> None:
    config = call.arguments.AUTHAPI_CONFIG or os.environ.get("AUTHAPI_CONFIG", "")
    url = call.arguments.url or url_of({**os.environ, "AUTHAPI_CONFIG": config})
    ping(url)
    call.console.show({"status": "ok", "url": url}, f"{url} is ready.")


COMMANDS = (
    Command(
        "ping",
        description="Ask a running service whether it is ready: GET /readyz. The exit status is 0 "
        "where it is, and otherwise 1.",
        run=_run,
        arguments=(
            Argument(
                "url",
                "where the service is (default: this machine, by AUTHAPI_HOST and AUTHAPI_PORT)",
                metavar="URL",
                nargs="?",
            ),
        ),
        needs_service=False,
    ),
)
