"""What the database needs of the file system: turns to write, which file has a name, its mode."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import stat
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from authapi.errors import StartError, Unavailable
from authapi.secret_files import GROUP, READ, fault_of, keep_to_owner, warn_of_directory

LOCK_POLL = 0.001  # seconds between two tries for a lock
SHARED_BYTES = 0x4000_0002, 510  # where a reader's lock is, and how many (SQLite's os.h)
STUCK_AFTER = 0.5  # seconds of one turn; a commit takes some milliseconds


class Turns:
    """Turns at writing to a database: one writer at a time, of all threads and processes.

    NOTE: SQLite's busy handler is unfair under load, and builds before 3.51.3 can lose a
    transaction when one connection writes while another checkpoints. A commit checkpoints inside
    this lock, so one at a time it is.
    """

    def __init__(self, path: Path, at_most: int) -> None:
        """Take the database's path, and how many threads may wait where no turn ends."""
        self._path, self._at_most = f"{path}.lock", at_most
        self._writer = threading.Lock()
        self._counting = threading.Lock()
        self._waiting = 0
        self._since = math.inf  # monotonic seconds: when the turn began that somebody has

    @property
    def are_stuck(self) -> bool:
        """Whether a turn takes longer than turns do: another program is in the way."""
        return time.monotonic() - self._since > STUCK_AFTER

    @contextmanager
    def take(self, deadline: float) -> Iterator[None]:
        """Be the only writer. Raises Unavailable at the deadline, in monotonic seconds.

        At once, where turns are stuck and enough others wait: the rest of the threads answer.
        """
        with self._one_more_waits() as is_one_too_many:
            while not self._writer.acquire(timeout=_slice(deadline)):
                if time.monotonic() >= deadline or (is_one_too_many and self.are_stuck):
                    raise Unavailable from TimeoutError("other threads kept on writing")
        try:
            self._since = time.monotonic()
            with file_locked(self._path, deadline):
                yield
        finally:
            self._since = math.inf
            self._writer.release()

    @contextmanager
    def _one_more_waits(self) -> Iterator[bool]:
        with self._counting:
            self._waiting += 1
            is_one_too_many = self._waiting > self._at_most
        try:
            yield is_one_too_many
        finally:
            with self._counting:
                self._waiting -= 1


def _slice(deadline: float) -> float:
    """Seconds to wait until the next look at the clock."""
    return min(max(0, deadline - time.monotonic()), STUCK_AFTER / 4)


Identity = tuple[int, int]  # of a file: device and inode
Beside = tuple[Identity | None, Identity | None]  # the log and its index


class Names:
    """Whether a database, its log and the log's index have the names that they were opened by.

    A name may be a symbolic link: SQLite keeps the log beside the file itself.
    """

    def __init__(self, path: Path) -> None:
        """Take the database's path; `real` is the file's own."""
        self._name, self.real = str(path), os.path.realpath(path)
        self._opened: Identity | None = None
        self._leaves_log = False

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Open the database in the block: the file that is there at its beginning is ours."""
        opened = self._opened or identity(self.real)
        yield
        self._opened = opened

    def check(self) -> None:
        """Raise StartError for files that cannot be the database's, or are not safe with us.

        SECURITY: whoever can write to one of them can be any user.
        """
        warn_of_directory(Path(self.real).parent)
        for file, found in self._files():
            if stat.S_ISDIR(found.st_mode):
                raise StartError(
                    f"The database {file} is a directory: name a file in it, "
                    f"such as sqlite:///{file}/authapi.db."
                )
            if not stat.S_ISREG(found.st_mode):
                raise StartError(f"{file} is no file: set another AUTHAPI_DATABASE_URL.")
            if fault := fault_of(file, found, mended=GROUP | READ):
                raise StartError(f"The database file {file} {fault}.")

    def keep_to_owner(self) -> None:
        """Take the files from others who can read them: they hold password hashes."""
        for file, _ in self._files():
            with suppress(FileNotFoundError):  # a log, which another process took away
                keep_to_owner(file)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The database and what is beside it, as far as it is there."""
        for ending in ("", "-wal", "-shm", ".lock"):
            file = Path(f"{self.real}{ending}")
            try:
                found = file.stat()
            except FileNotFoundError:
                continue
            yield file, found

    @property
    def is_writable(self) -> bool:
        """Whether this process may write to the database."""
        return os.access(self.real, os.W_OK)

    @property
    def beside(self) -> Beside:
        """Which files the log and its index are now."""
        return identity(f"{self.real}-wal"), identity(f"{self.real}-shm")

    def lost(self, in_use: Iterable[Beside]) -> OSError | None:
        """What is wrong where the database, or a log in use, has lost its name."""
        if self._opened is None:
            return None
        if not self._is_in_place or self._opened != identity(self._name, follows=True):
            advice, name = "put it back, or restart to use what is there", self._name
        elif not {*in_use} <= {self.beside}:
            self._leave_log()
            advice, name = "restart the service", f"{self.real}-wal"
        else:
            return None
        return OSError(errno.ESTALE, f"replaced or removed while in use: {advice}", name)

    def is_ours_alone(self, in_use: Beside) -> bool:
        """Whether nobody else can have opened the database with another log than ours."""
        there = self.beside
        known = [now in {None, ours} for now, ours in zip(there, in_use, strict=True)]
        return all(known) or not self._is_in_place

    def _leave_log(self) -> None:
        """Have no connection of ours take away the log that has the name now.

        NOTE: the last one of a process does, by name, where no other process has the database open.
        This lock is on the bytes that SQLite locks then, and counts as another process's. It stays
        until ours ends: to close its descriptor would drop SQLite's own locks.
        """
        if self._leaves_log or sys.platform != "linux":
            return
        with suppress(OSError):  # no descriptor is left, or a file system has no such locks
            descriptor = os.open(self.real, os.O_RDONLY | os.O_CLOEXEC)
            self._leaves_log = True
            lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, *SHARED_BYTES, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)

    @property
    def _is_in_place(self) -> bool:
        return self._opened == identity(self.real)


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
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # what was forked meanwhile has it open too
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def create(path: Path) -> bool:
    """Make a file for its owner alone; False where there is one. Raises OSError.

    SECURITY: one that exists is not opened: to close it would drop SQLite's locks on it.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        return False
    return True


def identity(name: str, *, follows: bool = False) -> Identity | None:
    """Which file has a name now; None where there is none, or it cannot be told.

    A symbolic link is a file of its own unless one `follows` it.
    """
    try:
        found = os.stat(name, follow_symlinks=follows)  # noqa: PTH116 - half the time of Path.stat
    except OSError:
        return None
    return found.st_dev, found.st_ino


def synchronize(path: Path) -> None:
    """Have a file, or the names in a directory, on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
