"""Adding users, and giving them passwords, as an operator.

Endpoints: none. Commands: authapi user add, user password. Table: none of its own.
"""

from __future__ import annotations

from authapi.commands import PASSWORD_STDIN, Argument, Call, Command, OneOf, utf8
from authapi.features.user_look_up import NAME, described, find_user, refusing
from authapi.features.user_management import Users

REQUIRES = ("user_look_up", "user_management")

NOTHING: dict[str, str | None] = {"password": None}
HASH_STDIN = Argument(
    "--hash-stdin", "read a password hash from standard input", action="store_true"
)
NO_PASSWORD = Argument("--no-password", "the user has no password", action="store_true")
VERIFIED = Argument(
    "--verified", "the email is known to be the user's, and needs no proof", action="store_true"
)
HOW = OneOf(PASSWORD_STDIN, HASH_STDIN, NO_PASSWORD)


def _add(call: Call) -> None:
    given, users = call.arguments, call.core.of(Users)
    with refusing():
        users.require_new(given.username, given.email)  # before a password is asked for
        secret = _secret(call)
        user = users.create(
            given.username,
            given.email,
            **secret,
            email_verified=given.verified,
            caller=call.operator,
        )
    record = {"id": user.id, "username": user.username, "email": user.email}
    call.console.show(record, f"Added {user.username!r} (id {user.id}).")


def _password(call: Call) -> None:
    credential = find_user(call.core, call.arguments.name)
    user, secret = credential.user, _secret(call)
    with refusing():
        call.core.of(Users).set_password(user.id, **secret, caller=call.operator)
    has_none = secret == NOTHING
    what = "has no password any more" if has_none else "has another password"
    record = {
        "id": user.id,
        "username": user.username,
        "password": "none" if has_none else "set",
    }
    call.console.show(record, f"{described(credential)} {what}, and no session.")


def _secret(call: Call) -> dict[str, str | None]:
    """Return the password, or the hash, that the operator gives, by its name as an argument."""
    given, console = call.arguments, call.console
    if given.no_password:
        return NOTHING
    if given.hash_stdin:
        return {"password": None, "password_hash": console.secret_from_stdin().strip()}
    return {"password": console.password(from_stdin=given.password_stdin)}


COMMANDS = (
    Command(
        "user add",
        "Add a user, also while registration is closed. The password is asked for, or read from "
        "standard input. A reserved username is allowed here.",
        _add,
        (
            Argument("username", "the username", metavar="NAME", type=utf8),
            Argument("email", "the email", metavar="EMAIL", type=utf8),
            HOW,
            VERIFIED,
        ),
    ),
    Command(
        "user password",
        "Give a user another password. All their sessions end.",
        _password,
        (NAME, HOW),
    ),
)
