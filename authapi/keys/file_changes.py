"""Changes of a small secret file: one process after another, and each whole or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from authapi.secret_files import synchronize

DRAFT = ".new"  # ends the name of a file that takes another one's place


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Lock an existing file against other writers for the block. Raises OSError.

    NOTE: a writer puts another file in the place of the one that it locked, so who waited for the
    older one locks again.
    """
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):  # noqa: PTH116
                yield
                return
        finally:
            os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Put another content in the place of a file's, with its owner and mode. Raises OSError.

    Whoever reads the file meanwhile, and after a crash, finds the older or the newer content. Only
    the process that holds `only_writer` may call this.
    """
    found, draft = path.stat(), path.with_name(f"{path.name}{DRAFT}")
    draft.unlink(missing_ok=True)  # of a process that was killed
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            made = os.fstat(descriptor)
            if (found.st_uid, found.st_gid) != (made.st_uid, made.st_gid):
                os.fchown(descriptor, found.st_uid, found.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    synchronize(path.parent)
