"""Ownership and modes of secret files: the same rules for all keys and for the database."""

from __future__ import annotations

import logging
import os
import pwd
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from authapi.errors import StartError

READ, WRITE = 0o044, 0o022  # bits of a mode, for the group and for all others
GROUP, OTHERS = 0o070, 0o007
LARGEST = 1_048_576  # bytes
MOUNTED = "/run/secrets"  # where Docker and Podman mount the secrets of a container

logger = logging.getLogger("authapi.files")


def read_secret(
    path: Path, what: str, *, mended: int = 0, shared: int = 0, owners: Iterable[int] = ()
) -> bytes:
    """Return the bytes of a secret file. Raises OSError, and StartError for an unsafe file.

    `what` names the file in the error, before its path. `mended` are mode bits to remove if this
    process owns the file, and `shared` are bits that any file of this kind may have. `owners` are
    users who may own it, besides root and this process's user.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StartError(f"{what} {path} is not a file: name another one.")
        for bits in (mended, 0):  # a second time, in case they could not be removed
            found = os.fstat(descriptor)
            if fault := fault_of(path, found, mended=bits, shared=shared, owners=owners):
                raise StartError(f"{what} {path} {fault}.")
            if found.st_uid == os.geteuid():
                keep_to_owner(path, bits & ~_given(found))
        if found.st_mode & GROUP & ~shared and not _is_handed_over(path):
            mode = stat.S_IMODE(found.st_mode)
            logger.warning("the group %d can read %s (mode %04o)", found.st_gid, path, mode)
        content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise StartError(f"{what} {path} is larger than {LARGEST >> 20} MiB: name another one.")
        return content


def fault_of(
    path: Path,
    found: os.stat_result,
    *,
    mended: int = 0,
    shared: int = 0,
    owners: Iterable[int] = (),
) -> str | None:
    """Return why a file is unsafe for a secret and what to do about it, or None.

    A safe file belongs to root or to this process's user, and neither others nor a foreign group
    can read or write it. Everyone may read files that systemd, Docker or Kubernetes provide,
    because only this service or container sees their directory. A command of root reads the files
    that root gave to the group of the service.
    """
    mode = stat.S_IMODE(found.st_mode)
    handed_over = _is_handed_over(path)
    if not handed_over and found.st_uid not in {0, os.geteuid(), *owners}:
        return (
            f"belongs to another user ({found.st_uid}): chown it to this one ({os.geteuid()}), "
            "or run as that user"
        )
    open_to = mode & (GROUP | OTHERS) & ~shared & ~_given(found)
    if handed_over:
        open_to &= WRITE
    if found.st_uid == os.geteuid():
        open_to &= ~mended
    if found.st_gid in {os.getegid(), *os.getgroups()}:
        open_to &= ~GROUP
    if not open_to:
        return None
    how = "written" if open_to & WRITE else "read"
    change = "go-w" if shared else "600"
    return f"can be {how} by others (mode {mode:04o}): chmod {change} it"


def _given(found: os.stat_result) -> int:
    """Return the mode bits by which root let a group read its file, in a process of root."""
    is_ours = found.st_gid in {os.getegid(), *os.getgroups()}
    return 0 if is_ours or found.st_uid or os.geteuid() else GROUP & ~WRITE


def keep_to_owner(path: Path, mended: int = GROUP | OTHERS) -> None:
    """Remove bits of a mode from a file of this process's user, with a warning.

    NOTE: at each mount, kubelet gives the group access to the files of a volume with an `fsGroup`.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & mended:
        return
    try:
        path.chmod(mode & ~mended)
        logger.warning("others could read %s (mode %04o): access removed", path, mode)
    except OSError:  # it is root's, or the file system is read-only
        logger.warning("others can read %s (mode %04o)", path, mode)


def synchronize(path: Path) -> None:
    """Write a file, or the names in a directory, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def warn_of_directory(path: Path) -> None:
    """Log a warning if others can replace the files of a directory."""
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    is_ours = found.st_gid in {os.getegid(), *os.getgroups()}
    if mode & WRITE & ~(GROUP if is_ours else 0) and not mode & stat.S_ISVTX:
        logger.warning("others can replace the files in %s (mode %04o)", path, mode)


def become_owner(path: Path) -> None:
    """Switch from root to the owner of a file, so that new files belong to that user.

    Other users than root stay. Raises StartError if the switch is not possible.
    """
    try:
        owner = path.stat()
    except OSError:  # it does not exist, which the command reports
        return
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    group, groups = owner.st_gid, [owner.st_gid]
    with suppress(KeyError):  # the user has no name, as in containers
        user = pwd.getpwuid(owner.st_uid)
        group = user.pw_gid
        groups += os.getgrouplist(user.pw_name, group)
    try:
        os.setgroups(groups)
        os.setgid(group)
        os.setuid(owner.st_uid)
        path.stat()
    except OSError as error:
        raise StartError(
            f"{path} belongs to the user {owner.st_uid} ({error.strerror}): run this as that user, "
            "where the service runs."
        ) from error


def _is_handed_over(path: Path) -> bool:
    """Return whether a file is in a directory for the secrets of this service alone."""
    directories = [os.environ.get("CREDENTIALS_DIRECTORY"), MOUNTED]
    real = path.resolve()
    return any(real.is_relative_to(Path(each).resolve()) for each in directories if each)
