"""Accounts: the routes of the current user.

Endpoints: GET /user, PATCH /user, DELETE /user, GET /. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import falcon
import msgspec

from authapi.bodies import Rule, has_body, read_body
from authapi.core import Core
from authapi.errors import Failure, InvalidToken
from authapi.events import Caller
from authapi.features.limits import Limits
from authapi.features.lockout import LockedOut, LoginFailed
from authapi.features.users import (
    Credential,
    UserDeleted,
    UserRenamed,
    UserRepository,
    UserSettings,
)
from authapi.middleware import caller_of
from authapi.principal import Session, User, principal_of
from authapi.session_tokens import SessionTokens
from authapi.usernames import UsernamePolicy

REQUIRES = ("users", "limits", "lockout")


class WrongPassword(Failure):
    """A password that is not the user's, in a session of theirs."""

    status, error, message = 403, "wrong_password", "The password is wrong."


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
                    LoginFailed(session.user.id, caller, session.id, detail=verdict.reason)
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
        self._usernames = UsernamePolicy(core.settings.of(UserSettings).reserved)

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
        tokens = core.of(SessionTokens)
        tokens.cookie.set(resp, tokens.issue(claims), claims.exp - int(core.clock()))
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
        core.of(SessionTokens).delete_brought(req, resp)
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
    """Add the routes."""
    app.add_route("/user", UserResource(core))
    app.add_route("/", ExampleResource(core))
