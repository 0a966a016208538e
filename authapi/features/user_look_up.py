"""Looking up users: what an operator sees of them.

Endpoints: none. Commands: authapi user list, user show. Table: none of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from authapi.budgets import Budget
from authapi.commands import Argument, Call, Command, CommandError, OneOf, natural, utf8
from authapi.core import Core
from authapi.features.limits import Limits
from authapi.features.lockout import LoginBudgets
from authapi.features.sessions import Sessions
from authapi.features.user_management import NoSuchUser, RefusedValue, Users
from authapi.features.users import Credential, UserRepository
from authapi.principal import Account
from authapi.times import timestamp

REQUIRES = ("limits", "lockout", "sessions", "user_management", "users")

_ID = re.compile(r"id:([0-9]{1,18})")

NAME = Argument("name", "a username, an email, or id:7", metavar="NAME", type=utf8)
NAMES = Argument("names", "usernames, emails, or id:7", metavar="NAME", type=utf8, nargs="+")


def credential_of(core: Core, name: str) -> Credential | None:
    """Return the credential of the user with a username, an email, or an id as `id:7`, or None."""
    users, by_id = core.of(UserRepository), _ID.fullmatch(name)
    return users.by_id(int(by_id[1])) if by_id else users.by_identifier(name)


def find_user(core: Core, name: str) -> Credential:
    """Return the credential of the user with such a name. Raises CommandError."""
    credential = credential_of(core, name)
    if credential is None:
        raise CommandError(f"There is no user {name!r}.", "no_such_user")
    return credential


def find_id(core: Core, name: str) -> int:
    """Return the id of a user. `id:7` may be a deleted user's. Raises CommandError."""
    by_id = _ID.fullmatch(name)
    return int(by_id[1]) if by_id else find_user(core, name).user.id


def described(credential: Credential) -> str:
    """Return the name and the id of a user, for a sentence: `anna (id 7)`."""
    return f"{credential.user.username!r} (id {credential.user.id})"


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what `Users` refuses in the block into CommandError."""
    try:
        yield
    except NoSuchUser as error:
        raise CommandError(str(error), "no_such_user") from error
    except RefusedValue as error:
        raise CommandError(str(error), f"bad_{error.field}") from error


def _record(user: Account) -> dict[str, object]:
    times = ("created_at", "updated_at", "email_verified_at", "disabled_at")
    return {
        "id": user.id,
        "username": user.username,
        "email": user.email,
        **{name: timestamp(getattr(user, name)) for name in times},
    }


def _list(call: Call) -> None:
    given = call.arguments
    disabled = True if given.disabled else False if given.enabled else None
    users = call.core.of(Users).list(after=given.after, search=given.search, disabled=disabled)
    columns = ("id", "username", "email", "created_at", "disabled_at")
    call.console.rows(map(_record, islice(users, given.limit)), columns, "There is no such user.")


def _show(call: Call) -> None:
    core = call.core
    credential = find_user(core, call.arguments.name)
    user, budgets = credential.user, core.of(LoginBudgets)
    shown = core.of(Users).get(user.id)
    if shown is None:
        raise CommandError(f"There is no user {call.arguments.name!r}.", "no_such_user")
    by_username, by_email = budgets.accounts(user.id)
    sessions = core.of(Sessions).of_user(user, core.clock())
    password = "none" if credential.password_hash is None else "set"
    if credential.password_hash and not core.passwords.can_verify(credential.password_hash):
        password = "unusable"  # noqa: S105 - a word
    call.console.show(
        _record(shown)
        | {
            "password": password,
            "login_by_username": _state(core, by_username),
            "login_by_email": _state(core, by_email),
            "password_in_a_session": _state(core, budgets.password(user.id)),
            "sessions": len(sessions),
            "last_seen_at": timestamp(max((each.last_seen_at for each in sessions), default=None)),
        }
    )


def _state(core: Core, budget: Budget) -> str:
    """Return whether a password may be tried: `open`, `limited` for a while, or `locked_out`."""
    limits = core.of(Limits)
    if limits.have_tries(budget):
        return "open"
    return "locked_out" if limits.is_spent(budget) else "limited"


COMMANDS = (
    Command(
        "user list",
        "List the users in the order of their ids.",
        _list,
        (
            Argument("--search", "a part of a username or an email", metavar="TEXT", type=utf8),
            OneOf(
                Argument("--disabled", "only users who are disabled", action="store_true"),
                Argument("--enabled", "only users who are not", action="store_true"),
            ),
            Argument("--limit", "how many at most", metavar="N", type=natural),
            Argument("--after", "begin after this id", metavar="ID", type=natural, default=0),
        ),
    ),
    Command(
        "user show",
        "Show a user, whether they can log in, and how many sessions they have. A login is open, "
        "limited for a while, or locked out until you unlock it. Devices that the user has logged "
        "in with before have limits of their own.",
        _show,
        (NAME,),
    ),
)
