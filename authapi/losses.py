"""Warnings of a start that finds the database or one of its key files gone."""

from __future__ import annotations

import logging
from contextlib import suppress

from authapi.core import Core
from authapi.errors import Unavailable
from authapi.settings import DatabaseSettings, KeySettings

ADVICE = "If the old one still exists, put it back and restart."

logger = logging.getLogger("authapi")


def warn_of_losses(core: Core, *, is_new: bool, are_new: bool, ended: bool) -> None:
    """Log a warning where one of the database and its key files was lost.

    `is_new` says whether the start has made the database, `are_new` whether it has made the signing
    keys, and `ended` whether that has ended sessions.
    """
    keys, database = core.settings.of(KeySettings), core.settings.of(DatabaseSettings)
    if is_new and not are_new and keys.has_key_file and not database.is_postgresql:
        logger.warning(
            "the database %s is missing, so an empty one is made, although its keys are in %s. %s",
            database.database_path,
            keys.key_file,
            ADVICE,
        )
    if ended:
        logger.warning(
            "the key file %s is missing, so a new one is made: all sessions have ended. %s",
            keys.key_file,
            ADVICE,
        )
    if _is_another_root(core) and keys.root_key_file:
        logger.warning(
            "the root key file %s is not the one that the database was used with: secrets that "
            "were derived from that one no longer count. %s",
            keys.root_key_file,
            ADVICE,
        )


def _is_another_root(core: Core) -> bool:
    """Return whether the database was used with other root keys only; remember the newest one.

    NOTE: the database knows, because a new file says nothing: an update makes one, too.
    """
    root, rows = core.root, core.database.statements("root_keys")
    if rows.has(kid=root.newest):
        return False
    is_another = bool(rows.has_any()) and not any(rows.has(kid=kid) for kid in root.kids)
    with suppress(Unavailable), core.database.transaction():  # else the next start remembers it
        rows.add(kid=root.newest, now=int(core.clock()))
    return is_another
