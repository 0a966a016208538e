"""Listening sockets: a port for one process, or for several that share it."""

from __future__ import annotations

import errno
import socket
from contextlib import closing
from typing import Any

from authapi.errors import StartError
from authapi.hosts import look_up
from authapi.server.bounds import DEFAULT
from authapi.settings import ServerSettings, Settings

# SECURITY: else the kernel keeps megabytes for a connection that nobody reads, at our expense.
BUFFERS = (
    (socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384),
    (socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536),  # less stalls on the loopback interface
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 16_384),
)


def listen(settings: Settings) -> socket.socket:
    """Return a socket that alone listens on the settings' host and port. Raises StartError."""
    server = settings.of(ServerSettings)
    try:
        family, _, _, _, address = look_up(
            server.host, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _bind(family, address)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(settings, error) from error


def listen_on(host: str, port: int, setting: str) -> socket.socket:
    """Return a socket that listens on a host and port, which a setting names. Raises StartError."""
    try:
        family, _, _, _, address = look_up(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return _bind(family, address)
    except (OSError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or "no host name"
        raise StartError(
            f"Cannot listen on {host}:{port} ({cause}): set another {setting}."
        ) from error


def hold(settings: Settings) -> socket.socket:
    """Return a socket that keeps the port for `listen_beside`, and takes no connection.

    Raises StartError.

    NOTE: a socket that listens alone is refused where any other is bound that does not share its
    address. So a second service is refused, also while no worker of the first one listens.
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
    """Return a socket that gets its share of the connections to a port. Raises StartError."""
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
            bound.listen(DEFAULT.connections)  # so many may wait, as far as the system lets them
    except OSError:
        bound.close()
        raise
    return bound


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
    server = settings.of(ServerSettings)
    return StartError(f"Cannot listen on {server.host}:{server.port} ({cause}): {advice}.")
