"""The database as a background service: it is watched, and closed with the application."""

from __future__ import annotations

import logging

from authapi.background import BackgroundService
from authapi.database import Database
from authapi.errors import Unavailable

logger = logging.getLogger("authapi")


class DatabaseWatch(BackgroundService):
    """Notices a database that was replaced or removed, also while no request comes."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database
        self._is_in_place = True
        super().__init__()

    def wake(self) -> None:
        """Log once that the database is not in its place."""
        try:
            self._database.maintain()
        except Unavailable as unavailable:
            if self._is_in_place:
                logger.error("%s", unavailable.__cause__)  # noqa: TRY400 - it has no traceback
            self._is_in_place = False
        else:
            self._is_in_place = True

    def before_fork(self) -> None:
        """Close this thread's connection."""
        self._database.prepare_to_fork()

    def close(self) -> bool:
        """Close every connection."""
        self._database.close()
        return True
