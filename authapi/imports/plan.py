"""What becomes of each row of an import: a new user, a changed one, or a fault."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from authapi.database.opening import KeySet
from authapi.identifiers import email_key, username_key
from authapi.imports.candidates import Candidate, Fate, Rules, looks
from authapi.imports.records import Fault, Imported

Action = Literal["import", "update", "skip", "done"]


@dataclass(frozen=True, slots=True)
class Planned:
    """What to do with a row. `user_id` is that of a user who is there already."""

    line: int
    action: Action
    user: Imported
    username: str = ""
    user_id: int | None = None


class People(Protocol):
    """The users who are there."""

    def by_email(self, keys: Collection[str]) -> dict[str, int]:
        """Return the ids of the users with some of these emails."""

    def taken_names(self, keys: Collection[str]) -> set[str]:
        """Return those keys that are users' names, or what their names look like."""

    def was_imported(self, user_id: int) -> bool:
        """Return whether this import has added or changed a user before."""

    def newest_id(self) -> int:
        """Return the highest id that a user ever had."""


Outcome = Planned | Fate | None


def kind_of(outcome: Outcome) -> str:
    """Return the name under which an outcome is counted."""
    if outcome is None:
        return "left_out"
    return outcome.action if isinstance(outcome, Planned) else "fault"


class Planner:
    """Decides on the rows of a file, some at a time. Each row is held against all before it."""

    def __init__(self, rules: Rules, people: People, keys: KeySet) -> None:
        """Take the rules, the users who are there and an empty set of keys."""
        self._rules, self._people, self._keys = rules, people, keys
        self._highest_id: int | None = None

    def plan(self, candidates: list[Candidate]) -> list[Outcome]:
        """Return what to do with each, or the fault with its line."""
        existing = self._people.by_email([each.key for each in candidates])
        names = {key for each in candidates for name in each.names for key in looks(name)}
        taken = self._people.taken_names(names)
        if self._highest_id is None:
            self._highest_id = self._people.newest_id()
        planned: list[Outcome] = []
        for each in candidates:
            try:
                planned.append(self._decide(each, existing.get(each.key), taken))
            except Fault as fault:
                planned.append((each.line, fault))
        return planned

    def _decide(self, each: Candidate, user_id: int | None, taken: set[str]) -> Planned:
        first = self._keys.add(f"email {each.key}", each.line)
        if first != each.line:
            raise Fault(f"Line {first} has the same email, {each.user.email}.", "email_taken")
        if user_id is not None:
            return self._decide_existing(each, user_id)
        self._require_new_id(each.user)
        for name in each.names:
            keys = looks(name)
            if taken.isdisjoint(keys) and all(self._is_new(key, each.line) for key in keys):
                return Planned(each.line, "import", each.user, name)
        raise Fault(
            f"The username {each.names[0] if each.names else ''!r} is taken by another user or an "
            "earlier line, or looks like theirs.",
            "username_taken",
        )

    def _decide_existing(self, each: Candidate, user_id: int) -> Planned:
        if self._people.was_imported(user_id):
            return Planned(each.line, "done", each.user, user_id=user_id)
        if self._rules.on_conflict == "fail":
            raise Fault(f"The user {user_id} has the same email, {each.user.email}.", "email_taken")
        return Planned(each.line, self._rules.on_conflict, each.user, user_id=user_id)

    def _is_new(self, key: str, line: int) -> bool:
        return self._keys.add(f"name {key}", line) == line

    def _require_new_id(self, user: Imported) -> None:
        """Raise Fault for an id to keep that was given before, here or in an earlier line.

        SECURITY: applications keep data by the id, also that of a user who was deleted.
        """
        if not self._rules.keeps_ids or user.id is None:
            return
        if user.id <= (self._highest_id or 0):
            raise Fault(
                f"The id {user.id} was given before, or an earlier line has a higher one.",
                "id_taken",
            )
        self._highest_id = user.id


def row_of(planned: Planned, now: int) -> list[object]:
    """Return the row of a new user, in the order of `insert_rows`."""
    user = planned.user
    created_at = now if user.created_at is None else user.created_at
    return [
        user.id,
        planned.username,
        username_key(planned.username),
        user.email,
        email_key(user.email),
        user.password_hash,
        user.password_version,
        user.credentials_version,
        user.email_verified_at,
        user.roles,
        user.disabled_at or (now if user.is_disabled else None),
        created_at,
        user.updated_at or created_at,
    ]


def as_json(keys: Collection[str]) -> str:
    """Return keys as a JSON array."""
    return json.dumps(sorted(keys))
