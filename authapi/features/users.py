"""Users, and the credentials that a login is checked against.

Endpoints: none. Table: users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import falcon

from authapi.core import Core
from authapi.database import UniqueViolation
from authapi.errors import Failure
from authapi.events import Event, Restored
from authapi.identifiers import email_key, name_key, username_key
from authapi.identifiers.usernames import lookalikes
from authapi.principal import User

REQUIRES: tuple[str, ...] = ()

SKIPPED_AT_RESTORE = 1_000_000  # user ids, and versions of a user's credentials


class UsernameTaken(Failure):
    """Raised when another user has the username, in any case of letters."""

    status, error, message = 409, "username_taken", "The username is already taken."


class UsernameLookalike(UsernameTaken):
    """Raised when another user has a username that looks like this one."""

    message = "A username that looks like this one is already taken."


class EmailTaken(Failure):
    """Raised when another user has the email, in any case of letters."""

    status, error, message = 409, "email_taken", "The email is already taken."


class PasswordChanged(Event):
    """A user's password changed."""

    __slots__ = ()


class CredentialsChanged(Event):
    """A user's credentials changed: sessions and links from before end, except `session_id`."""

    __slots__ = ()


class UserRenamed(Event):
    """A user's username changed."""

    __slots__ = ()


class UserDeleted(Event):
    """A user is about to be deleted, with everything that belongs to them."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Credential:
    """A user with what a login is checked against. There may be no password, and then no hash.

    `password_version` counts the passwords that the user has had. `credentials_version` rises with
    every change of a credential, the password included.
    """

    user: User
    password_hash: str | None = field(repr=False)
    password_version: int
    credentials_version: int
    disabled: bool


class UserRepository:
    """The users table. Names and emails are found by their caseless keys."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._statements = core.database.statements("users")
        self._outdating: list[Callable[[int], None]] = []

    def insert(
        self, username: str, email: str, password_hash: str | None, verified_at: int | None = None
    ) -> Credential:
        """Add a user, inside a transaction. Raises UsernameTaken or EmailTaken."""
        with _taken():
            row = self._statements.insert(
                username=username,
                username_key=username_key(username),
                email=email,
                email_key=email_key(email),
                password_hash=password_hash,
                email_verified_at=verified_at,
            )
        credential = _credential(row)
        self._keep_lookalikes(credential.user.id, username)
        return credential

    def newest_id(self) -> int:
        """Return the highest id that a user ever had."""
        return int(self._statements.newest_id())

    def skip(self, newest_id: int) -> None:
        """Leave out the ids and the versions of credentials that a lost database may have given.

        SECURITY: else another user gets the data that an application keeps by a lost user's id,
        and a device cookie of a lost password counts again.
        """
        newest_id = max(self.newest_id(), newest_id)
        self._statements.forget_newest_id()
        self._statements.remember_newest_id(id=newest_id + SKIPPED_AT_RESTORE)
        self._statements.skip_versions(number=SKIPPED_AT_RESTORE)

    def by_id(self, user_id: int) -> Credential | None:
        """Return the credential of a user, or None."""
        row = self._statements.by_id(id=user_id)
        return row and _credential(row)

    def by_session(self, session_id: str) -> Credential | None:
        """Return the credential of a session's user, or None if the session has ended.

        SECURITY: inside a transaction, this notices that the session ended while its request waited
        for the writer lock.
        """
        row = self._statements.by_session(id_hash=session_id)
        return row and _credential(row)

    def by_identifier(self, identifier: str) -> Credential | None:
        """Return the credential of the user with a username or an email, or None."""
        row, (kind, key) = None, name_key(identifier)
        if kind == "email":
            row = self._statements.by_email(email_key=key)
        elif kind == "username":
            row = self._statements.by_username(username_key=key)
        return row and _credential(row)

    def require_free(self, username: str, email: str | None = None) -> None:
        """Raise UsernameTaken or EmailTaken. Somebody may be quicker yet: `insert` has the say."""
        if self._statements.is_username_taken(username_key=username_key(username)):
            raise UsernameTaken
        self._require_no_lookalike(0, username)
        if email is not None and self._statements.is_email_taken(email_key=email_key(email)):
            raise EmailTaken

    def _require_no_lookalike(self, user_id: int, username: str) -> None:
        """Raise UsernameLookalike where a username looks like another user's.

        SECURITY: whoever reads a name takes it for the one that looks the same.
        """
        keys = _looks(username)
        if any(self._statements.is_lookalike(id=user_id, key=key) for key in keys):
            raise UsernameLookalike

    def _keep_lookalikes(self, user_id: int, username: str) -> None:
        for key in _looks(username):
            self._statements.hold_name(key=key)
        self._require_no_lookalike(user_id, username)
        for lookalike in lookalikes(username):
            self._statements.add_lookalike(user_id=user_id, lookalike=lookalike)

    def rehash(self, credential: Credential, new_hash: str) -> None:
        """Replace the hash that was verified, inside a transaction."""
        self._statements.rehash(
            id=credential.user.id, verified_hash=credential.password_hash, new_hash=new_hash
        )

    def change_password(self, credential: Credential, new_hash: str) -> bool:
        """Replace a password, inside a transaction.

        Return False where it has changed meanwhile, or the user is disabled or gone.
        """
        changed = self._statements.change_password(
            id=credential.user.id, password_version=credential.password_version, new_hash=new_hash
        )
        return bool(changed)

    def outdate(self, user_id: int | None) -> None:
        """Make outdated whatever was begun with a user's credentials, inside a transaction."""
        if self._statements.raise_credentials_version(id=user_id):
            for action in self._outdating:
                action(user_id or 0)

    def when_outdated(self, action: Callable[[int], None]) -> None:
        """Call `action` with a user's id in each transaction that outdates their credentials."""
        self._outdating.append(action)

    def rename(self, user_id: int, username: str) -> bool:
        """Give a user another username, inside a transaction. Raises UsernameTaken.

        False where it is the one that they have, or they are gone.
        """
        with _taken():
            renamed = self._statements.rename(
                id=user_id, username=username, username_key=username_key(username)
            )
        if renamed:
            self._statements.forget_lookalikes(user_id=user_id)
            self._keep_lookalikes(user_id, username)
        return bool(renamed)

    def delete(self, credential: Credential) -> bool:
        """Delete a user and all that is theirs, inside a transaction.

        False where they are gone already, or the password has changed meanwhile.
        """
        deleted = self._statements.delete(
            id=credential.user.id, password_version=credential.password_version
        )
        return bool(deleted)


@contextmanager
def _taken() -> Iterator[None]:
    """Turn a collision into UsernameTaken or EmailTaken."""
    try:
        yield
    except UniqueViolation as violation:
        taken = UsernameTaken if violation.column == "users.username_key" else EmailTaken
        raise taken from violation


def _looks(username: str) -> list[str]:
    """Return the key of a username, and what it looks like, in an order that all requests use."""
    return sorted({username_key(username), *lookalikes(username)})


def _credential(row: tuple[Any, ...]) -> Credential:
    return Credential(User(*row[:6]), row[6], row[7], row[8], disabled=bool(row[9]))


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Count changes of credentials; give no id and no version again after a restore."""
    users = core.of(UserRepository)
    core.events.subscribe(lambda event: users.outdate(event.user_id), CredentialsChanged)
    core.events.subscribe(lambda event: users.skip(event.newest_user_id), Restored)
