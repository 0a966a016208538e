"""The password change.

Endpoint: PUT /user/password. Table: none of its own.
"""

from __future__ import annotations

from functools import partial

import falcon
import msgspec

from authapi.answers import SignedInAnswer
from authapi.body_fields import NewPassword, Password
from authapi.budgets import TooManyFailures, TooManyRequests
from authapi.core import Core
from authapi.features.sign_in import SignIn, WrongPassword
from authapi.features.users import (
    Credential,
    CredentialsChanged,
    PasswordChanged,
    UserRepository,
)
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.principal import principal_of
from authapi.validation import Fields, broken

REQUIRES = ("sign_in", "users")


class PasswordChangeBody(msgspec.Struct):
    """The current password and the new one."""

    current_password: Password
    new_password: NewPassword


class PasswordResource:
    """The password of the current user."""

    hashes = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._sign_in = core.of(SignIn)
        self._users = core.of(UserRepository)

    def _faults(self, req: falcon.Request, fields: Fields) -> dict[str, str]:
        """Check the new password, which must not be made of the user's names."""
        rule = self._core.passwords.rule_for(principal_of(req).user)
        return broken({"new_password": rule}, fields)

    @operation(
        "Change the password of the current user.",
        name="changePassword",
        answers=SignedInAnswer,
        body=PasswordChangeBody,
        rules=_faults,
        raises=(WrongPassword, TooManyRequests, TooManyFailures),
        headers={"Set-Cookie": "Another token for the session, and the device cookie."},
    )
    def on_put(self, req: falcon.Request, resp: falcon.Response, body: PasswordChangeBody) -> None:
        """Replace it, end every other session, and give this one a new token."""
        core, session = self._core, principal_of(req).session
        check = self._sign_in.password(body.current_password)
        with self._sign_in.proven_again(session, caller_of(req), check) as proof:
            new_hash = core.passwords.hash(body.new_password)
            self._sign_in.refresh(
                req,
                resp,
                proof,
                change=partial(self._change, proof.credential, new_hash),
                events=(PasswordChanged, CredentialsChanged),
            )
        core.wire.answer_signed_in(resp, 200, "Password changed.", session.user)

    def _change(self, credential: Credential, new_hash: str) -> None:
        """Replace the password, inside a transaction."""
        if not self._users.change_password(credential, new_hash):
            raise WrongPassword("outdated_credential")


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route."""
    app.add_route("/user/password", PasswordResource(core))
