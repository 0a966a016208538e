"""Files that the service keeps to itself: whose they are, and who else may read or write them.

The same rules hold for every secret that is read from a file, and for the database.
"""

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
MOUNTED = "/run/secrets"  # where Docker and Podman mount the secrets of a container

logger = logging.getLogger("authapi.files")


def read_secret(path: Path, what: str, *, mended: int = 0, owners: Iterable[int] = ()) -> bytes:
    """The bytes of a secret file; `what` it is goes before its path where it is refused.

    `mended` are bits of the mode that are taken away where the file is our own. `owners` are users
    whom it may belong to, besides root and us. Raises OSError, and StartError for a file that
    others can read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StartError(f"{what} {path} is no file: name another one.")
        for bits in (mended, 0):  # and once more, for they may be there still
            found = os.fstat(descriptor)
            if fault := fault_of(path, found, mended=bits, owners=owners):
                raise StartError(f"{what} {path} {fault}.")
            if found.st_uid == os.geteuid():
                keep_to_owner(path, bits)
        if found.st_mode & GROUP and not _is_handed_over(path):
            mode = stat.S_IMODE(found.st_mode)
            logger.warning("the group %d can read %s (mode %04o)", found.st_gid, path, mode)
        return file.read()


def fault_of(
    path: Path, found: os.stat_result, *, mended: int = 0, owners: Iterable[int] = ()
) -> str | None:
    """What makes a file unfit for a secret, and what to do about it; None where it is fit.

    A file belongs to root or to us, and neither others nor a group that we are not in can read or
    write it. Where systemd, Docker or Kubernetes hand a secret over, everyone may read it: only
    this service, or this container, sees their directory.
    """
    mode = stat.S_IMODE(found.st_mode)
    handed_over = _is_handed_over(path)
    if not handed_over and found.st_uid not in {0, os.geteuid(), *owners}:
        return (
            f"belongs to another user ({found.st_uid}): chown it to this one ({os.geteuid()}), "
            "or run as that user"
        )
    open_to = mode & (GROUP | OTHERS)
    if handed_over:
        open_to &= WRITE
    if found.st_uid == os.geteuid():
        open_to &= ~mended
    if found.st_gid in {os.getegid(), *os.getgroups()}:
        open_to &= ~GROUP
    if not open_to:
        return None
    how = "written" if open_to & WRITE else "read"
    return f"can be {how} by others (mode {mode:04o}): chmod 600 it"


def keep_to_owner(path: Path, mended: int = GROUP | OTHERS) -> None:
    """Take bits of a mode away from a file of ours, with a warning.

    NOTE: kubelet gives each file of a volume with an `fsGroup` to a group, at each mount.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & mended:
        return
    logger.warning("others could read %s (mode %04o)", path, mode)
    with suppress(OSError):  # of root, or on a file system that may only be read
        path.chmod(mode & ~mended)


def synchronize(path: Path) -> None:
    """Write a file, or the names in a directory, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def warn_of_directory(path: Path) -> None:
    """Log a warning where others can replace the files of a directory."""
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    is_ours = found.st_gid in {os.getegid(), *os.getgroups()}
    if mode & WRITE & ~(GROUP if is_ours else 0) and not mode & stat.S_ISVTX:
        logger.warning("others can replace the files in %s (mode %04o)", path, mode)


def become_owner(path: Path) -> None:
    """As root, be the owner of a file from now on, so that all that is made belongs to them.

    Raises StartError where that is not possible.
    """
    try:
        owner = path.stat()
    except OSError:  # there is none: what comes next says so
        return
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    group, groups = owner.st_gid, [owner.st_gid]
    with suppress(KeyError):  # a user without a name, as in containers
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
    """Whether a file is in a directory that was made for the secrets of this service alone."""
    directories = [os.environ.get("CREDENTIALS_DIRECTORY"), MOUNTED]
    real = path.resolve()
    return any(real.is_relative_to(Path(each).resolve()) for each in directories if each)
