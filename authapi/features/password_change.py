"""A change of one's password.

Endpoint: PUT /user/password. Table: none of its own.
"""

from __future__ import annotations

from functools import partial

import falcon
import msgspec

from authapi.bodies import read_body
from authapi.core import Core
from authapi.features.sign_in import SignIn, WrongPassword
from authapi.features.users import (
    Credential,
    CredentialsChanged,
    PasswordChanged,
    UserRepository,
)
from authapi.middleware import caller_of
from authapi.principal import principal_of

REQUIRES = ("sign_in", "users")


class PasswordChangeBody(msgspec.Struct):
    """The password as it is, and as it shall be."""

    current_password: str
    new_password: str


class PasswordResource:
    """The password of the current user."""

    hashes = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._sign_in = core.of(SignIn)
        self._users = core.of(UserRepository)

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Replace it, end every other session, and give this one a new token."""
        core, session = self._core, principal_of(req).session
        names = (session.user.username, session.user.email)
        policy = partial(core.passwords.fault, names=names)
        body = read_body(req, PasswordChangeBody, {"new_password": policy})
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
        core.wire.answer_user(resp, 200, "Password changed.", session.user)

    def _change(self, credential: Credential, new_hash: str) -> Credential:
        """Replace the password, inside a transaction, and return what counts from now on."""
        changed = self._users.change_password(credential, new_hash)
        if changed is None:
            raise WrongPassword("outdated_credential")
        return changed


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route."""
    app.add_route("/user/password", PasswordResource(core))
