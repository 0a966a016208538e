"""A change of one's password.

Endpoint: PUT /user/password. Table: none of its own.
"""

from __future__ import annotations

from functools import partial

import falcon
import msgspec

from authapi.bodies import read_body
from authapi.core import Core
from authapi.features.accounts import WrongPassword, password_given
from authapi.features.devices import Devices
from authapi.features.sessions import Sessions
from authapi.features.users import CredentialsChanged, PasswordChanged, UserRepository
from authapi.middleware import caller_of
from authapi.principal import principal_of
from authapi.session_tokens import SessionTokens

REQUIRES = ("users", "accounts", "sessions", "devices")


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
        self._users = core.of(UserRepository)
        self._sessions = core.of(Sessions)
        self._devices = core.of(Devices)

    def on_put(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Replace it, end every other session, and give this one a new token."""
        core, session, caller = self._core, principal_of(req).session, caller_of(req)
        names = (session.user.username, session.user.email)
        policy = partial(core.passwords.fault, names=names)
        body = read_body(req, PasswordChangeBody, {"new_password": policy})
        with password_given(core, self._users, session, body.current_password, caller) as known:
            new_hash = core.passwords.hash(body.new_password)
            with core.database.transaction():
                issued = self._sessions.rotate(session)
                if not self._users.change_password(known, new_hash):
                    raise WrongPassword
                core.events.emit(PasswordChanged(session.user.id, caller, issued.session_id))
                core.events.emit(CredentialsChanged(session.user.id, caller, issued.session_id))
        core.of(SessionTokens).cookie.set(resp, issued.token, issued.max_age)
        self._devices.remember(resp, session.user, known.password_version + 1)
        core.wire.answer_user(resp, 200, "Password changed.", session.user)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route."""
    app.add_route("/user/password", PasswordResource(core))
