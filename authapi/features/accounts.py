"""Accounts: who a user is.

Endpoints: GET /user, GET /. Table: users.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import falcon

from authapi.core import Core
from authapi.database import Database, UniqueViolation
from authapi.errors import EmailTaken, UsernameTaken

REQUIRES: tuple[str, ...] = ()

LONGEST_USERNAME = 80  # code points
LONGEST_EMAIL = 254  # characters; RFC 5321, 4.5.3.1.3, less the angle brackets

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_EMAIL = re.compile(rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*")

# The letters and marks among Unicode's Default_Ignorable_Code_Point.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


@dataclass(frozen=True, slots=True)
class User:
    """A user, as shown; times are seconds since the epoch."""

    id: int
    username: str
    email: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Credential:
    """What a login is checked against."""

    user: User
    password_hash: str
    disabled: bool


class UserRepository:
    """The users table. Names and emails are found by their caseless keys."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._statements = database.statements("users")

    def insert(self, username: str, email: str, password_hash: str) -> User:
        """Add a user, inside a transaction. Raises UsernameTaken or EmailTaken."""
        try:
            row = self._statements.insert(
                username=username,
                username_key=username_key(username),
                email=email,
                email_key=email_key(email),
                password_hash=password_hash,
            )
        except UniqueViolation as violation:
            taken = UsernameTaken if violation.column == "users.username_key" else EmailTaken
            raise taken from violation
        return User(*row)

    def by_identifier(self, identifier: str) -> Credential | None:
        """The credential of an email, where the identifier holds an `@`, else of a username."""
        if len(identifier) > LONGEST_EMAIL:
            return None
        if "@" in identifier:
            row = self._statements.by_email(email_key=email_key(identifier))
        else:
            row = self._statements.by_username(username_key=username_key(identifier))
        return row and Credential(User(*row[:5]), password_hash=row[5], disabled=bool(row[6]))

    def require_free(self, username: str, email: str) -> None:
        """Raise UsernameTaken or EmailTaken. Somebody may be quicker yet: `insert` has the say."""
        if self._statements.is_username_taken(username_key=username_key(username)):
            raise UsernameTaken
        if self._statements.is_email_taken(email_key=email_key(email)):
            raise EmailTaken

    def rehash(self, credential: Credential, new_hash: str) -> None:
        """Replace the hash that was verified, inside a transaction."""
        self._statements.rehash(
            id=credential.user.id, verified_hash=credential.password_hash, new_hash=new_hash
        )


def username_key(username: str) -> str:
    """The caseless form: compatibility caseless matching (Unicode 3.13, D146), composed.

    SECURITY: as in Unicode's NFKC_Casefold, characters that are not seen do not count, or one could
    pose as another by them.
    """
    seen = _UNSEEN.sub("", username)
    folded = unicodedata.normalize("NFD", seen).casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", folded).casefold())


def email_key(email: str) -> str:
    """The caseless form."""
    return email.casefold()


def username_fault(username: str) -> str | None:
    """What makes a username unfit, or None."""
    if not 1 <= len(username) <= LONGEST_USERNAME:
        return f"Must have 1 to {LONGEST_USERNAME} characters."
    if not all(_is_name_character(character) for character in username):
        return "May hold only letters, marks, digits, '.', '_' and '-'."
    if not username_key(username):
        return "Must have a character that can be seen."
    return None


def email_fault(email: str) -> str | None:
    """What makes an email unfit, or None (WHATWG HTML, `input type=email`)."""
    if len(email) > LONGEST_EMAIL:
        return f"Must have at most {LONGEST_EMAIL} characters."
    if not _EMAIL.fullmatch(email):
        return "Is not an email address."
    return None


def _is_name_character(character: str) -> bool:
    category = unicodedata.category(character)
    return character in "._-" or category[0] in "LM" or category == "Nd"


class UserResource:
    """The current user; at `/` it is the example of a protected resource."""

    quick = True

    def __init__(self, core: Core) -> None:
        """Take the wire."""
        self._wire = core.wire

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the user of the session."""
        self._wire.answer_user(resp, 200, "User.", req.context.user)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes."""
    user = UserResource(core)
    app.add_route("/user", user)
    app.add_route("/", user)
