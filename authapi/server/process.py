"""Running the service as a process: the socket, the one line that it says, the signals."""

from __future__ import annotations

import errno
import logging
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

from authapi.app import AuthAPI, create_app
from authapi.errors import StartError
from authapi.hosts import are_same_site, look_up
from authapi.machine import memory_limit
from authapi.server.forwarded import resolved
from authapi.server.http_server import MOST_CONNECTIONS, Server
from authapi.server.streams import unblock
from authapi.server.workers import Workers
from authapi.settings import Settings, require_settings
from authapi.signals import END_SIGNALS, end_at_once

FEWEST_CONNECTIONS = 16
SPARE_FILES = 32  # descriptors for all but connections and the database
# Of a worker, beside its hash slots: 38 at rest, at most 87 under the attacks of `faults.memory`,
# and 26 that the kernel keeps for its connections.
PROCESS_MIB = 120

# SECURITY: else the kernel keeps megabytes for a connection that nobody reads, at our expense.
BUFFERS = (
    (socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384),
    (socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536),  # less stalls on the loopback interface
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 16_384),
)

logger = logging.getLogger("authapi.serve")


def serve(settings: Settings, create: Callable[[Settings], AuthAPI] = create_app) -> None:
    """Run the service until SIGTERM, SIGINT or SIGHUP, in the main thread. Raises StartError.

    Before it answers requests, a signal ends the process at once. Standard output and error are
    replaced by streams that nobody has to read, and stay so.

    `create` may be an application's own function, which adds its resources to `create_app`'s. It is
    called once; several workers are forked after it, so it must leave no thread or connection open.

    NOTE: so a worker that is started again has the keys and the schema of the others, whatever has
    become of the files meanwhile.
    """
    require_settings(settings)
    end_at_once()
    unblock()
    _log_to_stderr(settings.log_level)
    memory = memory_needed(settings)
    one = settings.workers == 1
    with closing(listen(settings) if one else hold(settings)) as port:
        settings = settings.on_port(port.getsockname()[1])
        settings = settings.replace(trusted_proxy=resolved(settings.trusted_proxy))
        app = create(settings)
        ready = partial(_say_ready, settings, app.core.database.description, memory)
        if one:
            _answer(settings, app, port, ready)
        else:
            app.prepare_to_fork()
            Workers(settings.workers, partial(_work, settings, app, port)).run(ready)


def _say_ready(settings: Settings, database: str, memory: str) -> None:
    _warn_of_cost(settings)
    _warn_of_other_sites(settings)
    print(  # noqa: T201 - the one line that a start says
        f"authapi listens on {settings.address}, database {database}, memory up to {memory}",
        flush=True,
    )


def _work(settings: Settings, app: AuthAPI, port: socket.socket, ready: Callable[[], None]) -> None:
    """Be one of several workers, on a socket of its own.

    NOTE: of a socket that all of them have, one worker sometimes takes every connection.
    """
    with closing(listen_beside(port, settings)) as listener:
        port.close()
        _answer(settings, app, listener, ready)


def _answer(
    settings: Settings, app: AuthAPI, listener: socket.socket, ready: Callable[[], None]
) -> None:
    """Answer requests until a signal.

    NOTE: what a thread still runs at the end keeps its connection, or SQLite would crash under it.
    """
    server = Server(app, listener, settings.threads, _connections(settings))
    _stop_on_signals(server, dies_of_second=settings.workers == 1)
    app.maintain()
    ready()
    server.run()
    if not server.task_dispatcher.threads:
        app.close()


def listen(settings: Settings) -> socket.socket:
    """A socket that alone listens on the host and port of the settings. Raises StartError."""
    try:
        family, _, _, _, address = look_up(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _bind(family, address)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(settings, error) from error


def hold(settings: Settings) -> socket.socket:
    """A socket that keeps the port for those that `listen_beside` it, and takes no connection.

    Raises StartError.

    NOTE: a socket that listens alone is refused where any other is bound that does not give its
    address away. So a second service is refused, also while no worker of the first one listens.
    """
    with closing(listen(settings)) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            holder = _bind(alone.family, alone.getsockname(), socket.SO_REUSEPORT, listens=False)
        except OSError as error:
            raise _cannot_listen(settings, error) from error
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return holder


def listen_beside(holder: socket.socket, settings: Settings) -> socket.socket:
    """A socket that gets its share of the connections to a port. Raises StartError."""
    try:
        return _bind(holder.family, holder.getsockname(), socket.SO_REUSEPORT)
    except OSError as error:
        raise _cannot_listen(settings, error) from error


def _bind(family: int, address: Any, *options: int, listens: bool = True) -> socket.socket:  # noqa: ANN401 - socket's
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in (socket.SO_REUSEADDR, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        for level, option, value in BUFFERS:
            bound.setsockopt(level, option, value)
        bound.bind(address)
        if listens:
            bound.listen(MOST_CONNECTIONS)  # so many may wait, as far as the system lets them
    except OSError:
        bound.close()
        raise
    return bound


def memory_needed(settings: Settings, limit: int | None = None) -> str:
    """The most memory that the service takes, and what of. Raises StartError over the limit.

    The limit is in bytes; without one it is the container's.
    """
    base, slots = PROCESS_MIB * settings.workers, settings.workers * settings.hash_slots
    cost = -(-settings.argon2_memory_kib // 1_024)
    needed = base + slots * cost
    text = (
        f"{needed} MiB ({base} + {settings.workers} worker{'s'[: settings.workers > 1]} "
        f"x {settings.hash_slots} hash slot{'s'[: settings.hash_slots > 1]} x {cost})"
    )
    limit = limit or memory_limit()
    if limit and needed > limit >> 20:
        raise StartError(
            f"The memory limit of {limit >> 20} MiB is less than the {text} that may be needed: "
            "raise it, or lower AUTHAPI_WORKERS, AUTHAPI_HASH_SLOTS or AUTHAPI_ARGON2_MEMORY_KIB."
        )
    return text


def _cannot_listen(settings: Settings, error: OSError | UnicodeError) -> StartError:
    cause = getattr(error, "strerror", None) or "no host name"
    advice = "set another AUTHAPI_HOST"
    if isinstance(error, PermissionError):
        advice = (
            "this user may not take that port, so set AUTHAPI_PORT to 1024 or more and let a proxy "
            "listen there, or grant CAP_NET_BIND_SERVICE"
        )
    elif getattr(error, "errno", None) == errno.EADDRINUSE:
        advice = "stop what listens there, or set another AUTHAPI_HOST or AUTHAPI_PORT"
    elif getattr(error, "errno", None) == errno.EADDRNOTAVAIL:
        advice = "this machine has no such address, so set AUTHAPI_HOST to one of its own"
    return StartError(f"Cannot listen on {settings.host}:{settings.port} ({cause}): {advice}.")


def _stop_on_signals(server: Server, *, dies_of_second: bool) -> None:
    """Stop on the first signal. A worker has a parent who knows when to lose patience.

    NOTE: a worker may get one SIGTERM from its parent, and another from who sends it to everyone.
    """

    def stop(*_: object) -> None:
        if dies_of_second:
            end_at_once()
        server.stop()

    for number in END_SIGNALS if dies_of_second else [signal.SIGTERM]:
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


def _warn_of_cost(settings: Settings) -> None:
    """Say it where passwords are hashed more cheaply than OWASP's least (Password Storage)."""
    memory, passes = settings.argon2_memory_kib, settings.argon2_time_cost
    if memory < 7_168 or memory * passes < 5 * 7_168:
        logger.warning(
            "AUTHAPI_ARGON2_MEMORY_KIB=%d and AUTHAPI_ARGON2_TIME_COST=%d are below what OWASP "
            "recommends",
            memory,
            passes,
        )


def _warn_of_other_sites(settings: Settings) -> None:
    """Warn of allowed origins from which browsers send no cookie, such as localhost's to 127.0.0.1.

    The cookie is `SameSite=Lax`, which leaves it out of requests that another site's page makes.
    """
    others = [each for each in settings.origins if not are_same_site(each, settings.public_url)]
    if others:
        logger.warning(
            "AUTHAPI_ALLOWED_ORIGINS has %s, which is another site than AUTHAPI_PUBLIC_URL %s: "
            "browsers send no cookie with its requests to that URL. Open both by one host name, or "
            "by names of one domain, and by one scheme.",
            ", ".join(sorted(others)),
            settings.public_url,
        )
