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
from authapi.errors import InvalidToken
from authapi.features.limits import Limits
from authapi.features.registration import NewNames
from authapi.features.sign_in import SignIn, WrongPassword
from authapi.features.users import (
    Credential,
    UserDeleted,
    UserRenamed,
    UserRepository,
)
from authapi.middleware import caller_of
from authapi.principal import User, principal_of
from authapi.session_tokens import SessionTokens

REQUIRES = ("limits", "registration", "sign_in", "users")


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
        self._sign_in = core.of(SignIn)
        self._users = core.of(UserRepository)
        self._names = core.of(NewNames)

    def on_patch(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Give the user another username, and a token that carries it.

        The session must be fresh: the username is what one logs in with (ASVS 7.5.1).
        """
        core, principal = self._core, principal_of(req)
        session, claims = principal.session, principal.claims
        session.require_fresh(core.clock())
        body = read_body(req, RenameBody, {"username": self._rule(session.user)})
        limits, caller = core.of(Limits), caller_of(req)
        with limits.trying(*self._names.budgets(caller.ip)), core.database.transaction():
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
        return lambda name: None if name == user.username else self._names.username_fault(name)

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Delete the user, who gives the password or has given it a short while ago."""
        core, session = self._core, principal_of(req).session
        with self._verified(req) as verified, core.database.transaction():
            current = self._users.by_session(session.id)
            if current is None:
                raise InvalidToken
            if not self._users.delete(verified or current):
                raise WrongPassword("outdated_credential")
            core.events.emit(UserDeleted(session.user.id, caller_of(req), session.id))
        core.of(SessionTokens).delete_brought(req, resp)
        core.wire.answer(resp, 200, "User deleted.", user=None)

    @contextmanager
    def _verified(self, req: falcon.Request) -> Iterator[Credential | None]:
        """Give what the password was checked against; None for a fresh session without one."""
        core, session = self._core, principal_of(req).session
        if has_body(req):
            password = read_body(req, PasswordBody).password
            check = self._sign_in.password(password)
            with self._sign_in.proven_again(session, caller_of(req), check) as proof:
                yield proof.credential
        else:
            session.require_fresh(core.clock())
            yield None


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes."""
    app.add_route("/user", UserResource(core))
    app.add_route("/", ExampleResource(core))
