"""Unlocking: an operator clears the failed logins of a user, or of a name that is nobody's.

Endpoints: none. Command: authapi user unlock. Table: none of its own.
"""

from __future__ import annotations

from authapi.commands import Call, Command, CommandError
from authapi.core import Core
from authapi.events import Caller
from authapi.features.limits import Limits
from authapi.features.lockout import LoginBudgets, Unlocked
from authapi.features.user_look_up import NAME, credential_of

REQUIRES = ("limits", "lockout", "user_look_up")


def unlock(core: Core, name: str, operator: Caller) -> bool:
    """Clear the failed logins counted for a name and its user; return False where there were none.

    Raises CommandError where there is no such user either.
    """
    budgets, credential = core.of(LoginBudgets), credential_of(core, name)
    if credential:
        user_id, counted = credential.user.id, credential.user.email
    else:
        user_id, counted = None, name
    with core.database.transaction(of=user_id):
        cleared = core.of(Limits).clear(*budgets.of_name(counted, user_id))
        if cleared:
            core.events.emit(Unlocked(user_id, operator))
    if not cleared and credential is None:
        raise CommandError(
            f"There is no user {name!r}, and no failed login with this name.", "no_such_user"
        )
    return cleared


def _unlock(call: Call) -> None:
    name = call.arguments.name
    unlocked = unlock(call.core, name, call.operator)
    text = "Unlocked." if unlocked else "There were no failed logins."
    call.console.show({"name": name, "unlocked": unlocked}, text)


COMMANDS = tuple(
    Command(
        name,
        "Clear the failed logins of a user, so that they can log in again after too many. The name "
        "may be nobody's.",
        _unlock,
        (NAME,),
    )
    for name in ("user unlock", "unlock")
)
