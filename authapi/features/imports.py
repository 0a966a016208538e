"""Imports: users of other systems and of authapi move in, with the hashes of their passwords.

Endpoints: none. Command: `authapi import`. Table: none of its own. Readers: `authapi.imports`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import islice

from authapi.commands import Argument, Call, Command, CommandError
from authapi.commands.console import tell
from authapi.core import Core
from authapi.database.opening import KeySet, key_set
from authapi.events import Caller, Event
from authapi.features.audit import AuditRepository
from authapi.features.registration import NewNames
from authapi.features.users import CredentialsChanged, UserRepository
from authapi.identifiers import email_key
from authapi.identifiers.usernames import lookalikes
from authapi.imports.candidates import Candidate, Read, Rules, candidates
from authapi.imports.formats import FORMATS, load
from authapi.imports.plan import Outcome, Planned, Planner, as_json, kind_of, row_of
from authapi.imports.records import Fault
from authapi.imports.source import Source, open_source

REQUIRES = ("audit", "registration", "users")

BATCH = 1_000  # rows of a transaction
PATIENCE = 60  # seconds until a transaction can begin


class Imported(Event):
    """An operator imported a user; `detail` is `updated` for one who was there already."""

    __slots__ = ()


class ImportedUsers:
    """The users table, for many users at once."""

    def __init__(self, core: Core, operator: Caller) -> None:
        """Take the core, and the caller whose request id names the file."""
        self._core, self._operator = core, operator
        self._statements = core.database.statements("imports")
        self._users = core.database.statements("users")
        self.newest_id = core.of(UserRepository).newest_id

    def by_email(self, keys: Collection[str]) -> dict[str, int]:
        """Return the ids of the users with some of these emails."""
        return dict(self._statements.users_by_email(keys=as_json(keys)))

    def taken_names(self, keys: Collection[str]) -> set[str]:
        """Return those keys that are users' names, or what their names look like."""
        return {key for (key,) in self._statements.taken_names(keys=as_json(keys))}

    def was_imported(self, user_id: int) -> bool:
        """Return whether this file has added or changed a user before."""
        return self._core.of(AuditRepository).has(Imported(user_id, self._operator))

    def lock(self) -> None:
        """Keep others from changing users until the transaction ends."""
        self._core.database.statements("database").lock_users()

    def write(self, planned: Iterable[Planned]) -> None:
        """Add and change users, inside a transaction, each with its event."""
        planned = list(planned)
        self._add([each for each in planned if each.action == "import"])
        for each in planned:
            if each.action == "update" and each.user_id is not None:
                self._update(each, each.user_id)

    def _add(self, planned: list[Planned]) -> None:
        if not planned:
            return
        now = int(self._core.clock())
        rows = json.dumps([row_of(each, now) for each in planned])
        ids = {key: user_id for user_id, key in self._statements.insert_rows(rows=rows)}
        for each in planned:
            user_id = ids[email_key(each.user.email)]
            for lookalike in lookalikes(each.username):
                self._users.add_lookalike(user_id=user_id, lookalike=lookalike)
            self._core.events.emit(Imported(user_id, self._operator))
        if any(each.user.id for each in planned):
            self._statements.continue_ids(newest=max(self.newest_id(), *ids.values()))

    def _update(self, planned: Planned, user_id: int) -> None:
        """Give a user the password of the file. All sessions end."""
        user = planned.user
        disabled_at = int(self._core.clock()) if user.is_disabled else None
        self._statements.update(
            id=user_id,
            password_hash=user.password_hash,
            email_verified_at=user.email_verified_at,
            disabled_at=user.disabled_at or disabled_at,
        )
        self._core.events.emit(CredentialsChanged(user_id, self._operator))
        self._core.events.emit(Imported(user_id, self._operator, detail="updated"))


class Importer:
    """Reads a source twice: once to find all faults, and once to write."""

    def __init__(self, call: Call, source: Source, rules: Rules, said: KeySet) -> None:
        """Take the command's run, what to read, the rules, and a set for the lines with faults."""
        self._call, self._source, self._rules, self._said = call, source, rules, said
        self._digest = source.digest()
        operator = replace(call.operator, request_id=f"import-{self._digest[:24]}")
        self._people = ImportedUsers(call.core, operator)
        self._read = load(_format(call)).read

    def check(self) -> Counter[str]:
        """Say what is wrong with the file, and return how many rows there are of each kind."""
        return self._run(1, "Checking users")

    def write(self) -> Counter[str]:
        """Write all rows that have no fault, as `check`. Raises CommandError for another file."""
        if self._source.digest() != self._digest:
            raise CommandError("The file has changed meanwhile, so nothing is imported.")
        return self._run(2, "Importing users")

    def _run(self, reading: int, step: str) -> Counter[str]:
        """Go through the file; return how many rows there are of each kind."""
        counts: Counter[str] = Counter()
        with key_set() as keys, self._call.console.progress(step) as tick:
            planner = Planner(self._rules, self._people, keys)
            for batch in self._batches():
                for outcome in self._decide(planner, batch, writes=reading == 2):
                    counts[kind_of(outcome)] += 1
                    if isinstance(outcome, tuple):
                        self._say(reading, *outcome)
                tick()
        return counts

    def _say(self, reading: int, line: int, fault: Fault) -> None:
        """Write a fault to standard error, once: a line of JSON, which is ASCII."""
        if self._said.add(str(line), reading) == reading:
            tell(json.dumps({"line": line, "error": fault.error, "message": str(fault)}))

    def _batches(self) -> Iterator[list[Read]]:
        """Yield the rows of the source, some at a time."""
        rows = candidates(self._source.rows(), self._read, self._rules)
        while batch := list(islice(rows, BATCH)):
            yield batch

    def _decide(self, planner: Planner, batch: list[Read], *, writes: bool) -> list[Outcome]:
        """Return what becomes of some rows, in a transaction where it is also written."""
        others: list[Outcome] = [each for each in batch if not isinstance(each, Candidate)]
        found = [each for each in batch if isinstance(each, Candidate)]
        if not writes:
            return [*others, *planner.plan(found)]
        with self._call.core.database.transaction(PATIENCE):
            self._people.lock()
            planned = planner.plan(found)
            self._people.write(each for each in planned if isinstance(each, Planned))
        return [*others, *planned]


def _format(call: Call) -> str:
    return str(getattr(call.arguments, "from"))  # a keyword of Python


def _run(call: Call) -> int:
    arguments = call.arguments
    # NOTE: the file is opened before root becomes the owner of the database.
    with open_source(arguments.file, load(_format(call))) as source, call.service():
        core = call.core
        rules = Rules(
            name_fault=core.of(NewNames).username_fault,
            hash_fault=core.passwords.import_fault,
            makes_names=arguments.username_from == "email-local-part",
            keeps_ids=arguments.keep_ids,
            on_conflict=arguments.on_conflict,
        )
        with key_set() as said:
            importer = Importer(call, source, rules, said)
            counts = importer.check()
            is_refused = arguments.on_conflict == "fail" and counts["fault"] > 0
            is_dry = arguments.dry_run or is_refused
            if not is_dry:
                counts = importer.write()
    _show(call, counts, is_dry=is_dry, is_refused=is_refused)
    return 1 if counts["fault"] else 0


def _show(call: Call, counts: Counter[str], *, is_dry: bool, is_refused: bool) -> None:
    record = {
        "imported": 0 if is_dry else counts["import"],
        "updated": 0 if is_dry else counts["update"],
        "would_import": counts["import"] if is_dry else 0,
        "would_update": counts["update"] if is_dry else 0,
        "done_before": counts["done"],
        "skipped": counts["skip"],
        "left_out": counts["left_out"],
        "faults": counts["fault"],
    }
    lines = [f"{name.replace('_', ' ')}: {count}" for name, count in record.items() if count]
    if is_refused:
        lines.append("Nothing is imported. --on-conflict skip imports the rows without a fault.")
    call.console.show(record, "\n".join(lines) or "There are no users in the file.")


COMMANDS = (
    Command(
        "import",
        description="Import users of another system, or of authapi, with the hashes of their "
        "passwords. Everything is checked before anything is written. Faults are JSON Lines on "
        "standard error.",
        run=_run,
        needs_service=False,
        arguments=(
            Argument("file", "the file, or - for standard input", metavar="FILE"),
            Argument(
                "--from", "the format, default authapi", default="authapi", choices=tuple(FORMATS)
            ),
            Argument("--dry-run", "check the file and write nothing", action="store_true"),
            Argument(
                "--on-conflict",
                "fail: write nothing if a row has a fault or its user is there (default); skip "
                "such rows; or update users who are there",
                default="fail",
                choices=("fail", "skip", "update"),
            ),
            Argument(
                "--username-from",
                "make the usernames that are missing or break a rule of the emails",
                default="none",
                choices=("none", "email-local-part"),
            ),
            Argument("--keep-ids", "give users the ids of the file", action="store_true"),
        ),
    ),
)
