"""Lockout: an operator clears the failed logins counted for a username or email.

Endpoints: none. Command: `authapi unlock`. Table: none of its own.
"""

from __future__ import annotations

import falcon

from authapi.core import Core
from authapi.events import Caller, Unlocked
from authapi.features.limits import Limits
from authapi.features.users import UserRepository
from authapi.middleware import new_request_id

REQUIRES = ("limits", "users")


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
