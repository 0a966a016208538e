"""Restore: a backup that took the place of the database is made safe to serve.

Endpoints: none. Command: none yet, `docs/operations.md` has a script. Table: none of its own.
"""

from __future__ import annotations

import logging
from pathlib import Path

import falcon

from authapi.core import Core
from authapi.database.opening import open_replaced
from authapi.errors import StartError, Unavailable
from authapi.events import Caller, Restored
from authapi.middleware import new_request_id

logger = logging.getLogger("authapi.restore")


def restored(core: Core, lost: Path | None = None) -> None:
    """Make a restored backup safe to serve, in one transaction, while no service runs.

    All sessions end, and no browser is known any more. No id of a user or of an audit entry is
    given again: ids continue well above those of the backup, and above those of `lost`, the
    database that was replaced, where it can be read. Raises StartError where `lost` is no file.
    """
    newest_user_id, newest_entry_id = _newest_ids(lost) if lost else (0, 0)
    caller = Caller(ip="", user_agent="authapi restore", request_id=new_request_id())
    with core.database.transaction():
        core.events.emit(
            Restored(None, caller, newest_user_id=newest_user_id, newest_entry_id=newest_entry_id)
        )


def _newest_ids(path: Path) -> tuple[int, int]:
    """Return the newest ids of a user and of an audit entry; 0 where the file does not tell."""
    if not path.is_file():
        raise StartError(f"There is no database {path}: name the one that was replaced, or none.")
    try:
        with open_replaced(path) as database:
            return tuple(database.statements(name).newest_id() for name in ("users", "audit"))
    except Unavailable as error:
        logger.warning("the newest ids of %s cannot be read (%s)", path, error.__cause__)
        return 0, 0


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: the features that have ids and sessions subscribe to `Restored`."""
