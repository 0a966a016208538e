"""User management: code finds, lists, adds and changes users, without a request of theirs.

Endpoints: none. Table: none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import falcon

import authapi
from authapi.core import Core
from authapi.events import Caller, Event
from authapi.features.users import (
    Credential,
    CredentialsChanged,
    PasswordChanged,
    UserDeleted,
    UserRenamed,
    UserRepository,
)
from authapi.identifiers import email_fault, email_key, username_key
from authapi.identifiers.usernames import fault
from authapi.middleware import new_request_id
from authapi.principal import Account, User

REQUIRES = ("users",)

PAGE = 500  # rows


class UserAdded(Event):
    """An operator or an application added a user."""

    __slots__ = ()


class UserDisabled(CredentialsChanged):
    """An operator or an application disabled a user: all that their credentials opened ends."""

    __slots__ = ()


class UserEnabled(Event):
    """An operator or an application let a disabled user log in again."""

    __slots__ = ()


class NoSuchUser(LookupError):
    """Raised for a change of a user who does not exist."""


class RefusedValue(ValueError):
    """Raised for a value that is against the rules. Its text is one sentence that says why.

    `field` is `username`, `email`, `password` or `hash`.
    """

    def __init__(self, field: str, sentence: str) -> None:
        """Take the field and the sentence."""
        super().__init__(sentence)
        self.field = field


class Users:
    """The users, for code. `auth.users` is the one instance of an application.

    Each change is one transaction with its events. Their `caller` is the last argument, or else
    names this package and no address. Reserved usernames are allowed, and users can be added while
    registration is closed. Calls wait for the database and for hashes: run them in a thread, not in
    an event loop. Each raises Unavailable where the database cannot be used.
    """

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._rows = core.of(UserRepository)
        self._statements = core.database.statements("commands")

    def get(self, user_id: int | None) -> Account | None:
        """Return the user with an id, such as an event's, or None."""
        page = () if user_id is None else self._page(user_id - 1, 1)
        return page[0] if page and page[0].id == user_id else None

    def find(self, name: str) -> Account | None:
        """Return the user with a username or an email, in any case of letters, or None."""
        credential = self._rows.by_identifier(name)
        return self.get(credential.user.id) if credential else None

    def list(
        self, *, after: int = 0, search: str | None = None, disabled: bool | None = None
    ) -> Iterator[Account]:
        """Yield the users with an id above `after`, in the order of their ids.

        `search` is a part of a username or an email, in any case of letters. `disabled` is True for
        disabled users alone, and False for the others. Changes may be made between two users.
        """
        pattern = None if search is None else _pattern(search)
        only = None if disabled is None else int(disabled)
        while page := self._page(after, PAGE, pattern, only):
            yield from page
            after = page[-1].id

    def _page(
        self, after: int, at_most: int, pattern: str | None = None, disabled: int | None = None
    ) -> tuple[Account, ...]:
        rows = self._statements.users(
            after=after, at_most=at_most, pattern=pattern, disabled=disabled
        )
        return tuple(Account(*row) for row in rows)

    def require_new(self, username: str, email: str) -> None:
        """Raise RefusedValue, UsernameTaken or EmailTaken where nobody can be added so, as yet."""
        _require("username", username, fault(username))
        _require("email", email, email_fault(email))
        self._rows.require_free(username, email)

    def create(  # noqa: PLR0913 - what there is of a user
        self,
        username: str,
        email: str,
        password: str | None = None,
        *,
        password_hash: str | None = None,
        email_verified: bool = False,
        caller: Caller | None = None,
    ) -> Account:
        """Add a user, and return them.

        Without a password or its hash, of a kind that `authapi import` takes, the user cannot log
        in by password. `email_verified` says that the address needs no proof. Raises RefusedValue,
        UsernameTaken, EmailTaken, or Overloaded.
        """
        self.require_new(username, email)
        stored = _stored(self._core, password, password_hash, username, email)
        with self._core.database.transaction():
            verified_at = int(self._core.clock()) if email_verified else None
            user = self._rows.insert(username, email, stored, verified_at).user
            self._core.events.emit(UserAdded(user.id, _known(caller)))
        return Account(**{name: getattr(user, name) for name in User.__struct_fields__})

    def set_password(
        self,
        user_id: int,
        password: str | None,
        *,
        password_hash: str | None = None,
        caller: Caller | None = None,
    ) -> None:
        """Replace a password, also a disabled user's. All of their sessions end.

        None takes it away. Raises NoSuchUser, RefusedValue, or Overloaded.
        """
        user = self.get(user_id)
        if user is None:
            raise NoSuchUser(f"The user with the id {user_id} is gone.")
        stored = _stored(self._core, password, password_hash, user.username, user.email)
        with self._changing(user_id):
            self._statements.set_password(id=user_id, new_hash=stored)
            self._core.events.emit(PasswordChanged(user_id, _known(caller)))
            self._core.events.emit(CredentialsChanged(user_id, _known(caller)))

    def rename(self, user_id: int, username: str, caller: Caller | None = None) -> bool:
        """Give a user another username. Return False where it is the one that they have.

        Raises NoSuchUser, RefusedValue, UsernameTaken.
        """
        with self._changing(user_id) as credential:
            if username != credential.user.username:
                _require("username", username, fault(username))
            renamed = self._rows.rename(user_id, username)
            if renamed:
                self._core.events.emit(UserRenamed(user_id, _known(caller)))
        return renamed

    def disable(self, user_id: int, caller: Caller | None = None) -> bool:
        """Keep a user from logging in, and end their sessions.

        Return False where they are disabled already. Raises NoSuchUser.
        """
        with self._changing(user_id) as credential:
            if not credential.disabled:
                # NOTE: first, because a trigger deletes the sessions that the event's entries name.
                self._core.events.emit(UserDisabled(user_id, _known(caller)))
                now = int(self._core.clock())
                self._statements.set_disabled(id=user_id, disabled_at=now)
        return not credential.disabled

    def enable(self, user_id: int, caller: Caller | None = None) -> bool:
        """Let a user log in again. Return False where they are not disabled. Raises NoSuchUser."""
        with self._changing(user_id) as credential:
            if credential.disabled:
                self._statements.set_disabled(id=user_id, disabled_at=None)
                self._core.events.emit(UserEnabled(user_id, _known(caller)))
        return credential.disabled

    def delete(self, user_id: int, caller: Caller | None = None) -> None:
        """Delete a user, with everything that belongs to them. Raises NoSuchUser."""
        with self._changing(user_id) as credential:
            self._core.events.emit(UserDeleted(user_id, _known(caller)))
            self._rows.delete(credential)

    @contextmanager
    def _changing(self, user_id: int) -> Iterator[Credential]:
        """Run the block in a transaction, with the user's credential as it is in it."""
        with self._core.database.transaction(of=user_id):
            credential = self._rows.by_id(user_id)
            if credential is None:
                raise NoSuchUser(f"The user with the id {user_id} is gone.")
            yield credential


def _stored(core: Core, password: str | None, password_hash: str | None, *names: str) -> str | None:
    """Return the hash to store; None where there is to be no password."""
    passwords = core.passwords
    if password_hash is not None:
        if reason := passwords.import_fault(password_hash):
            raise RefusedValue("hash", f"This is a hash that {reason}.")
        return password_hash
    if password is None:
        return None
    _require("password", None, passwords.fault(password, names=names))
    return passwords.hash(password)


def _require(field: str, value: str | None, fault: str | None) -> None:
    """Raise RefusedValue for a fault. The value is shown, unless it is None."""
    if fault:
        shown = field if value is None else f"{field} {value!r}"
        raise RefusedValue(field, f"The {shown} is refused: {fault}")


def _known(caller: Caller | None) -> Caller:
    return caller or Caller("", f"authapi-python/{authapi.__version__}", new_request_id())


def _pattern(search: str) -> str:
    """Return the pattern of a part of a name, as keys have it."""
    key = email_key(search) if "@" in search else username_key(search)
    return "%" + re.sub(r"([\\%_])", r"\\\1", key) + "%"


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: code calls `Users`."""
