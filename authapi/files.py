"""What the database needs of the file system: a lock, which file has a name, and its mode."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from authapi.errors import Unavailable

LOCK_POLL = 0.001  # seconds between two tries for a lock

logger = logging.getLogger("authapi.files")


@contextmanager
def file_locked(path: str, deadline: float) -> Iterator[None]:
    """Hold the lock on a file, made if need be; the system lets go of it in a crash.

    Raises Unavailable where another process holds it until the deadline, in monotonic seconds.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable from error
    try:
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise Unavailable from TimeoutError("another process kept on writing")
            time.sleep(LOCK_POLL)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def identity(name: str) -> tuple[int, int] | None:
    """Which file has a name now; None where there is none, or it cannot be told."""
    try:
        found = os.stat(name)  # noqa: PTH116 - half the time of Path.stat
    except OSError:
        return None
    return found.st_dev, found.st_ino


def keep_to_owner(path: Path) -> None:
    """Take a file that others can read from them: it holds password hashes."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        logger.warning("others could read %s (mode %04o)", path, mode)
        with suppress(PermissionError):  # its owner is another user, who lets us write
            path.chmod(mode & 0o700)
