"""The use lock: whether any process has a database open, for as long as it may use it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from authapi.errors import StartError


class UseLock:
    """Is shared by the processes that use a database; one that replaces it holds it alone.

    NOTE: `flock` belongs to the opened file, so a forked worker holds it too, and the system
    releases it when the last of them has ended, however it ended.
    """

    def __init__(self, real_path: Path) -> None:
        """Take the database's own path. Lock nothing yet."""
        self._database = real_path
        self._descriptor: int | None = None

    def share(self) -> None:
        """Hold the lock beside others until `release`. Raises StartError, OSError."""
        if self._descriptor is None:
            self._descriptor = self._locked(
                fcntl.LOCK_SH,
                f"authapi db restore or db copy has {self._database} to itself now: "
                "start again when it has ended.",
            )

    def release(self) -> None:
        """Give the lock back.

        NOTE: closing is enough. Unlocking would unlock for the workers that were forked, too.
        """
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock for the block, while nobody else does. Raises StartError, OSError."""
        descriptor = self._locked(
            fcntl.LOCK_EX, f"A service or a command uses {self._database}: stop it first."
        )
        try:
            yield
        finally:
            os.close(descriptor)

    def _locked(self, kind: int, refusal: str) -> int:
        descriptor = os.open(
            f"{self._database}.run", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StartError(refusal) from None
        return descriptor
