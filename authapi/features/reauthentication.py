"""Reauthentication: a session becomes fresh, for resources that say `needs = (fresh,)`.

Endpoint: POST /sessions/reauthenticate. Table: none of its own.
"""

from __future__ import annotations

import falcon
import msgspec

from authapi.answers import SignedInAnswer
from authapi.body_fields import Password
from authapi.budgets import TooManyFailures, TooManyRequests
from authapi.core import Core
from authapi.features.sign_in import SignIn, WrongPassword
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.principal import principal_of

REQUIRES = ("sign_in",)


class ReauthenticationBody(msgspec.Struct):
    """The password of the current user."""

    password: Password


class ReauthenticationResource:
    """Makes the session of a request fresh."""

    hashes = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._sign_in = core.of(SignIn)

    @operation(
        "Give the password again, for operations that need a fresh session.",
        name="reauthenticate",
        answers=SignedInAnswer,
        body=ReauthenticationBody,
        raises=(WrongPassword, TooManyRequests, TooManyFailures),
        headers={"Set-Cookie": "Another token for the session, and the device cookie."},
    )
    def on_post(
        self, req: falcon.Request, resp: falcon.Response, body: ReauthenticationBody
    ) -> None:
        """Check the password; give the session a new token, good for resources that ask for it."""
        session = principal_of(req).session
        check = self._sign_in.password(body.password)
        with self._sign_in.proven_again(session, caller_of(req), check) as proof:
            self._sign_in.refresh(req, resp, proof)
        self._core.wire.answer_signed_in(resp, 200, "Authenticated again.", session.user)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route."""
    app.add_route("/sessions/reauthenticate", ReauthenticationResource(core))
