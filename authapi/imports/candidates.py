"""Which rows of a file may become users, by the rules for emails, names and hashes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal

from authapi.identifiers import LONGEST_EMAIL, email_fault, email_key, username_key
from authapi.identifiers.usernames import LONGEST, lookalikes
from authapi.imports.records import EndOfInput, Fault, Imported, Row

OnConflict = Literal["fail", "skip", "update"]

LONGEST_ROLES = 1_024  # characters
SUFFIX = 6  # hexadecimal digits of a made name that is taken without them

_NO_NAME_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Rules:
    """What new names and hashes must be, and what becomes of users who are there already.

    `name_fault` and `hash_fault` return a sentence or None. With `makes_names`, a user without a
    username, or with one that breaks a rule, gets one made of the email.
    """

    name_fault: Callable[[str], str | None]
    hash_fault: Callable[[str], str | None]
    makes_names: bool
    keeps_ids: bool
    on_conflict: OnConflict


@dataclass(slots=True)
class Candidate:
    """A row that may become a user, and the usernames that may be theirs, the best first."""

    line: int
    user: Imported
    names: list[str]

    @property
    def key(self) -> str:
        """Return the caseless form of the email."""
        return email_key(self.user.email)


Fate = tuple[int, Fault]  # the line, and why its row is not imported
Read = Candidate | Fate | None  # a row as it was read; None for one that is no user


def candidates(
    rows: Iterable[tuple[int, dict[str, object] | Fault]],
    read: Callable[[Row], Imported | None],
    rules: Rules,
) -> Iterator[Read]:
    """Yield each row as a candidate, or its fault with the line."""
    line = 0
    numbered = iter(rows)
    while True:
        try:
            line, values = next(numbered)
            if isinstance(values, Fault):
                raise values
            user = read(Row(values))
            yield None if user is None else candidate(line, user, rules)
        except StopIteration:
            return
        except EndOfInput as fault:
            yield line + 1, fault
            return
        except Fault as fault:
            yield line, fault


def candidate(line: int, user: Imported, rules: Rules) -> Candidate:
    """Return a row as a candidate. Raises Fault for one that breaks a rule."""
    if fault := (_own_email_fault if user.is_own else email_fault)(user.email):
        raise Fault(f"The email {user.email!r}: {fault}", "invalid_email")
    if user.password_hash is not None and (fault := rules.hash_fault(user.password_hash)):
        raise Fault(f"The password hash {fault}.", "unusable_hash")
    if len(user.roles) > LONGEST_ROLES or any(
        unicodedata.category(one) == "Cc" for one in user.roles
    ):
        raise Fault("The roles are no names.")
    if rules.keeps_ids and user.id is None:
        raise Fault("There is no id, which is to be kept.", "no_id")
    if not rules.keeps_ids:
        user = replace(user, id=None)
    name = user.username
    fault = _own_fault(name) if name and user.is_own else rules.name_fault(name or "")
    if name and not fault:
        return Candidate(line, user, [name])
    if rules.makes_names:
        return Candidate(line, user, made_names(user.email, rules.name_fault))
    advice = "--username-from email-local-part makes one of the email."
    if name:
        raise Fault(f"The username {name!r}: {fault} {advice}", "invalid_username")
    raise Fault(f"There is no username: {advice}", "no_username")


def made_names(email: str, name_fault: Callable[[str], str | None]) -> list[str]:
    """Return usernames made of an email: what is before the @ or a +, and that with a digest."""
    local = email.partition("@")[0].partition("+")[0]
    name = _NO_NAME_CHARACTERS.sub("-", local)[: LONGEST - SUFFIX - 1].strip("-") or "user"
    digest = sha256(email_key(email).encode()).hexdigest()[:SUFFIX]
    return [each for each in (name, f"{name}-{digest}") if not name_fault(each)]


def looks(name: str) -> set[str]:
    """Return the key of a username, and what it looks like."""
    return {username_key(name), *lookalikes(name)}


def _own_email_fault(email: str) -> str | None:
    """Return why an email of another authapi is refused: it may be older than most rules."""
    local_part, _, domain = email.rpartition("@")
    is_plain = email.isascii() and email.isprintable() and " " not in email
    if len(email) > LONGEST_EMAIL or not (local_part and domain and is_plain):
        return "Is not an email address."
    return None


def _own_fault(name: str) -> str | None:
    """Return why a name of another authapi is refused: it may be older than most rules."""
    if len(name) > LONGEST_EMAIL or "@" in name:
        return f"Must have at most {LONGEST_EMAIL} characters, and no '@'."
    if any(unicodedata.category(character)[0] == "C" for character in name):
        return "Must hold no control characters."
    return None
