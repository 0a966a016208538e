"""Database status: what the database holds, and its schema's version, which a command updates.

Endpoints: none. Commands: `authapi db status`, `authapi db migrate`. Table: none of its own.
"""

from __future__ import annotations

import time
from pathlib import Path

from authapi.commands import Argument, Call, Command, as_owner
from authapi.database import Database
from authapi.database.opening import (
    copies,
    missing_migrations,
    open_as_it_is,
    open_database,
)
from authapi.errors import StartError
from authapi.settings import DatabaseSettings, Settings

FIRST_WITH_SESSIONS = 2  # schema of SQLite


def _status(call: Call) -> int:
    settings = as_owner(call.settings)
    with open_as_it_is(settings) as database:
        pending, problem = _pending(database)
        ledger = database.statements("migrations")
        schema = ledger.newest() if ledger.has_ledger() else 0
        record: dict[str, object] = {
            "database": database.description,
            "schema": schema,
            "pending": pending,
            **_sizes(settings, database),
        }
        if schema >= (FIRST_WITH_SESSIONS if database.is_local else 1):
            counts = database.statements("contents")
            record["users"] = counts.users()
            record["sessions"] = counts.live_sessions(now=int(time.time()))
    record["copies"] = [str(each) for each in copies(settings)]
    call.console.show(record)
    if problem:
        call.console.say(f"authapi: {problem}")
    return 1 if problem else 0


def _pending(database: Database) -> tuple[list[str], str]:
    """Return the names of the migrations that a start would apply, and why it would not start."""
    try:
        return [each.name for each in missing_migrations(database)], ""
    except StartError as error:
        return [], str(error)


def _sizes(settings: Settings, database: Database) -> dict[str, object]:
    sizes: dict[str, object] = {"bytes": database.statements("contents").bytes()}
    if database.is_local:
        log = Path(f"{settings.of(DatabaseSettings).database_path.resolve()}-wal")
        sizes["log_bytes"] = log.stat().st_size if log.exists() else 0
    return sizes


def _migrate(call: Call) -> None:
    settings = as_owner(call.settings)
    with open_as_it_is(settings) as database:
        pending = [each.name for each in missing_migrations(database)]
        description = database.description
    before = copies(settings)
    if pending and not call.arguments.dry_run:
        open_database(settings).close()
    made = [str(each) for each in copies(settings) if each not in before]
    if not pending:
        text = f"{description}: nothing to do."
    elif call.arguments.dry_run:
        text = f"{description}: a start would apply {', '.join(pending)}."
    else:
        text = f"{description}: applied {', '.join(pending)}."
    if made:
        text += (
            "\nTo go back, stop the service, install the older release and run: "
            f"authapi db restore {made[0]}"
        )
    record = {"migrations": pending, "applied": bool(pending) and not call.arguments.dry_run}
    call.console.show({**record, "copy": made[0] if made else None}, text)


COMMANDS = (
    Command(
        "db status",
        description="Show the database's engine, the version of its schema, the migrations that a "
        "start would apply, its size, and the number of users and sessions. Nothing is changed.",
        run=_status,
        needs_service=False,
    ),
    Command(
        "db migrate",
        description="Update the schema, as a start of the service does by itself, after a copy of "
        "a SQLite database. Services of an older release may refuse requests after it.",
        run=_migrate,
        arguments=(Argument("--dry-run", "only show what would be applied", action="store_true"),),
        needs_service=False,
    ),
)
