"""Database copy: a SQLite database moves to a PostgreSQL server, whole or not at all.

Endpoints: none. Command: `authapi db copy`. Table: none of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import falcon

from authapi.commands import Argument, Call, Command, CommandError
from authapi.core import Core
from authapi.database import Database, Row, Statements
from authapi.database.opening import open_exclusively
from authapi.database.progress import progress
from authapi.errors import Unavailable
from authapi.secret_files import become_owner

PAGE = 500  # rows
SMALLEST = -(2**63)  # no id is smaller

NEXT = """Next: start the nodes with these settings, and look at a user. Sessions go on.
Do not start a service on the file again: sessions that end from now on are still valid there.
Keep the file and its keys as a backup."""


class Table(NamedTuple):
    """A table that is copied: what reads a page of its rows, and what inserts one."""

    name: str
    read: Callable[[Statements], Callable[..., list[Row]]]
    insert: Callable[[Statements], Callable[..., object]]


# In the order of their references.
TABLES = (
    Table("users", lambda each: each.users, lambda each: each.insert_users),
    Table(
        "username_lookalikes",
        lambda each: each.username_lookalikes,
        lambda each: each.insert_username_lookalikes,
    ),
    Table("sessions", lambda each: each.sessions, lambda each: each.insert_sessions),
    Table(
        "replaced_sessions",
        lambda each: each.replaced_sessions,
        lambda each: each.insert_replaced_sessions,
    ),
    Table("audit_log", lambda each: each.audit_log, lambda each: each.insert_audit_log),
    Table(
        "one_time_tokens",
        lambda each: each.one_time_tokens,
        lambda each: each.insert_one_time_tokens,
    ),
    Table("outbox", lambda each: each.outbox, lambda each: each.insert_outbox),
    Table("root_keys", lambda each: each.root_keys, lambda each: each.insert_root_keys),
)
LEFT_OUT = {
    "jobs": "each job runs again when it is due",
    "limits": "failed logins and other tries are counted anew",
    "migrations": "the schema is the server's own",
}


class Digest:
    """The number of a table's rows, and their SHA-256 in order."""

    def __init__(self) -> None:
        """Begin with no row."""
        self.count, self._hash = 0, sha256()

    def add(self, rows: list[Row]) -> None:
        """Add a page of rows."""
        self.count += len(rows)
        for row in rows:
            self._hash.update(json.dumps(row).encode() + b"\n")

    @property
    def value(self) -> tuple[int, str]:
        """Return what two tables with the same rows have alike."""
        return self.count, self._hash.hexdigest()


def copy_database(core: Core, path: Path) -> dict[str, int]:
    """Copy a SQLite database to the PostgreSQL database of the service, in one transaction.

    Return the number of rows by table. Every row is read again from the server before the commit,
    and compared. Raises StartError for a file that cannot be copied or that a service uses, and
    CommandError, with nothing copied, for a server that has users or a copy that is not the same.
    """
    target = core.database
    if target.is_local:
        raise CommandError(
            "A copy goes to the server of AUTHAPI_DATABASE_URL: set it to a postgresql:// URL."
        )
    with open_exclusively(path) as source:
        _require_root(core, source, path)
        try:
            with target.transaction(), progress(f"Copying {path}") as tick:
                return _copy(source, target, tick)
        except Unavailable as error:
            raise CommandError(
                f"A database does not answer ({error.__cause__}), so nothing was copied: try again."
            ) from error


def _require_root(core: Core, source: Database, path: Path) -> None:
    """Raise CommandError where the settings' root keys are not those of the old service."""
    used = source.statements("root_keys")
    if used.has_any() and not any(used.has(kid=kid) for kid in core.root.kids):
        raise CommandError(
            f"The settings have other keys than the service of {path}, so its sessions or secrets "
            "would end: set AUTHAPI_KEY_FILE and AUTHAPI_ROOT_KEY_FILE to its two files, or "
            "AUTHAPI_SECRET_KEY to its secret key."
        )


def _copy(source: Database, target: Database, tick: Callable[[], None]) -> dict[str, int]:
    there = target.statements("copy")
    target.statements("database").lock_tables()
    if there.has_rows():
        raise CommandError(
            f"{target.description} has users or audit entries already: name an empty database."
        )
    there.forget_root_keys()
    copied = {table.name: _copy_table(table, source, there, tick) for table in TABLES}
    for table in TABLES:
        read = Digest()
        for rows in _pages(table, target):
            read.add(rows)
            tick()
        if read.value != copied[table.name].value:
            raise CommandError(
                f"The copy of {table.name} is not the same ({read.count} rows of "
                f"{copied[table.name].count}), so nothing was copied."
            )
    there.continue_ids(
        newest_user=source.statements("users").newest_id(),
        newest_session=source.statements("copy").newest_session(),
        newest_entry=source.statements("audit").newest_id(),
        newest_job=source.statements("copy").newest_job(),
        newest_token=source.statements("copy").newest_token(),
    )
    return {name: digest.count for name, digest in copied.items()}


def _copy_table(
    table: Table, source: Database, there: Statements, tick: Callable[[], None]
) -> Digest:
    """Copy a table's rows, and return the digest of what was read."""
    digest, insert = Digest(), table.insert(there)
    for rows in _pages(table, source):
        digest.add(rows)
        nul = next((row for row in rows if any("\0" in str(value) for value in row)), None)
        if nul:
            raise CommandError(
                f"{table.name} has a row with a NUL character, which PostgreSQL cannot keep, so "
                f"nothing was copied. Its first column is {nul[0]!r}."
            )
        insert(rows=json.dumps(rows))
        tick()
    return digest


def _pages(table: Table, database: Database) -> Iterator[list[Row]]:
    """Yield a table's rows in order, some at a time."""
    read = table.read(database.statements("copy"))
    after: tuple[Any, Any] = (SMALLEST, "")
    while rows := read(after=after[0], after_key=after[1], at_most=PAGE):
        yield rows
        after = rows[-1][:2]


def _run(call: Call) -> None:
    path = Path(call.arguments.file).absolute()
    become_owner(path)
    counts = copy_database(call.core, path)
    lines = [f"Copied {path} to {call.core.database.description}, and compared every row:"]
    lines += [f"  {name}: {count}" for name, count in counts.items()]
    lines += [f"  {name}: left out, {reason}" for name, reason in LEFT_OUT.items()]
    call.console.show({"copied": counts, "left_out": [*LEFT_OUT]}, "\n".join([*lines, NEXT]))


COMMANDS = (
    Command(
        "db copy",
        description="Copy a SQLite database to the PostgreSQL database of the settings, which has "
        "no users yet, while no service uses the file. Run it with the keys of the old service.",
        run=_run,
        arguments=(Argument("file", "the SQLite database", metavar="FILE"),),
    ),
)


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: the command does it all."""
