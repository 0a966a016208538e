"""The signing keys of a process, which follow their file while the service runs."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from pathlib import Path

from authapi.background import BackgroundService
from authapi.errors import StartError
from authapi.keys import key_path, load_keys, read_keys
from authapi.settings import Settings
from authapi.tokens import Tokens

RETRY = 1  # seconds after which a file that could not be read is read again

Identity = tuple[int, ...]

logger = logging.getLogger("authapi.keys")


class SigningKeys(BackgroundService):
    """The signing keys, oldest first, and the tokens that they sign, in one process.

    The file is looked at once a second, before a token is signed, and before a token is refused
    that may be signed by a key which this process does not know. It is read where it is another
    one. A file that is missing or unusable changes nothing: the log says so once, and it is read
    again after RETRY.
    """

    def __init__(self, settings: Settings) -> None:
        """Read the keys, and make the key file if there is none. Raises StartError."""
        self._path = key_path(settings)
        self._seen = None if self._path is None else _identity(self._path)
        self._retry_at = math.inf  # monotonic seconds
        self._told = ""
        self.all = load_keys(settings)
        self.tokens = Tokens(self.all, self.refresh)
        super().__init__()

    def begin(self) -> None:
        """Start with a lock of this process."""
        self._reading = threading.Lock()

    def wake(self) -> None:
        """Look at the key file."""
        self.refresh()

    def refresh(self) -> None:
        """Use the keys of the file, if it is not the one that was read last.

        NOTE: when this returns, the keys are those of the file as it was when this was called: a
        thread that finds another one reading waits for it, and `_seen` is set last.
        """
        if self._path is not None and self._is_due(_identity(self._path)):
            with self._reading:
                found = _identity(self._path)
                if self._is_due(found):
                    self._read(self._path, is_missing=found is None)
                    self._seen = found

    def _is_due(self, found: Identity | None) -> bool:
        return found != self._seen or time.monotonic() >= self._retry_at

    def _read(self, path: Path, *, is_missing: bool) -> None:
        self._retry_at = math.inf
        try:
            keys = read_keys(path)
        except StartError as error:
            # NOTE: also where no file can be opened at the moment.
            self._retry_at = time.monotonic() + RETRY
            fault = f"The key file {path} is missing." if is_missing else str(error)
            if fault != self._told:
                self._told = fault
                logger.error("%s The keys that were read before stay in use.", fault)  # noqa: TRY400
            return
        self._told = ""
        if keys != self.all:
            self.all = keys
            self.tokens.use(keys)
            logger.info("the key file %s has changed: the key %s signs", path, keys[-1].kid)


def _identity(path: Path) -> Identity | None:
    """Return what tells a file from others, also after a change of its mode; None without one."""
    try:
        found = os.stat(path)  # noqa: PTH116 - it is quicker, and refused tokens wait for it
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
