"""Adding users, and giving them passwords, as an operator.

Endpoints: none. Commands: authapi user add, user password. Table: none of its own.
"""

from __future__ import annotations

from authapi.commands import PASSWORD_STDIN, Argument, Call, Command, CommandError, OneOf, utf8
from authapi.core import Core
from authapi.events import Caller, Event
from authapi.features.user_changes import OperatedUsers, require_name
from authapi.features.user_look_up import NAME, described, find_user
from authapi.features.users import CredentialsChanged, PasswordChanged, UserRepository
from authapi.identifiers import email_fault
from authapi.identifiers.usernames import fault
from authapi.principal import User

REQUIRES = ("user_changes", "user_look_up", "users")

HASH_STDIN = Argument(
    "--hash-stdin", "read a password hash from standard input", action="store_true"
)
NO_PASSWORD = Argument("--no-password", "the user has no password", action="store_true")
HOW = OneOf(PASSWORD_STDIN, HASH_STDIN, NO_PASSWORD)


class UserAdded(Event):
    """An operator added a user."""

    __slots__ = ()


def add(core: Core, username: str, email: str, password_hash: str | None, operator: Caller) -> User:
    """Add a user. Raises UsernameTaken or EmailTaken."""
    with core.database.transaction():
        user = core.of(UserRepository).insert(username, email, password_hash).user
        core.events.emit(UserAdded(user.id, operator))
    return user


def set_password(core: Core, user_id: int, password_hash: str | None, operator: Caller) -> None:
    """Replace a password, also a disabled user's; all sessions end. Raises CommandError."""
    with core.of(OperatedUsers).changing(user_id):
        core.database.statements("commands").set_password(id=user_id, new_hash=password_hash)
        core.events.emit(PasswordChanged(user_id, operator))
        core.events.emit(CredentialsChanged(user_id, operator))


def _add(call: Call) -> None:
    given, core = call.arguments, call.core
    # Reserved usernames are kept for the operator, who is asking.
    require_name("username", given.username, fault(given.username))
    require_name("email", given.email, email_fault(given.email))
    core.of(UserRepository).require_free(given.username, given.email)
    password_hash = _new_hash(call, given.username, given.email)
    user = add(core, given.username, given.email, password_hash, call.operator)
    record = {"id": user.id, "username": user.username, "email": user.email}
    call.console.show(record, f"Added {user.username!r} (id {user.id}).")


def _password(call: Call) -> None:
    credential = find_user(call.core, call.arguments.name)
    user = credential.user
    password_hash = _new_hash(call, user.username, user.email)
    set_password(call.core, user.id, password_hash, call.operator)
    what = "has no password any more" if password_hash is None else "has another password"
    record = {
        "id": user.id,
        "username": user.username,
        "password": "none" if password_hash is None else "set",
    }
    call.console.show(record, f"{described(credential)} {what}, and no session.")


def _new_hash(call: Call, *names: str) -> str | None:
    """Return the hash of the password that the operator gives. Raises CommandError."""
    given, passwords = call.arguments, call.core.passwords
    if given.no_password:
        return None
    if given.hash_stdin:
        password_hash = call.console.secret_from_stdin().strip()
        if reason := passwords.import_fault(password_hash):
            raise CommandError(f"Standard input has a hash that {reason}.", "bad_hash")
        return password_hash
    password = call.console.password(from_stdin=given.password_stdin)
    if weakness := passwords.fault(password, names=names):
        raise CommandError(f"The password is refused: {weakness}", "bad_password")
    return passwords.hash(password)


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
        ),
    ),
    Command(
        "user password",
        "Give a user another password. All their sessions end.",
        _password,
        (NAME, HOW),
    ),
)
