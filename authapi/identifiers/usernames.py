"""The rules for new usernames, and which names look alike.

The rules apply to registrations and renames only. Existing names stay valid.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

from authapi.identifiers import characters, username_key

LONGEST = 80  # code points
MOST_MARKS = 4  # on one letter; UTS 39, 5.4

# Mailboxes that represent an organisation (RFC 2142; CA/Browser Forum, Baseline Requirements,
# 3.2.2.4.4), system accounts, and names that readers take for the operator or for nobody.
RESERVED = (
    "abuse admin administrator anonymous authapi billing daemon devnull ftp guest helpdesk "
    "hostmaster info mailer-daemon marketing moderator news no-reply nobody noc null official "
    "operator owner postmaster root sales security ssl-admin ssl-administrator ssl-webmaster "
    "staff superuser support sysadmin sysop system undefined usenet uucp webmaster www"
)

_EAST_ASIAN = frozenset({"Hanb", "Jpan", "Kore"})
# A dot above is invisible on a letter that has one (UTS 39, 5.4). Latin, then Cyrillic.
_HIDDEN_DOT = re.compile("[ijl\u0131\u0237\u0456\u0458]\u0307")
_ABOVE_OR_NO_MARK = frozenset({230, 0})  # combining classes
# ASCII that looks alike (UTS 39): in lower case, and in capitals.
_LOWER = str.maketrans({"0": "o", "1": "l", "m": "rn"})
_UPPER = str.maketrans({"0": "o", "1": "i"})


class UsernamePolicy:
    """The rules for new usernames, including reserved names."""

    def __init__(self, reserved: Iterable[str]) -> None:
        """Take the reserved names."""
        self._reserved = _outlines_of(tuple(reserved))

    def fault(self, username: str) -> str | None:
        """Return why a new username is refused, as one sentence, or None."""
        return fault(username) or self._reserved_fault(username)

    def _reserved_fault(self, username: str) -> str | None:
        if self._reserved.isdisjoint(_outlines(username)):
            return None
        return "Is reserved, or looks like a reserved name."


def fault(username: str) -> str | None:
    """Return why a username is refused, apart from reserved names, as one sentence, or None.

    The rules are UTS 39's General Security Profile (3.1) and restriction level Highly Restrictive
    (5.2), for the compatibility form of the name (NFKC).
    """
    if not 1 <= len(username) <= LONGEST:
        return f"Must have 1 to {LONGEST} characters."
    if not all(map(_is_name_character, username)):
        return "May hold only letters, marks, digits, '.', '_' and '-'."
    if not any(unicodedata.category(character)[0] in "LN" for character in username):
        return "Must have a letter or a digit."
    return None if username.isascii() else _unicode_fault(unicodedata.normalize("NFKC", username))


def lookalikes(username: str) -> frozenset[str]:
    """Return the keys that a username looks like, without its own."""
    key = username_key(username)
    return frozenset(characters.lookalikes(key)) - {key}


def _is_name_character(character: str) -> bool:
    category = unicodedata.category(character)
    return character in "._-" or category[0] in "LM" or category == "Nd"


def _unicode_fault(name: str) -> str | None:
    for character in name:
        if characters.scripts(character) is None:
            return f"Must not hold the character U+{ord(character):04X}."
    if _has_bad_marks(unicodedata.normalize("NFD", name)):
        return "Has marks that do not belong there."
    if len({_zero(character) for character in name if character.isdecimal()}) > 1:
        return "Mixes digits of several kinds."
    if _mixes_scripts(name):
        return "Mixes scripts that are not written together."
    return None


def _has_bad_marks(parts: str) -> bool:
    """Return whether a mark is unattached, doubled, invisible or one too many (UTS 39, 5.4)."""
    kinds = "".join(_kind(part) for part in parts)
    doubled = any(one == other and _kind(one) == "n" for one, other in pairwise(parts))
    too_many = "n" * (MOST_MARKS + 1) in kinds
    unattached = re.search("(^|-)[ns]", kinds)
    above = "".join(one for one in parts if unicodedata.combining(one) in _ABOVE_OR_NO_MARK)
    return bool(doubled or too_many or unattached or _HIDDEN_DOT.search(above))


def _kind(character: str) -> str:
    """Return `l` for a letter, `n` and `s` for nonspacing and spacing marks, `-` for others."""
    category = unicodedata.category(character)
    if category[0] == "L":
        return "l"
    return {"Mn": "n", "Me": "n", "Mc": "s"}.get(category, "-")


def _zero(digit: str) -> int:
    """Return the code point of the zero in the digit's script."""
    return ord(digit) - unicodedata.decimal(digit)


def _mixes_scripts(name: str) -> bool:
    """Return whether a name violates the restriction level Highly Restrictive (UTS 39, 5.2).

    It allows one script, or Latin with Japanese, with Korean, or with Chinese and Bopomofo.
    """
    found = {characters.scripts(character) or frozenset() for character in name}
    found.discard(characters.ANY_SCRIPT)
    if not found or frozenset.intersection(*found):
        return False
    others = [scripts for scripts in found if "Latn" not in scripts]
    return frozenset.intersection(*others).isdisjoint(_EAST_ASIAN)


@lru_cache(maxsize=4)
def _outlines_of(names: tuple[str, ...]) -> frozenset[str]:
    """Return the outlines of names. A program that makes several applications needs them again."""
    return frozenset().union(*map(_outlines, names))


def _outlines(username: str) -> set[str]:
    """Return a name in lower case and in capitals, without the details that a quick reader misses.

    Marks and punctuation are removed, and characters that look alike are made equal.
    """
    lower, upper = map(_bare, characters.lookalikes(username_key(username)))
    return {lower.translate(_LOWER), upper.translate(_UPPER)}


def _bare(text: str) -> str:
    parts = unicodedata.normalize("NFD", text)
    return "".join(part for part in parts if unicodedata.category(part)[0] in "LN")
