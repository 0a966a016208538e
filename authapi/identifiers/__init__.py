"""Usernames and emails: their caseless keys for look-ups, and the rules for an email.

In this package, `usernames` has the rules for new usernames, and `characters` the Unicode data that
they need.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Kind = Literal["username", "email", "nobody's"]

LONGEST_EMAIL = 254  # characters; RFC 5321, 4.5.3.1.3, less the angle brackets
LONGEST_LOCAL_PART = 64  # characters before the @; RFC 5321, 4.5.3.1.1

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_ATOM = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+"
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")

# Letters and marks of Unicode's Default_Ignorable_Code_Point: they are invisible. So is the word
# joiner (U+2060), which no name has, but with which mails show names.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2060\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)


def username_key(username: str) -> str:
    """Return the caseless form: compatibility caseless matching (Unicode 3.13, D146), composed.

    SECURITY: as in Unicode's NFKC_Casefold, invisible characters are ignored. Otherwise a user
    could imitate another's name with them.
    """
    seen = _UNSEEN.sub("", username)
    folded = unicodedata.normalize("NFD", seen).casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", folded).casefold())


def email_key(email: str) -> str:
    """Return the caseless form."""
    return email.casefold()


def name_key(identifier: str) -> tuple[Kind, str]:
    """Return the kind of a login identifier, an email if it holds an `@`, and its caseless form.

    SECURITY: use both. The forms of two kinds may be equal: a username's fullwidth `@` becomes `@`.
    A name with a NUL, which PostgreSQL cannot store, is nobody's.
    """
    if len(identifier) > LONGEST_EMAIL or "\0" in identifier:
        return "nobody's", identifier
    if "@" in identifier:
        return "email", email_key(identifier)
    return "username", username_key(identifier)


def email_fault(email: str) -> str | None:
    """Return why a new email is refused, or None. Users keep an email that is older than a rule.

    The part before the @ is a dot-atom (RFC 5321, 4.1.2), and the domain is one that a browser's
    `input type=email` accepts (WHATWG HTML).
    """
    local_part, _, domain = email.rpartition("@")
    if len(email) > LONGEST_EMAIL:
        return f"Must have at most {LONGEST_EMAIL} characters."
    if local_part and domain and not domain.isascii():
        return "Write the domain in ASCII: xn--bcher-kva.example for bücher.example."
    if not _EMAIL.fullmatch(email):
        return "Is not an email address."
    if len(local_part) > LONGEST_LOCAL_PART:
        return f"Must have at most {LONGEST_LOCAL_PART} characters before the @."
    return None
