"""Lockout: an operator clears the failed logins counted for a username or email.

Endpoints: none. Command: `authapi unlock`. Table: none of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import falcon

from authapi.core import Core
from authapi.events import Caller, Event
from authapi.features.limits import Limits
from authapi.features.users import UserRepository
from authapi.middleware import new_request_id

REQUIRES = ("limits", "users")


@dataclass(frozen=True, slots=True)
class LoginFailed(Event):
    """A password was refused, at a login or, where there is a session, in it.

    `detail` is `wrong_password`, `unknown_name`, `disabled`, `unusable_hash` (the stored one), or
    `outdated_credential`: the password or the user changed while it was checked.
    """


@dataclass(frozen=True, slots=True)
class LockedOut(Event):
    """A name, a browser or a user's sessions had too many wrong passwords in a row."""


@dataclass(frozen=True, slots=True)
class Unlocked(Event):
    """An operator had failed logins forgotten."""


def unlock(core: Core, identifier: str) -> bool | None:
    """Clear the failed logins counted for a name and its user.

    Return False where there were none, and None where there is no such user either.
    """
    limits = core.of(Limits)
    credential = core.of(UserRepository).by_identifier(identifier)
    if credential:
        budgets = [*limits.accounts(credential.user.id), limits.password(credential.user.id)]
    else:
        budgets = [limits.account(identifier, None)]
    with core.database.transaction():
        cleared = limits.clear(*budgets)
        if cleared:
            caller = Caller(ip="", user_agent="authapi unlock", request_id=new_request_id())
            core.events.emit(Unlocked(credential.user.id if credential else None, caller))
    return cleared if cleared or credential else None


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: the command line calls `unlock`."""
