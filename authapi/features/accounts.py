"""Accounts: who a user is.

Endpoints: GET /user, PATCH /user, DELETE /user, GET /. Table: users.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import falcon
import msgspec

from authapi.bodies import Rule, has_body, read_body
from authapi.core import Core
from authapi.database import UniqueViolation
from authapi.errors import (
    EmailTaken,
    InvalidToken,
    UsernameLookalike,
    UsernameTaken,
    WrongPassword,
)
from authapi.events import Caller, LockedOut, LoginFailed, Restored, UserDeleted, UserRenamed
from authapi.features.limits import Limits
from authapi.identifiers import email_key, name_key, username_key
from authapi.middleware import caller_of
from authapi.principal import Session, User, principal_of
from authapi.usernames import UsernamePolicy, lookalikes

REQUIRES = ("limits",)

SKIPPED_AT_RESTORE = 1_000_000  # user ids, and password versions of a user


@dataclass(frozen=True, slots=True)
class Credential:
    """What a login is checked against; the version counts the passwords that the user has had."""

    user: User
    password_hash: str = field(repr=False)
    password_version: int
    disabled: bool


class UserRepository:
    """The users table. Names and emails are found by their caseless keys."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._statements = core.database.statements("users")

    def insert(self, username: str, email: str, password_hash: str) -> Credential:
        """Add a user, inside a transaction. Raises UsernameTaken or EmailTaken."""
        with _taken():
            row = self._statements.insert(
                username=username,
                username_key=username_key(username),
                email=email,
                email_key=email_key(email),
                password_hash=password_hash,
            )
        credential = _credential(row)
        self._keep_lookalikes(credential.user.id, username)
        return credential

    def newest_id(self) -> int:
        """The highest id that a user ever had."""
        return int(self._statements.newest_id())

    def skip(self, newest_id: int) -> None:
        """Leave out the ids and the password versions that a lost database may have given.

        SECURITY: else another user gets the data that an application keeps by a lost user's id,
        and a device cookie of a lost password counts again.
        """
        newest_id = max(self.newest_id(), newest_id)
        self._statements.forget_newest_id()
        self._statements.remember_newest_id(id=newest_id + SKIPPED_AT_RESTORE)
        self._statements.skip_password_versions(number=SKIPPED_AT_RESTORE)

    def by_id(self, user_id: int) -> Credential | None:
        """The credential of a user."""
        row = self._statements.by_id(id=user_id)
        return row and _credential(row)

    def by_session(self, session_id: str) -> Credential | None:
        """The credential of a session's user; None where the session has ended.

        SECURITY: asked inside a transaction it tells whether the session ended while its request
        waited for its turn to write.
        """
        row = self._statements.by_session(id_hash=session_id)
        return row and _credential(row)

    def by_identifier(self, identifier: str) -> Credential | None:
        """The credential of a username or an email."""
        row, (kind, key) = None, name_key(identifier)
        if kind == "email":
            row = self._statements.by_email(email_key=key)
        elif kind == "username":
            row = self._statements.by_username(username_key=key)
        return row and _credential(row)

    def require_free(self, username: str, email: str) -> None:
        """Raise UsernameTaken or EmailTaken. Somebody may be quicker yet: `insert` has the say."""
        if self._statements.is_username_taken(username_key=username_key(username)):
            raise UsernameTaken
        self._require_no_lookalike(0, username)
        if self._statements.is_email_taken(email_key=email_key(email)):
            raise EmailTaken

    def _require_no_lookalike(self, user_id: int, username: str) -> None:
        """Raise UsernameLookalike where a username looks like another user's.

        SECURITY: whoever reads a name takes it for the one that looks the same.
        """
        keys = {username_key(username), *lookalikes(username)}
        if any(self._statements.is_lookalike(id=user_id, key=key) for key in keys):
            raise UsernameLookalike

    def _keep_lookalikes(self, user_id: int, username: str) -> None:
        self._require_no_lookalike(user_id, username)
        for lookalike in lookalikes(username):
            self._statements.add_lookalike(user_id=user_id, lookalike=lookalike)

    def rehash(self, credential: Credential, new_hash: str) -> None:
        """Replace the hash that was verified, inside a transaction."""
        self._statements.rehash(
            id=credential.user.id, verified_hash=credential.password_hash, new_hash=new_hash
        )

    def change_password(self, credential: Credential, new_hash: str) -> bool:
        """Replace a password, inside a transaction; False where it has changed meanwhile."""
        changed = self._statements.change_password(
            id=credential.user.id, password_version=credential.password_version, new_hash=new_hash
        )
        return bool(changed)

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


class Users:
    """The users, as an application that embeds the service may see them."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._rows = core.of(UserRepository)

    def get(self, user_id: int) -> User | None:
        """The user with an id; None where there is none, or no longer. Raises Unavailable."""
        credential = self._rows.by_id(user_id)
        return credential.user if credential else None


@contextmanager
def _taken() -> Iterator[None]:
    """Turn a collision into UsernameTaken or EmailTaken."""
    try:
        yield
    except UniqueViolation as violation:
        taken = UsernameTaken if violation.column == "users.username_key" else EmailTaken
        raise taken from violation


def _credential(row: tuple[Any, ...]) -> Credential:
    return Credential(User(*row[:5]), row[5], row[6], disabled=bool(row[7]))


@contextmanager
def password_given(
    core: Core, users: UserRepository, session: Session, password: str, caller: Caller
) -> Iterator[Credential]:
    """The credential of a session's user, whose password this must be, for the block.

    Raises WrongPassword, TooManyRequests, or InvalidToken for a user who is gone. No try counts
    where the block raises Overloaded or Unavailable.
    Not to be used inside a transaction: a failure is told, and kept, in one of its own.
    """
    credential = users.by_id(session.user.id)
    if credential is None:
        raise InvalidToken
    limits = core.of(Limits)
    networks = limits.networks_of_known(caller.ip, session.user.id)
    with limits.trying(*networks, limits.password(session.user.id)) as last:
        verdict = core.passwords.verify(credential.password_hash, password, rehash=False)
        if not verdict.correct:
            with core.database.transaction():
                core.events.emit(
                    LoginFailed(session.user.id, caller, session.id, reason=verdict.reason)
                )
                if last:
                    core.events.emit(LockedOut(session.user.id, caller, session.id))
            raise WrongPassword
        yield credential


class RenameBody(msgspec.Struct):
    """Another username."""

    username: str


class PasswordBody(msgspec.Struct):
    """The password of the current user."""

    password: str


class ExampleResource:
    """The example of a protected resource."""

    quick = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the user of the session."""
        self._core.wire.answer_user(resp, 200, "User.", principal_of(req).user)


class UserResource(ExampleResource):
    """The current user, who can be renamed and deleted."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        super().__init__(core)
        self._users = core.of(UserRepository)
        self._usernames = UsernamePolicy(core.settings.reserved)

    def on_patch(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Give the user another username, and a token that carries it.

        The session must be fresh: the username is what one logs in with (ASVS 7.5.1).
        """
        core, principal = self._core, principal_of(req)
        session, claims = principal.session, principal.claims
        session.require_fresh(core.clock())
        body = read_body(req, RenameBody, {"username": self._rule(session.user)})
        limits, caller = core.of(Limits), caller_of(req)
        with limits.trying(*limits.registration(caller.ip)), core.database.transaction():
            if self._users.rename(session.user.id, body.username):
                core.events.emit(UserRenamed(session.user.id, caller, session.id))
            credential = self._users.by_session(session.id)
            if credential is None:
                raise InvalidToken
        claims = msgspec.structs.replace(claims, username=credential.user.username)
        core.wire.set_token(resp, core.tokens.issue(claims), claims.exp - int(core.clock()))
        core.wire.answer_user(resp, 200, "User renamed.", credential.user)

    def _rule(self, user: User) -> Rule:
        """The rule for another username; their own may be older than a rule."""
        return lambda name: None if name == user.username else self._usernames.fault(name)

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Delete the user, who gives the password or has given it a short while ago."""
        core, session = self._core, principal_of(req).session
        with self._verified(req) as verified, core.database.transaction():
            current = self._users.by_session(session.id)
            if current is None:
                raise InvalidToken
            if not self._users.delete(verified or current):
                raise WrongPassword
            core.events.emit(UserDeleted(session.user.id, caller_of(req), session.id))
        core.wire.delete_brought(req, resp)
        core.wire.answer(resp, 200, "User deleted.", user=None)

    @contextmanager
    def _verified(self, req: falcon.Request) -> Iterator[Credential | None]:
        """What the password was checked against; None where the session is fresh and has none."""
        core, session = self._core, principal_of(req).session
        if has_body(req):
            password = read_body(req, PasswordBody).password
            with password_given(core, self._users, session, password, caller_of(req)) as credential:
                yield credential
        else:
            session.require_fresh(core.clock())
            yield None


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes, and give no id and no password version again after a restore."""
    users = core.of(UserRepository)
    core.events.subscribe(lambda event: users.skip(event.newest_user_id), Restored)
    app.add_route("/user", UserResource(core))
    app.add_route("/", ExampleResource(core))
