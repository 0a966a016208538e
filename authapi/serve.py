"""Running the service as a process: the socket, the one line that it says, the signals."""

from __future__ import annotations

import logging
import resource
import signal
import socket
import time
from collections.abc import Callable

from authapi.app import AuthAPI, create_app
from authapi.database import SQLITE_VERSION
from authapi.errors import StartError
from authapi.server import MOST_CONNECTIONS, Server
from authapi.settings import Settings

FEWEST_CONNECTIONS = 16
SPARE_FILES = 32  # descriptors for all but connections and the database

logger = logging.getLogger("authapi.serve")


def serve(settings: Settings, create: Callable[[Settings], AuthAPI] = create_app) -> None:
    """Run the service until SIGTERM or SIGINT, in the main thread. Raises StartError.

    `create` may be an application's own function, which adds its resources to `create_app`'s.
    """
    _log_to_stderr(settings.log_level)
    listener = listen(settings)
    settings = settings.on_port(listener.getsockname()[1])
    try:
        app = create(settings)
    except BaseException:
        listener.close()
        raise
    _warn(settings)
    server = Server(app, listener, settings.threads, _connections(settings))
    _stop_on_signals(server)
    print(  # noqa: T201 - the one line that a start says
        f"authapi listens on {settings.address}, database {settings.database_path}, "
        f"SQLite {SQLITE_VERSION}",
        flush=True,
    )
    server.run()
    app.close()


def listen(settings: Settings) -> socket.socket:
    """A socket bound to the host and port of the settings. Raises StartError."""
    try:
        info = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = info[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(settings, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise _cannot_listen(settings, error) from error
    return listener


def _cannot_listen(settings: Settings, error: OSError | UnicodeError) -> StartError:
    cause = getattr(error, "strerror", None) or "no host name"
    return StartError(
        f"Cannot listen on {settings.host}:{settings.port} ({cause}): "
        "stop what listens there, or set another AUTHAPI_HOST or AUTHAPI_PORT."
    )


def _stop_on_signals(server: Server) -> None:
    """Stop on the first SIGTERM or SIGINT; die of a second one."""

    def stop(*_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _connections(settings: Settings) -> int:
    """How many connections the limit of open files allows; raises that as far as it goes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MOST_CONNECTIONS + 3 * settings.threads + SPARE_FILES  # three for each thread's SQLite
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return (
        MOST_CONNECTIONS
        if soft == resource.RLIM_INFINITY
        else max(
            min(MOST_CONNECTIONS, soft - 3 * settings.threads - SPARE_FILES), FEWEST_CONNECTIONS
        )
    )


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler()
    formatter = logging.Formatter(
        "%(asctime)sZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # A line for each request that waits for a thread says nothing that the 503s do not.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def _warn(settings: Settings) -> None:
    """Say it where passwords are hashed more cheaply than OWASP's least (Password Storage)."""
    memory, passes = settings.argon2_memory_kib, settings.argon2_time_cost
    if memory < 7_168 or memory * passes < 5 * 7_168:
        logger.warning(
            "AUTHAPI_ARGON2_MEMORY_KIB=%d and AUTHAPI_ARGON2_TIME_COST=%d are below what OWASP "
            "recommends",
            memory,
            passes,
        )
