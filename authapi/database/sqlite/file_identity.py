"""File identity: whether the database file and its log still have the names they were opened by."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SHARED_BYTES = 0x4000_0002, 510  # first byte and number of SQLite's readers' lock (os.h)

FileId = tuple[int, int]  # device and inode
LogFiles = tuple[FileId | None, FileId | None]  # the log (-wal) and its index (-shm)


class FileIdentity:
    """Tells whether a database, its log and the log's index were replaced or removed.

    The database's name may be a symbolic link: SQLite keeps the log beside the file itself.
    """

    def __init__(self, path: Path) -> None:
        """Take the database's path. `real_path` is the file's own, without links."""
        self._name, self.real_path = str(path), os.path.realpath(path)
        self._opened: FileId | None = None
        self._log_is_protected = False

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Open the database in the block: the file that is there at its beginning is ours."""
        opened = self._opened or file_id(self.real_path)
        yield
        self._opened = opened

    @property
    def is_writable(self) -> bool:
        """Return whether this process may write to the database."""
        return os.access(self.real_path, os.W_OK)

    @property
    def log_files(self) -> LogFiles:
        """Return the files that now have the names of the log and its index."""
        return file_id(f"{self.real_path}-wal"), file_id(f"{self.real_path}-shm")

    def loss(self, in_use: Iterable[LogFiles]) -> OSError | None:
        """Return what happened where the database or a log in use lost its name, else None."""
        if self._opened is None:
            return None
        if not self._is_in_place or self._opened != file_id(self._name, follow=True):
            advice, name = "put it back, or restart to use what is there", self._name
        elif not {*in_use} <= {self.log_files}:
            self._protect_newer_log()
            advice, name = "restart the service", f"{self.real_path}-wal"
        else:
            return None
        return OSError(errno.ESTALE, f"replaced or removed while in use: {advice}", name)

    def is_ours_alone(self, in_use: LogFiles) -> bool:
        """Return whether nobody else can have opened the database with another log than ours."""
        there = self.log_files
        known = [now in {None, ours} for now, ours in zip(there, in_use, strict=True)]
        return all(known) or not self._is_in_place

    def _protect_newer_log(self) -> None:
        """Keep our connections from deleting the log that has the name now.

        NOTE: SQLite deletes the log, by name, with the last connection of a process where no other
        process has the database open. This lock is on the bytes that SQLite locks then, and counts
        as another process's. It stays until our process ends: closing its descriptor would drop
        SQLite's own locks.
        """
        if self._log_is_protected or sys.platform != "linux":
            return
        with suppress(OSError):  # no descriptor is left, or the file system has no such locks
            descriptor = os.open(self.real_path, os.O_RDONLY | os.O_CLOEXEC)
            self._log_is_protected = True
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, *SHARED_BYTES, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)

    @property
    def _is_in_place(self) -> bool:
        return self._opened == file_id(self.real_path)


def file_id(name: str, *, follow: bool = False) -> FileId | None:
    """Return which file has a name now; None where there is none, or it cannot be told.

    A symbolic link is a file of its own, unless `follow` is true.
    """
    try:
        found = os.stat(name, follow_symlinks=follow)  # noqa: PTH116 - half the time of Path.stat
    except OSError:
        return None
    return found.st_dev, found.st_ino
