"""What an operator's commands do, with the application of a service that is there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from authapi.app import AuthAPI, create_app
from authapi.database.opening import lacks_database, open_replaced
from authapi.errors import StartError, Unavailable
from authapi.events import Caller, Restored
from authapi.features import lockout
from authapi.keys import lacks_keys
from authapi.middleware import new_request_id
from authapi.settings import Settings

logger = logging.getLogger("authapi.commands")


def unlock(settings: Settings, identifier: str) -> bool | None:
    """Let a user log in who was locked out; False where no failure is known, None for nobody.

    Raises StartError where there is no service with these settings: nothing is made.
    """
    with _existing(settings) as app:
        return lockout.unlock(app.core, identifier)


def restored(settings: Settings, lost: Path | None = None) -> None:
    """Make a backup that took the place of the database safe to serve, while no service runs.

    All sessions end, and no browser is known any more. No id of a user or of an audit entry is
    given again: ids go on well above the backup's own, and above those of `lost`, the database that
    was replaced, where it can be read. It is one transaction. Raises StartError.
    """
    newest_user_id, newest_entry_id = _newest_ids(lost) if lost else (0, 0)
    with _existing(settings) as app, app.core.database.transaction():
        caller = Caller(ip="", user_agent="authapi restore", request_id=new_request_id())
        app.core.events.emit(
            Restored(None, caller, newest_user_id=newest_user_id, newest_entry_id=newest_entry_id)
        )


def _newest_ids(path: Path) -> tuple[int, int]:
    """The newest ids of a user and of an audit entry; 0 where the file does not tell."""
    if not path.is_file():
        raise StartError(f"There is no database {path}: name the one that was replaced, or none.")
    try:
        with open_replaced(path) as database:
            return tuple(database.statements(name).newest_id() for name in ("users", "audit"))
    except Unavailable as error:
        logger.warning("%s does not tell its newest ids (%s)", path, error.__cause__)
        return 0, 0


@contextmanager
def _existing(settings: Settings) -> Iterator[AuthAPI]:
    """The application of a service that is there. Raises StartError, and makes nothing."""
    if lacks_database(settings) or lacks_keys(settings):
        raise StartError(
            f"There is no database {settings.database_path}, or none of its keys: "
            "run this with the settings of the service, in its directory."
        )
    app = create_app(settings)
    try:
        yield app
    finally:
        app.close()
