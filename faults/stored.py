"""The content of a database file, compared with what was acknowledged."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.accounts import Account, State

Query = Callable[[str], Iterable[tuple[Any, ...]]]


@dataclass(frozen=True)
class Stored:
    """The accounts in a database, read in one transaction.

    `users` has username, email and password version by id; `damage` is what SQLite itself reports.
    """

    users: dict[int, tuple[str, str, int]]
    sessions: dict[int, frozenset[str]]
    events: dict[int, Counter[str]]
    request_ids: frozenset[str]
    damage: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Stored:
        """Read a database file, which the service may be using. Raises sqlite3.DatabaseError."""
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("BEGIN")
            damage = [row[0] for row in database.execute("PRAGMA integrity_check")]
            orphans = [str(row) for row in database.execute("PRAGMA foreign_key_check")]
            return cls._of(database.execute, *[text for text in damage if text != "ok"], *orphans)

    @classmethod
    def query(cls, query: Query) -> Stored:
        """Read a server's database by a function that runs a statement."""
        return cls._of(query)

    @classmethod
    def _of(cls, query: Query, *damage: str) -> Stored:
        users = {
            user_id: (username, email, version)
            for user_id, username, email, version in query(
                "SELECT id, username, email, password_version FROM users"
            )
        }
        sessions = defaultdict(set)
        for user_id, session_id in query("SELECT user_id, id_hash FROM sessions"):
            sessions[user_id].add(session_id)
        events: dict[int, Counter[str]] = defaultdict(Counter)
        request_ids = set()
        for user_id, event, request_id in query("SELECT user_id, event, request_id FROM audit_log"):
            request_ids.add(request_id)
            if user_id is not None:
                events[user_id][event] += 1
        living = {user_id: frozenset(ids) for user_id, ids in sessions.items()}
        return cls(users, living, events, frozenset(request_ids), damage)

    def find(self, account: Account) -> int | None:
        """Return the id of an account's user. If no registration was answered, find it by email."""
        if account.user_id is not None:
            return account.user_id
        return next((id_ for id_, user in self.users.items() if user[1] == account.email), None)

    def state(self, user_id: int | None) -> State:
        """Return the state of a user."""
        if user_id is None:
            return State()
        username, _, version = self.users.get(user_id, ("", "", 0))
        sessions = self.sessions.get(user_id, frozenset())
        return State(username, version, sessions, self.events.get(user_id, Counter()))

    def faults(self, accounts: list[tuple[Account, list[State]]]) -> Iterator[str]:
        """Return the promises that it breaks, given all accounts with their allowed states.

        Acknowledged events must also be in the audit log under their request ids. The caller checks
        that, because it knows which requests were answered by then.
        """
        yield from (f"the database is damaged: {text}" for text in self.damage)
        known = set()
        for account, allowed in accounts:
            user_id = self.find(account)
            known.add(user_id)
            stored = self.state(user_id)
            if not any(state.allows(stored) for state in allowed):
                yield f"{account.email} is {stored}, not " + " or ".join(map(str, allowed))
            if user_id in self.users and self.users[user_id][1] != account.email:
                yield f"{account.email} has become {self.users[user_id][1]}"
        yield from (
            f"there are {what} of a user {user_id} whom nobody has registered"
            for what in ("users", "sessions", "events")
            for user_id in getattr(self, what).keys() - known
        )
