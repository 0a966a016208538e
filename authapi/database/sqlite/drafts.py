"""Drafts: a file is written under a temporary name, and appears whole or not at all."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from authapi.errors import StartError
from authapi.secret_files import synchronize
from authapi.signals import kept_from_threads

ENDINGS = ("", "-journal", "-wal", "-shm", ".lock", ".run")  # what SQLite and we put beside it
LOGS = ("-wal", "-journal")
DRAFT, KEPT = ".restore", ".replaced-"  # of a restore: the copy, and what it replaced
SPARE = 1 << 20  # bytes: what else is written meanwhile, such as a log

logger = logging.getLogger("authapi.restore")


@contextmanager
def draft_of(path: Path, ending: str = ".part") -> Iterator[Path]:
    """Make an empty file beside a path for the block, for its owner alone; remove it at the end.

    A draft that a killed process left is replaced. Raises OSError, and StartError where another
    process writes the same one.
    """
    draft = path.with_name(path.name + ending)
    descriptor = None
    try:
        with kept_from_threads():  # NOTE: a signal that ends the command waits until it is ours
            descriptor = _claim(draft)
        yield draft
    finally:
        if descriptor is not None:
            remove(draft)
            os.close(descriptor)


def publish(draft: Path, path: Path) -> None:
    """Give a finished draft its name, on the disk too. Raises OSError, where it is taken too."""
    synchronize(draft)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise
    except OSError:  # the file system has no hard links
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        draft.replace(path)
    synchronize(path.parent)


def remove(draft: Path) -> None:
    """Remove a draft, after the files beside it."""
    for ending in reversed(ENDINGS):
        Path(f"{draft}{ending}").unlink(missing_ok=True)


def require_room(path: Path, needed: int) -> None:
    """Raise StartError where the file system of a path has less room than so many bytes."""
    found = os.statvfs(path.parent)
    free = found.f_bavail * found.f_frsize
    if free < needed + SPARE:
        raise StartError(
            f"{path} needs {mib(needed + SPARE)} and {mib(free)} are free: make room in "
            f"{path.parent}."
        )


def mib(size: int) -> str:
    """Return a number of bytes as people read it, rounded up: `1,024 MiB`."""
    return f"{-(-size // (1 << 20)):,} MiB"


def clear_interrupted(real_path: Path) -> None:
    """Remove what a restore left that was killed. No restore may be running.

    The database is the old one if it has a second name, and whole in any case.
    """
    for kept in real_path.parent.iterdir():
        with suppress(FileNotFoundError):  # another start was quicker
            if kept.name.startswith(real_path.name + KEPT) and kept.samefile(real_path):
                for ending in LOGS:
                    move(f"{kept}{ending}", f"{real_path}{ending}")
                kept.unlink()
    draft = real_path.with_name(real_path.name + DRAFT)
    if draft.exists():
        logger.warning("a restore of %s was interrupted, and has changed nothing", real_path)
    remove(draft)


def move(source: str, target: str) -> None:
    """Rename a file if it is there, and the new name is free."""
    with suppress(FileNotFoundError):
        if not os.path.lexists(target):
            Path(source).rename(target)


def _claim(draft: Path) -> int:
    """Make a draft, and return its descriptor, which holds a lock on it.

    SECURITY: a file that is there is never written to: it is removed if it is ours, and no process
    has the lock.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        left = os.open(draft, flags)
    except FileNotFoundError:
        pass
    else:
        try:
            found = os.fstat(left)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise StartError(f"{draft} is not a draft of this user: move it away.")
            _lock(left, draft)
            remove(draft)
        finally:
            os.close(left)
    descriptor = os.open(draft, flags | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _lock(descriptor, draft)
        _require_name(descriptor, draft)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_name(descriptor: int, draft: Path) -> None:
    """Raise StartError where another process took the draft for one that was left."""
    if not draft.exists() or not os.path.samestat(os.fstat(descriptor), draft.stat()):
        raise _in_use(draft)


def _lock(descriptor: int, draft: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(draft) from None


def _in_use(draft: Path) -> StartError:
    return StartError(f"Another process writes {draft}: wait until it has ended.")
