"""Sessions, as an operator lists and ends them.

Endpoints: none. Commands: authapi session list, session end. Table: none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from authapi.commands import YES, Argument, Call, Command, CommandError, OneOf, natural, utf8
from authapi.commands.tables import Record
from authapi.core import Core
from authapi.events import Caller
from authapi.features.sessions import SessionRevoked, Sessions
from authapi.features.user_look_up import described, find_user
from authapi.features.users import UserRepository
from authapi.principal import User
from authapi.times import timestamp

REQUIRES = ("sessions", "user_look_up", "users")

PAGE = 500  # rows
USERS_AT_ONCE = 100  # in one transaction
ID_LENGTH = 64  # hexadecimal digits
SHOWN_LENGTH = 12  # of them, in a table

_ID = re.compile(f"[0-9a-f]{{{SHOWN_LENGTH},{ID_LENGTH}}}")

COLUMNS = ("id", "username", "created_at", "last_seen_at", "ip", "user_agent")


class OperatedSessions:
    """Lists and ends sessions as an operator asks."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._sessions, self._users = core.of(Sessions), core.of(UserRepository)
        self._statements = core.database.statements("commands")

    def records(self) -> Iterator[Record]:
        """Yield what is shown of every session, in the order in which they were opened."""
        after, now = 0, int(self._core.clock())
        while rows := self._statements.sessions(after=after, at_most=PAGE, now=now):
            for place, *row in rows:
                after = place
                yield _record(*row)

    def records_of(self, user: User) -> Iterator[Record]:
        """Yield what is shown of a user's sessions, in the order in which they were opened."""
        for each in reversed(self._sessions.of_user(user, self._core.clock())):
            times = (each.created_at, each.authenticated_at, each.last_seen_at, each.expires_at)
            place = (each.ip, each.user_agent, each.method_names)
            yield _record(each.id, *times, *place, user.id, user.username)

    def find(self, given: str) -> tuple[str, int]:
        """Return the id of the session whose id begins so, and its user's. Raises CommandError."""
        found = []
        if _ID.fullmatch(given):
            first, last = given.ljust(ID_LENGTH, "0"), given.ljust(ID_LENGTH, "f")
            found = self._statements.sessions_by_id(first=first, last=last)
        if len(found) != 1:
            what = "more than one session whose" if found else "no session whose"
            raise CommandError(f"There is {what} id begins with {given!r}.", "no_such_session")
        session_id, user_id = found[0]
        return session_id, user_id

    def end(self, session_id: str, user_id: int, operator: Caller) -> bool:
        """End a session; return False where it has ended meanwhile."""
        with self._core.database.transaction(of=user_id):
            ended = self._sessions.end(session_id, user_id)
            if ended:
                self._core.events.emit(SessionRevoked(user_id, operator, session_id))
        return ended

    def end_of_user(self, user_id: int, operator: Caller) -> int:
        """End all sessions of a user, and logins and links that wait; return how many sessions."""
        with self._core.database.transaction(of=user_id):
            return self._end_of(user_id, operator)

    def end_all(self, operator: Caller) -> Iterator[int]:
        """End the same of all users, some at once; yield how many sessions each time."""
        after = 0
        while rows := self._statements.user_ids(after=after, at_most=USERS_AT_ONCE):
            ids = [user_id for (user_id,) in rows]
            with self._core.database.transaction(of=ids):
                ended = sum(self._end_of(each, operator) for each in ids)
            after = ids[-1]
            yield ended

    def _end_of(self, user_id: int, operator: Caller) -> int:
        self._users.outdate(user_id)
        return self._sessions.end_others(user_id, operator, kept=None)


def _record(  # noqa: PLR0913, PLR0917 - a row
    session_id: str,
    created_at: int,
    authenticated_at: int,
    last_seen_at: int,
    expires_at: int,
    ip: str,
    user_agent: str,
    methods: str,
    user_id: int,
    username: str,
) -> dict[str, object]:
    return {
        "id": session_id,
        "user_id": user_id,
        "username": username,
        "created_at": timestamp(created_at),
        "authenticated_at": timestamp(authenticated_at),
        "last_seen_at": timestamp(last_seen_at),
        "expires_at": timestamp(expires_at),
        "ip": ip,
        "user_agent": user_agent,
        "methods": methods.split(),
    }


def _list(call: Call) -> None:
    given, sessions = call.arguments, call.core.of(OperatedSessions)
    if given.user is None:
        records = sessions.records()
    else:
        records = sessions.records_of(find_user(call.core, given.user).user)
    if not call.console.as_json:
        records = ({**each, "id": str(each["id"])[:SHOWN_LENGTH]} for each in records)
    call.console.rows(islice(records, given.limit), COLUMNS, "There is no session.")


def _end(call: Call) -> None:
    given, sessions = call.arguments, call.core.of(OperatedSessions)
    if given.all:
        call.console.confirm("End all sessions of all users", "all", yes=given.yes)
        with call.console.progress("Ending all sessions") as tick:
            ended = 0
            for number in sessions.end_all(call.operator):
                ended += number
                tick()
        what = ""
    elif given.user is not None:
        credential = find_user(call.core, given.user)
        ended = sessions.end_of_user(credential.user.id, call.operator)
        what = f" of {described(credential)}"
    else:
        found = [sessions.find(each) for each in given.ids]
        ended = sum(sessions.end(*each, call.operator) for each in dict.fromkeys(found))
        what = ""
    plural = "session" if ended == 1 else "sessions"
    call.console.show({"ended": ended}, f"Ended {ended} {plural}{what}.")


COMMANDS = (
    Command(
        "session list",
        "List live sessions, the oldest first. The table shows the first part of each id.",
        _list,
        (
            Argument("--user", "of this user alone", metavar="NAME", type=utf8),
            Argument("--limit", "how many at most", metavar="N", type=natural),
        ),
    ),
    Command(
        "session end",
        "End sessions: by their ids, all of a user, or all that there are.",
        _end,
        (
            OneOf(
                Argument(
                    "ids",
                    "ids, or their first 12 digits or more",
                    metavar="ID",
                    nargs="*",
                    default=[],
                    type=utf8,
                ),
                Argument("--user", "all sessions of this user", metavar="NAME", type=utf8),
                Argument("--all", "all sessions of all users", action="store_true"),
                required=True,
            ),
            YES,
        ),
    ),
)
