"""Changing users, as an operator.

Endpoints: none. Commands: authapi user rename, disable, enable, delete. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from authapi.commands import YES, Argument, Call, Command, utf8
from authapi.events import Caller
from authapi.features.user_look_up import NAME, NAMES, described, find_user, refusing
from authapi.features.user_management import Users

REQUIRES = ("user_look_up", "user_management")


def _rename(call: Call) -> None:
    users, username = call.core.of(Users), call.arguments.username
    credential = find_user(call.core, call.arguments.name)
    with refusing():
        renamed = users.rename(credential.user.id, username, call.operator)
    record = {"id": credential.user.id, "username": username, "renamed": renamed}
    what = f"is {username!r} now" if renamed else "has this username already"
    call.console.show(record, f"{described(credential)} {what}.")


def _disable(call: Call) -> None:
    disable = call.core.of(Users).disable
    _for_each(call, disable, "disabled", "is disabled, and has no session.", "was disabled before.")


def _enable(call: Call) -> None:
    enable = call.core.of(Users).enable
    _for_each(call, enable, "enabled", "may log in again.", "was not disabled.")


def _for_each(
    call: Call, change: Callable[[int, Caller], bool], word: str, done: str, nothing: str
) -> None:
    """Change each of the users that are named, once all of them were found."""
    for credential in [find_user(call.core, name) for name in call.arguments.names]:
        user = credential.user
        with refusing():
            changed = change(user.id, call.operator)
        record = {"id": user.id, "username": user.username, word: changed}
        call.console.show(record, f"{described(credential)} {done if changed else nothing}")


def _delete(call: Call) -> None:
    given, users = call.arguments, call.core.of(Users)
    credentials = [find_user(call.core, name) for name in given.names]
    for credential in credentials:
        question = f"Delete {described(credential)}, with all that is theirs"
        call.console.confirm(question, credential.user.username, yes=given.yes)
    for credential in credentials:
        user = credential.user
        with refusing():
            users.delete(user.id, call.operator)
        record = {"id": user.id, "username": user.username, "deleted": True}
        call.console.show(record, f"Deleted {described(credential)}.")


COMMANDS = (
    Command(
        "user rename",
        "Give a user another username. A reserved one is allowed here.",
        _rename,
        (NAME, Argument("username", "the new username", metavar="NEW", type=utf8)),
    ),
    Command(
        "user disable",
        "Keep users from logging in, and end their sessions.",
        _disable,
        (NAMES,),
    ),
    Command("user enable", "Let disabled users log in again.", _enable, (NAMES,)),
    Command(
        "user delete",
        "Delete users, with everything that belongs to them. The audit log keeps its entries.",
        _delete,
        (NAMES, YES),
    ),
)
