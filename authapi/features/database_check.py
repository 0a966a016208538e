"""Database check: whether the database, its files and its keys are in order.

Endpoints: none. Command: `authapi db check`. Table: none of its own.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator

from authapi.commands import Argument, Call, Command, as_owner
from authapi.database import Database
from authapi.database.findings import Finding, Level, fault, ok, warn
from authapi.database.opening import inspect, missing_migrations, open_as_it_is
from authapi.errors import StartError, Unavailable
from authapi.keys import load_keys
from authapi.keys.root import Root, load_root
from authapi.settings import KeySettings, Settings


def database_findings(settings: Settings, *, deep: bool) -> Iterator[Finding]:
    """Yield what is found in the database and its keys, beside a service or without one."""
    try:
        with open_as_it_is(settings) as database:
            is_current = yield from _schema(database)
            yield from inspect(database, deep=deep)
            root = yield from _keys(settings)
            if root and is_current:
                yield _root_key(root, database)
    except StartError as error:
        yield fault("database", str(error))
    except Unavailable as error:
        yield fault(
            "database",
            f"The database cannot be read ({error.__cause__}): if it is damaged, restore a backup "
            "with authapi db restore.",
        )


def show(call: Call, findings: Iterable[Finding], *, strict: bool = False) -> int:
    """Show findings, a line each; return 1 where one is a fault, or a warning if `strict`."""
    bad = {Level.FAULT, Level.WARN} if strict else {Level.FAULT}
    status = 0
    for each in findings:
        status = max(status, int(each.level in bad))
        record = {"check": each.check, "level": each.level.value, "text": each.text}
        call.console.show(record, f"{each.level.value:5}  {each.check:12}  {each.text}")
        call.console.flush()
    return status


def _schema(database: Database) -> Generator[Finding, None, bool]:
    """Look at the schema's version; return whether it is this release's."""
    try:
        pending = [each.name for each in missing_migrations(database)]
    except StartError as error:
        yield fault("schema", str(error))
        return False
    if pending:
        yield warn(
            "schema",
            f"A start will apply {', '.join(pending)}: run authapi db migrate, or restart the "
            "service.",
        )
        return False
    yield ok("schema", "The schema is this release's.")
    return True


def _keys(settings: Settings) -> Generator[Finding, None, Root | None]:
    """Look at the key files, and make none; return the root, if it can be used."""
    keys = settings.of(KeySettings)
    files = [keys.key_file] if keys.has_key_file else []
    files += [keys.root_key_file] if keys.root_key_file else []
    gone = [file for file in files if not os.path.exists(file)]  # noqa: PTH110 - never raises
    if gone:
        yield fault(
            "keys",
            f"There is no {' and no '.join(gone)}: put it back from where the keys are kept. A "
            "start makes another, which ends all sessions or outdates secrets.",
        )
        return None
    try:
        signing = load_keys(settings)
        root = load_root(settings, signing)
    except StartError as error:
        yield fault("keys", str(error))
        return None
    plural = "s"[: len(signing) != 1]
    yield ok("keys", f"{len(signing)} signing key{plural}, the newest is {signing[-1].kid}.")
    return root


def _root_key(root: Root, database: Database) -> Finding:
    used = database.statements("root_keys")
    if used.has_any() and not any(used.has(kid=kid) for kid in root.kids):
        return warn(
            "root key",
            "The root key is not the one that the database was used with: secrets that were "
            "derived from that one do not count. Put the old one back, if it exists.",
        )
    return ok("root key", f"The root key {root.newest} is the database's.")


def _check(call: Call) -> int:
    settings = as_owner(call.settings)
    return show(call, database_findings(settings, deep=call.arguments.deep))


COMMANDS = (
    Command(
        "db check",
        description="Look for faults of the database: damaged pages, rows without the row that "
        "they belong to, a schema that another program changed, files that others can read, and "
        "keys that are missing. Nothing is changed. The exit status is 1 if there is a fault.",
        run=_check,
        arguments=(
            Argument("--deep", "compare indexes and rows too (SQLite)", action="store_true"),
        ),
        needs_service=False,
    ),
)
