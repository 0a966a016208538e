"""The database's files: who owns them, who else may read them, and how they are made."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from authapi.errors import StartError
from authapi.secret_files import GROUP, READ, fault_of, keep_to_owner, warn_of_directory

# The database, the log, the log's index, the writer lock and the use lock.
ENDINGS = ("", "-wal", "-shm", ".lock", ".run")

MAGIC = b"SQLite format 3\0"


def check_files(real_path: Path) -> None:
    """Raise StartError for files that cannot be the database's, or are not safe to use.

    SECURITY: whoever can write to one of them can sign in as any user.
    """
    warn_of_directory(real_path.parent)
    for file, found in found_files(real_path):
        if stat.S_ISDIR(found.st_mode):
            raise StartError(
                f"The database {file} is a directory: name a file in it, "
                f"such as sqlite:///{file}/authapi.db."
            )
        if not stat.S_ISREG(found.st_mode):
            raise StartError(f"{file} is not a file: set another AUTHAPI_DATABASE_URL.")
        if fault := fault_of(file, found, mended=GROUP | READ):
            raise StartError(f"The database file {file} {fault}.")


def restrict_files(real_path: Path) -> None:
    """Make the files unreadable to others, who could read them: they hold password hashes."""
    for file, _ in found_files(real_path):
        with suppress(FileNotFoundError):  # a log, which another process deleted
            keep_to_owner(file)


def create_file(path: Path) -> bool:
    """Make a file for its owner alone; return False where there is one. Raises OSError.

    SECURITY: one that exists is not opened: closing it would drop SQLite's locks on it.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        return False
    return True


def is_missing(path: Path) -> bool:
    """Return whether there is no file, or nothing in it."""
    try:
        return not path.stat().st_size
    except OSError:
        return True


def copies(real_path: Path) -> list[Path]:
    """Return the copies of a database that updates and restores have kept beside it."""
    kept = tuple(f"{real_path.name}.{why}-" for why in ("before", "replaced"))
    return sorted(each for each in real_path.parent.iterdir() if each.name.startswith(kept))


def is_database(path: Path) -> bool:
    """Return whether a file, which this process has not open, begins as SQLite's do.

    NOTE: SQLite deletes the log of any other file that it opens.
    """
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def found_files(real_path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the database and the files beside it, as far as they are there."""
    for ending in ENDINGS:
        file = Path(f"{real_path}{ending}")
        try:
            found = file.stat()
        except FileNotFoundError:
            continue
        yield file, found
