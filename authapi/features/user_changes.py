"""Changing users, as an operator.

Endpoints: none. Commands: authapi user rename, disable, enable, delete. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from authapi.commands import YES, Argument, Call, Command, CommandError, utf8
from authapi.core import Core
from authapi.events import Caller, Event
from authapi.features.user_look_up import NAME, NAMES, described, find_user
from authapi.features.users import (
    Credential,
    CredentialsChanged,
    UserDeleted,
    UserRenamed,
    UserRepository,
)
from authapi.identifiers.usernames import fault

REQUIRES = ("user_look_up", "users")


class UserDisabled(CredentialsChanged):
    """An operator disabled a user: all that their credentials opened ends."""

    __slots__ = ()


class UserEnabled(Event):
    """An operator let a disabled user log in again."""

    __slots__ = ()


class OperatedUsers:
    """Changes users as an operator asks. Each change is one transaction, with its events."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._rows = core.of(UserRepository)
        self._statements = core.database.statements("commands")

    @contextmanager
    def changing(self, user_id: int) -> Iterator[Credential]:
        """Run the block in a transaction, with the user's credential as it is in it.

        Raises CommandError.
        """
        with self._core.database.transaction(of=user_id):
            credential = self._rows.by_id(user_id)
            if credential is None:
                raise CommandError(f"The user with the id {user_id} is gone.", "no_such_user")
            yield credential

    def rename(self, user_id: int, username: str, operator: Caller) -> bool:
        """Give a user another username. Return False where it is the one that they have.

        Raises UsernameTaken, and CommandError.
        """
        with self.changing(user_id):
            renamed = self._rows.rename(user_id, username)
            if renamed:
                self._core.events.emit(UserRenamed(user_id, operator))
        return renamed

    def disable(self, user_id: int, operator: Caller) -> bool:
        """Disable a user and end their sessions. Return False where they are disabled already.

        Raises CommandError.
        """
        with self.changing(user_id) as credential:
            if not credential.disabled:
                # NOTE: first, because a trigger deletes the sessions that the event's entries name.
                self._core.events.emit(UserDisabled(user_id, operator))
                now = int(self._core.clock())
                self._statements.set_disabled(id=user_id, disabled_at=now)
        return not credential.disabled

    def enable(self, user_id: int, operator: Caller) -> bool:
        """Let a user log in again. Return False where they are not disabled.

        Raises CommandError.
        """
        with self.changing(user_id) as credential:
            if credential.disabled:
                self._statements.set_disabled(id=user_id, disabled_at=None)
                self._core.events.emit(UserEnabled(user_id, operator))
        return credential.disabled

    def delete(self, user_id: int, operator: Caller) -> None:
        """Delete a user, with everything that belongs to them. Raises CommandError."""
        with self.changing(user_id) as credential:
            self._core.events.emit(UserDeleted(user_id, operator))
            self._rows.delete(credential)


def require_name(what: str, name: str, fault: str | None) -> None:
    """Raise CommandError for a username or an email against the rules."""
    if fault:
        raise CommandError(f"The {what} {name!r} is refused: {fault}", f"bad_{what}")


def _rename(call: Call) -> None:
    users, username = call.core.of(OperatedUsers), call.arguments.username
    credential = find_user(call.core, call.arguments.name)
    if username != credential.user.username:
        require_name("username", username, fault(username))
    renamed = users.rename(credential.user.id, username, call.operator)
    record = {"id": credential.user.id, "username": username, "renamed": renamed}
    what = f"is {username!r} now" if renamed else "has this username already"
    call.console.show(record, f"{described(credential)} {what}.")


def _disable(call: Call) -> None:
    disable = call.core.of(OperatedUsers).disable
    _for_each(call, disable, "disabled", "is disabled, and has no session.", "was disabled before.")


def _enable(call: Call) -> None:
    enable = call.core.of(OperatedUsers).enable
    _for_each(call, enable, "enabled", "may log in again.", "was not disabled.")


def _for_each(
    call: Call, change: Callable[[int, Caller], bool], word: str, done: str, nothing: str
) -> None:
    """Change each of the users that are named, once all of them were found."""
    for credential in [find_user(call.core, name) for name in call.arguments.names]:
        user = credential.user
        changed = change(user.id, call.operator)
        record = {"id": user.id, "username": user.username, word: changed}
        call.console.show(record, f"{described(credential)} {done if changed else nothing}")


def _delete(call: Call) -> None:
    given, users = call.arguments, call.core.of(OperatedUsers)
    credentials = [find_user(call.core, name) for name in given.names]
    for credential in credentials:
        question = f"Delete {described(credential)}, with all that is theirs"
        call.console.confirm(question, credential.user.username, yes=given.yes)
    for credential in credentials:
        user = credential.user
        users.delete(user.id, call.operator)
        record = {"id": user.id, "username": user.username, "deleted": True}
        call.console.show(record, f"Deleted {described(credential)}.")


COMMANDS = (
    Command(
        "user rename",
        "Give a user another username. A reserved one is allowed here.",
        _rename,
        (NAME, Argument("username", "the new username", metavar="NEW", type=utf8)),
    ),
    Command(
        "user disable",
        "Keep users from logging in, and end their sessions.",
        _disable,
        (NAMES,),
    ),
    Command("user enable", "Let disabled users log in again.", _enable, (NAMES,)),
    Command(
        "user delete",
        "Delete users, with everything that belongs to them. The audit log keeps its entries.",
        _delete,
        (NAMES, YES),
    ),
)
