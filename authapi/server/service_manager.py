"""Telling the service manager that the service is ready (sd_notify(3) of systemd)."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger("authapi.serve")


def tell_ready() -> None:
    """Send READY=1 to the socket in NOTIFY_SOCKET, if the service manager set that variable.

    A unit with `Type=notify` counts as started from then on.
    """
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        return
    address = name.replace("@", "\0", 1) if name.startswith("@") else name  # abstract, or a path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
            teller.sendto(b"READY=1", address)
    except OSError as error:
        logger.warning("cannot tell the service manager of the start: %s", error)
