"""Accounts: the routes of the current user.

Endpoints: GET /user, PATCH /user, DELETE /user, GET /. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import falcon
import msgspec

from authapi.answers import NobodyAnswer, SignedInAnswer, UserAnswer
from authapi.bodies import has_body
from authapi.body_fields import Password, Username
from authapi.budgets import TooManyFailures, TooManyRequests
from authapi.core import Core
from authapi.errors import FreshLoginRequired, InvalidToken
from authapi.features.limits import Limits
from authapi.features.registration import NewNames
from authapi.features.sign_in import SignIn, WrongPassword
from authapi.features.users import (
    Credential,
    UserDeleted,
    UsernameTaken,
    UserRenamed,
    UserRepository,
)
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.personal_data import PersonalData
from authapi.principal import User, fresh, principal_of
from authapi.session_tokens import SessionTokens
from authapi.times import timestamp
from authapi.validation import Fields, broken

REQUIRES = ("limits", "registration", "sign_in", "users")


class RenameBody(msgspec.Struct):
    """The username to take."""

    username: Username


class PasswordBody(msgspec.Struct):
    """The password of the current user."""

    password: Password


class ExampleResource:
    """The example of a protected resource."""

    quick = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core

    @operation("Show the current user, as an example.", name="getExample", answers=UserAnswer)
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

    @operation("Show the current user.", name="getUser", answers=UserAnswer)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the user of the session."""
        super().on_get(req, resp)

    def _faults(self, req: falcon.Request, fields: Fields) -> dict[str, str]:
        """Check the username, unless it is the user's own, which may be older than a rule."""
        if fields.get("username") == principal_of(req).user.username:
            return {}
        return broken({"username": self._names.username_fault}, fields)

    @operation(
        "Rename the current user.",
        name="renameUser",
        answers=SignedInAnswer,
        body=RenameBody,
        rules=_faults,
        needs=(fresh,),
        raises=(UsernameTaken, TooManyRequests),
        headers={"Set-Cookie": "The session cookie, with a token that has the new username."},
    )
    def on_patch(self, req: falcon.Request, resp: falcon.Response, body: RenameBody) -> None:
        """Give the user another username, and a token that carries it.

        The session must be fresh: the username is what one logs in with (ASVS 7.5.1).
        """
        core, principal = self._core, principal_of(req)
        session, claims, tokens = principal.session, principal.claims, core.of(SessionTokens)
        limits, caller = core.of(Limits), caller_of(req)
        with (
            limits.trying(*self._names.budgets(caller.ip)),
            core.database.transaction(of=session.user.id),
        ):
            if self._users.rename(session.user.id, body.username):
                core.events.emit(UserRenamed(session.user.id, caller, session.id))
            credential = self._users.by_session(session.id)
            if credential is None:
                raise InvalidToken
        issued = tokens.issue_for(
            credential.user, claims.sid, issued_at=claims.iat, expires_at=claims.exp
        )
        tokens.hand_out(req, resp, issued)
        core.wire.answer_signed_in(resp, 200, "User renamed.", credential.user)

    @operation(
        "Delete the current user.",
        name="deleteUser",
        answers=NobodyAnswer,
        body=PasswordBody,
        body_if=has_body,
        raises=(FreshLoginRequired, WrongPassword, TooManyRequests, TooManyFailures),
        headers={"Set-Cookie": "Deletes the session cookie, if one was sent."},
    )
    def on_delete(
        self, req: falcon.Request, resp: falcon.Response, body: PasswordBody | None
    ) -> None:
        """Delete the user, given the password or a fresh session."""
        core, session = self._core, principal_of(req).session
        with (
            self._verified(req, body) as verified,
            core.database.transaction(of=session.user.id),
        ):
            current = self._users.by_session(session.id)
            if current is None:
                raise InvalidToken
            # NOTE: first, so that a subscriber finds the user who goes.
            core.events.emit(UserDeleted(session.user.id, caller_of(req), session.id))
            if not self._users.delete(verified or current):
                raise WrongPassword("outdated_credential")
        core.of(SessionTokens).delete_brought(req, resp)
        core.wire.answer(resp, NobodyAnswer(message="User deleted."))

    @contextmanager
    def _verified(
        self, req: falcon.Request, body: PasswordBody | None
    ) -> Iterator[Credential | None]:
        """Yield the credential that the password was checked against.

        Yield None for a fresh session without a password. Raises FreshLoginRequired for another.
        """
        core, session = self._core, principal_of(req).session
        if body:
            check = self._sign_in.password(body.password)
            with self._sign_in.proven_again(session, caller_of(req), check) as proof:
                yield proof.credential
        else:
            session.require_fresh(core.clock())
            yield None


def _account(core: Core, user: User) -> dict[str, object]:
    """Return what is kept of a user, but for the hash of the password."""
    names = (
        *("id", "username", "email", "created_at", "updated_at", "email_verified_at"),
        *("has_password", "disabled_at", "roles", "password_version", "credentials_version"),
    )
    row = core.database.statements("users").account(id=user.id)
    account = dict(zip(names, row, strict=True))
    times = {name: timestamp(at) for name, at in account.items() if name.endswith("_at")}
    has_password = bool(account["has_password"])
    return account | times | {"roles": account["roles"].split(), "has_password": has_password}


PERSONAL_DATA = (PersonalData("account", ("users", "username_lookalikes"), _account),)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes."""
    app.add_route("/user", UserResource(core))
    app.add_route("/", ExampleResource(core))
