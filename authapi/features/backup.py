"""Backup: a copy of a SQLite database, made while the service runs, and checked.

Endpoints: none. Command: `authapi db backup`. Table: none of its own.
"""

from __future__ import annotations

from pathlib import Path

from authapi.commands import Argument, Call, Command, CommandError, as_owner, existing_service
from authapi.database import Contents
from authapi.database.opening import back_up
from authapi.errors import StartError, Unavailable
from authapi.events import Caller, Event
from authapi.settings import DatabaseSettings, KeySettings, Settings

SERVER = (
    "The database is a PostgreSQL server: back it up with pg_dump --format=custom --file=FILE, or "
    "with your provider's backups, and keep the keys beside it."
)


class BackedUp(Event):
    """The operator made a copy of the database."""

    __slots__ = ()


def keys_of(settings: Settings) -> list[str]:
    """Return where the keys are without which a backup's sessions and secrets are worth nothing."""
    keys = settings.of(KeySettings)
    if keys.has_key_file:
        return [keys.key_file, keys.root_key_file]
    secret = keys.secret_key_file or "AUTHAPI_SECRET_KEY"
    return [secret, *([keys.root_key_file] if keys.root_key_file else [])]


def _back_up(call: Call) -> None:
    named, operator = call.settings, call.operator  # before the user changes
    settings = as_owner(named)
    database = settings.of(DatabaseSettings)
    if database.is_postgresql:
        raise CommandError(SERVER)
    file = Path(call.arguments.file).absolute()
    try:
        contents = back_up(database.database_path, file)
    except StartError as error:
        raise CommandError(str(error), "cannot_back_up") from error
    _record(call, settings, operator)
    keys = keys_of(named)
    call.console.show(
        {
            "file": str(file),
            "bytes": contents.size,
            "schema": contents.schema,
            "users": contents.users,
            "sessions": contents.sessions,
            "keys": keys,
        },
        f"Backed up to {file}: schema {contents.schema}, users: {contents.users}, "
        f"sessions: {contents.sessions}, {contents.size:,} bytes.\n"
        f"Keep the keys too, they are not in it: {' and '.join(keys)}",
    )
    _warn(call, contents)


def _record(call: Call, settings: Settings, operator: Caller) -> None:
    """Write the event to the audit log; say where that fails, as on an older schema."""
    try:
        with existing_service(settings) as app, app.core.database.transaction(patience=1):
            app.core.events.emit(BackedUp(None, operator))
    except (StartError, Unavailable) as error:
        cause = error.__cause__ or error
        call.console.say(f"authapi: the audit log cannot be written ({cause})")


def _warn(call: Call, contents: Contents) -> None:
    if contents.orphan:
        call.console.say(
            f"authapi: {contents.orphan} has rows that belong to no other row, in the backup as in "
            "the database: see authapi db check"
        )


COMMANDS = (
    Command(
        "db backup",
        description="Copy the SQLite database to a new file, while the service runs or not, and "
        "check the copy. It holds password hashes: keep it as safe as the database.",
        run=_back_up,
        arguments=(Argument("file", "the new file", metavar="FILE"),),
        needs_service=False,
    ),
)
