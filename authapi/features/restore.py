"""Restore: a backup takes the place of the database, and is made safe to serve.

Endpoints: none. Command: `authapi db restore`. Table: none of its own.
"""

from __future__ import annotations

import logging
from pathlib import Path

from authapi.commands import YES, Argument, Call, Command, CommandError, as_owner, existing_service
from authapi.core import Core
from authapi.database.opening import lacks_database, open_replaced, replacing
from authapi.errors import StartError, Unavailable
from authapi.events import Caller, Restored
from authapi.keys import lacks_keys
from authapi.secret_files import become_owner
from authapi.settings import DatabaseSettings, KeySettings, Settings

ENDED = "all sessions have ended, and no id is given again."

logger = logging.getLogger("authapi.restore")


def restore(settings: Settings, file: Path, operator: Caller) -> Path | None:
    """Put a backup in the place of the SQLite database, in this release's schema.

    Return where the old database is kept, if there was one. The backup is made safe before it is
    in place; what fails or is killed leaves the old database. Raises StartError, where a process
    uses the database too.
    """
    path = settings.of(DatabaseSettings).database_path
    if lacks_keys(settings):
        raise StartError(
            f"There is no key file {settings.of(KeySettings).key_file}: copy the one that belongs "
            "to the backup there, and the root key file too."
        )
    lost = None if lacks_database(settings) else path
    with replacing(path, file) as replacement:
        with existing_service(_on(settings, replacement.draft)) as app:
            restored(app.core, lost, operator)
        return replacement.put_in_place()


def restored(core: Core, lost: Path | None, operator: Caller) -> None:
    """Make a database that is a backup safe to serve, in one transaction.

    All sessions end, and no browser is known any more. No id of a user or of an audit entry is
    given again: ids continue well above those of the backup, and above those of `lost`, the
    database that was replaced, where it can be read.
    """
    newest_user_id, newest_entry_id = _newest_ids(lost) if lost else (0, 0)
    with core.database.transaction():
        core.events.emit(
            Restored(None, operator, newest_user_id=newest_user_id, newest_entry_id=newest_entry_id)
        )


def _newest_ids(path: Path) -> tuple[int, int]:
    """Return the newest ids of a user and of an audit entry; 0 where the file does not tell."""
    try:
        with open_replaced(path) as database:
            return tuple(database.statements(name).newest_id() for name in ("users", "audit"))
    except Unavailable as error:
        logger.warning("the newest ids of %s cannot be read (%s)", path, error.__cause__)
        return 0, 0


def _on(settings: Settings, path: Path) -> Settings:
    """Return the settings of the same service on another database file."""
    keys = settings.of(KeySettings)
    names = ("key_file", "root_key_file") if keys.has_key_file else ()
    files = {name: getattr(keys, name) for name in names}
    return settings.replace(database_url=f"sqlite:///{path}", **files)


def _restore(call: Call) -> None:
    operator = call.operator  # before the user changes
    database = call.settings.of(DatabaseSettings)
    if call.arguments.file is None:
        _restore_in_place(call)
        return
    if database.is_postgresql:
        raise CommandError(
            "The database is a PostgreSQL server: put the backup back with pg_restore while no "
            "node runs, and then run authapi db restore without a file."
        )
    file, path = Path(call.arguments.file).absolute(), database.database_path
    if path.exists():
        call.console.confirm(f"Replace {path} by {file}", "restore", yes=call.arguments.yes)
    else:
        become_owner(path.parent)
    try:
        kept = restore(as_owner(call.settings), file, operator)
    except StartError as error:
        raise CommandError(str(error), "cannot_restore") from error
    text = f"Restored {file}: {ENDED}"
    if kept:
        text += f"\nThe database that it replaces is kept as {kept}"
    call.console.show({"file": str(file), "kept": str(kept) if kept else None}, text)


def _restore_in_place(call: Call) -> None:
    """Make the database safe that is a backup, as `pg_restore` or a snapshot brought it back."""
    place = "the database"
    call.console.confirm(
        f"Treat {place} as a restored backup, and end all sessions",
        "restore",
        yes=call.arguments.yes,
    )
    with call.service():
        restored(call.core, None, call.operator)
        place = call.core.database.description
    call.console.show({"file": None, "kept": None}, f"Restored {place}: {ENDED}")


COMMANDS = (
    Command(
        "db restore",
        description="Replace the SQLite database by a backup, which may be of an older release, "
        "while nothing uses the database. All sessions end, ids continue above those that were "
        "given, and the database that was there is kept under another name. Without FILE, the "
        "database is a backup that was put back by other means, such as pg_restore.",
        run=_restore,
        arguments=(Argument("file", "the backup", metavar="FILE", nargs="?"), YES),
        needs_service=False,
    ),
)
