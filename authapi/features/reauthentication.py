"""Reauthentication: a session becomes fresh, for resources that say `needs = (fresh,)`.

Endpoint: POST /sessions/reauthenticate. Table: none of its own.
"""

from __future__ import annotations

import falcon

from authapi.bodies import read_body
from authapi.core import Core
from authapi.features.accounts import PasswordBody, password_given
from authapi.features.devices import Devices
from authapi.features.sessions import Reauthenticated, Sessions
from authapi.features.users import UserRepository
from authapi.middleware import caller_of
from authapi.principal import principal_of
from authapi.session_tokens import SessionTokens

REQUIRES = ("users", "accounts", "sessions", "devices")


class ReauthenticationResource:
    """Where a session becomes fresh."""

    hashes = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._sessions = core.of(Sessions)
        self._users = core.of(UserRepository)
        self._devices = core.of(Devices)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Check the password; give the session a new token, good for resources that ask for it."""
        core, session, caller = self._core, principal_of(req).session, caller_of(req)
        body = read_body(req, PasswordBody)
        with (
            password_given(core, self._users, session, body.password, caller) as credential,
            core.database.transaction(),
        ):
            issued = self._sessions.rotate(session)
            core.events.emit(Reauthenticated(session.user.id, caller, issued.session_id))
        core.of(SessionTokens).cookie.set(resp, issued.token, issued.max_age)
        self._devices.remember(resp, session.user, credential.password_version)
        core.wire.answer_user(resp, 200, "Authenticated again.", session.user)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route."""
    app.add_route("/sessions/reauthenticate", ReauthenticationResource(core))
