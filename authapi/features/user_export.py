"""User export: all that the service keeps about one user, for that user.

Endpoints: none. Command: `authapi user export`. Table: none of its own.
"""

from __future__ import annotations

import json

from authapi.commands import Call, Command
from authapi.core import Core
from authapi.events import Event
from authapi.features.user_look_up import NAME, find_user
from authapi.principal import User
from authapi.times import timestamp

REQUIRES = ("user_look_up",)


class UserExported(Event):
    """An operator exported all that is kept about a user."""

    __slots__ = ()


def exported(core: Core, user: User) -> dict[str, object]:
    """Return what each feature keeps of a user, by the names that the features declare."""
    kept = [each for feature in core.settings.features for each in feature.personal_data]
    return {each.name: each.read(core, user) for each in kept}


def _run(call: Call) -> None:
    core, user = call.core, find_user(call.core, call.arguments.name).user
    with core.database.transaction(of=user.id):
        core.events.emit(UserExported(user.id, call.operator))
    record = {"exported_at": timestamp(core.clock()), **exported(core, user)}
    # NOTE: JSON for people too; in ASCII, so that no name or user agent drives the terminal.
    call.console.write(json.dumps(record, indent=None if call.console.as_json else 2))


COMMANDS = (
    Command(
        "user export",
        description="Write all that is kept about a user as JSON, for that user: the account, "
        "sessions, failed logins and the audit log. It holds no password hash.",
        run=_run,
        arguments=(NAME,),
    ),
)
