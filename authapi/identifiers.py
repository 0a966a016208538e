"""Usernames and emails: the caseless keys by which they are found, and what an email may be."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Kind = Literal["username", "email", "nobody's"]

LONGEST_EMAIL = 254  # characters; RFC 5321, 4.5.3.1.3, less the angle brackets

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_EMAIL = re.compile(rf"[a-zA-Z0-9.!#$%&'*+/=?^_`{{|}}~-]+@{_LABEL}(?:\.{_LABEL})*")

# The letters and marks among Unicode's Default_Ignorable_Code_Point.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
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


def name_key(identifier: str) -> tuple[Kind, str]:
    """What someone logs in with, an email where it holds an `@`, and its caseless form.

    SECURITY: the forms of names of two kinds may be alike: a fullwidth `@` has one in a username's.
    """
    if len(identifier) > LONGEST_EMAIL:
        return "nobody's", identifier
    if "@" in identifier:
        return "email", email_key(identifier)
    return "username", username_key(identifier)


def email_fault(email: str) -> str | None:
    """What makes an email unfit, or None (WHATWG HTML, `input type=email`)."""
    if len(email) > LONGEST_EMAIL:
        return f"Must have at most {LONGEST_EMAIL} characters."
    if not _EMAIL.fullmatch(email):
        return "Is not an email address."
    return None
