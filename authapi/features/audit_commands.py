"""The audit log, as an operator reads, follows and prunes it.

Endpoints: none. Commands: authapi audit list, audit prune. Table: none of its own.
"""

from __future__ import annotations

import re
import time
from argparse import ArgumentTypeError
from collections.abc import Iterator
from itertools import islice
from typing import Any

from authapi import features
from authapi.commands import Argument, Call, Command, CommandError, OneOf, natural, utf8
from authapi.commands.tables import Record
from authapi.core import Core
from authapi.database import Row
from authapi.events import Event, name_of
from authapi.feature import load
from authapi.features.audit import LARGEST_ID, RETENTION, AuditRepository
from authapi.features.user_look_up import find_id
from authapi.settings.group import meant
from authapi.times import timestamp

REQUIRES = ("audit", "user_look_up")

PAGE = 500  # rows
FIRST_PLACE = ("0", 0)
LONGEST_TRANSACTION = 3_600  # seconds
LOOKS_EVERY = 1.0  # seconds
DAY = 86_400  # seconds
DAYS = RETENTION // DAY

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE = re.compile(r"([0-9]{1,9})([smhd])")

COLUMNS = ("created_at", "event", "detail", "user_id", "ip", "user_agent")


class AuditPruned(Event):
    """An operator deleted old entries of the audit log. The detail is their least age."""

    __slots__ = ()


class AuditReader:
    """Reads the audit log, a page at a time."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._statements = core.database.statements("commands")

    def newest_first(self, user_id: int | None, since: int | None) -> Iterator[Row]:
        """Yield the entries, or those of a user, from a time on, the newest first."""
        oldest = 0 if since is None else self._statements.oldest_entry(since=since)
        before = LARGEST_ID
        while oldest is not None and (rows := self._page(user_id, before, oldest, since or 0)):
            yield from rows
            before = rows[-1][0]

    def has(self, event: str) -> bool:
        """Return whether an entry is of an event with this name. NOTE: it reads all entries."""
        return bool(self._statements.has_event(event=event))

    def _page(self, user_id: int | None, before: int, oldest: int, since: int) -> list[Row]:
        bounds = {"before": before, "oldest": oldest, "since": since, "at_most": PAGE}
        if user_id is None:
            return list(self._statements.entries(**bounds))
        return list(self._statements.entries_of_user(user_id=user_id, **bounds))

    def as_they_come(self, since: int | None, now: float) -> Iterator[Row | None]:
        """Yield the entries from a time on, or from now on, the oldest first, and None for a pause.

        It has no end.

        NOTE: after a restore, PostgreSQL counts transactions anew, so that those of older entries
        are still to come. They are told by their time.
        """
        place, entry_id = self._statements.place() if since is None else FIRST_PLACE
        since = int(now) - LONGEST_TRANSACTION if since is None else since
        while True:
            rows = self._statements.entries_after(
                place=place, id=entry_id, since=since, at_most=PAGE
            )
            for each, *row in rows:
                place, entry_id = each, row[0]
                yield tuple(row)
            if len(rows) < PAGE:
                yield None
                time.sleep(LOOKS_EVERY)


def _record(row: tuple[Any, ...]) -> Record:
    """Return an entry as it is shown."""
    entry_id, created_at, event, detail, user_id, session_id, ip, user_agent, request_id = row
    return {
        "id": entry_id,
        "created_at": timestamp(created_at),
        "event": event,
        "detail": detail,
        "user_id": user_id,
        "session_id": session_id,
        "ip": ip,
        "user_agent": user_agent,
        "request_id": request_id,
    }


def age(text: str) -> int:
    """Return the seconds of an age such as `90d`: a `type` for argparse.

    Raises ArgumentTypeError.
    """
    found = _AGE.fullmatch(text)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is not an age such as 90s, 15m, 2h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def prunable_age(text: str) -> int:
    """Return an age that the audit log lets go: a `type` for argparse. Raises ArgumentTypeError."""
    seconds = age(text)
    if seconds < RETENTION:
        raise ArgumentTypeError(f"the audit log keeps entries for {DAYS} days")
    return seconds


def _declared_events() -> list[str]:
    """Return the names of the events that the features declare, those of commands too."""
    load([*features.DEFAULT, *(feature for feature, _ in features.COMMANDS.values())])
    kinds = [Event]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return [name_of(kind) for kind in kinds]


def _require_events(reader: AuditReader, names: list[str]) -> None:
    """Raise CommandError for a name that no feature declares and no entry has.

    An entry may be of an event that an application declared.
    """
    known = _declared_events()
    for name in names:
        if name not in known and not reader.has(name):
            raise CommandError(
                f"There is no event {name!r}{meant(name, known)}: see docs/features/audit.md.",
                "no_such_event",
            )


def _list(call: Call) -> None:
    core, given = call.core, call.arguments
    user_id = None if given.user is None else find_id(core, given.user)
    since = None if given.since is None else int(core.clock()) - given.since

    def is_asked_for(row: Row) -> bool:
        return (user_id is None or row[4] == user_id) and (not given.event or row[2] in given.event)

    reader = core.of(AuditReader)
    if given.event:
        _require_events(reader, given.event)
    if given.follow:
        coming = reader.as_they_come(since, core.clock())
        _follow(call, (row for row in coming if row is None or is_asked_for(row)))
    else:
        rows = filter(is_asked_for, reader.newest_first(user_id, since))
        records = map(_record, islice(rows, given.limit))
        call.console.rows(records, COLUMNS, "There is no such entry.")


def _follow(call: Call, rows: Iterator[Row | None]) -> None:
    """Show entries as they come, until ^C."""
    table = call.console.table(COLUMNS)
    for row in rows:
        if row is None:
            table.flush()
        else:
            table.add(_record(row))


def _prune(call: Call) -> None:
    core, given, log = call.core, call.arguments, call.core.of(AuditRepository)
    count = 0
    with call.console.progress("Pruning the audit log") as tick:
        while True:
            with core.database.transaction():
                deleted = log.prune_older(given.before, core.clock(), at_most=PAGE)
                if deleted and not count:
                    age_in_days = f"{given.before // DAY}d"
                    core.events.emit(AuditPruned(None, call.operator, detail=age_in_days))
            count += deleted
            if not deleted:
                break
            tick()
    plural = "entry" if count == 1 else "entries"
    call.console.show({"deleted": count}, f"Deleted {count} {plural}.")


COMMANDS = (
    Command(
        "audit list",
        "List what happened, the newest first; or, with --follow, show it as it happens.",
        _list,
        (
            Argument(
                "--user",
                "of this user alone; id:7 may be a deleted user",
                metavar="NAME",
                type=utf8,
            ),
            Argument("--event", "these events alone", metavar="EVENT", nargs="+", type=utf8),
            Argument("--since", "since that long ago: 90s, 15m, 2h, 7d", metavar="AGE", type=age),
            OneOf(
                Argument("--limit", "how many at most", metavar="N", type=natural),
                Argument("--follow", "wait for further entries, until ^C", action="store_true"),
            ),
        ),
    ),
    Command(
        "audit prune",
        f"Delete entries that are older than {DAYS} days or more, as the service does each minute.",
        _prune,
        (Argument("--before", f"older than {DAYS}d or more", "AGE", prunable_age, required=True),),
    ),
)
