"""Unicode data of the characters that usernames may hold: scripts (UAX 24) and lookalikes (UTS 39).

Python has neither. `tools/username_characters.py` builds the file that this module reads at its
first use.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parents[1] / "data" / "username-characters.txt"

ANY_SCRIPT = frozenset({"Zyyy", "Zinh"})  # Common and Inherited

# UTS 39, 5.1: writing systems that use several scripts.
_SYSTEMS = {
    "Bopo": {"Hanb"},
    "Hang": {"Kore"},
    "Hani": {"Hanb", "Jpan", "Kore"},
    "Hira": {"Jpan"},
    "Kana": {"Jpan"},
}


class _Data(NamedTuple):
    """The file's content: ranges of characters with their scripts, and two translation tables."""

    firsts: list[int]
    lasts: list[int]
    scripts: list[frozenset[str]]
    lower: dict[int, str]
    upper: dict[int, str]


def scripts(character: str) -> frozenset[str] | None:
    """Return the scripts of a character (ISO 15924 codes); None if no name may hold it.

    This is the augmented script set of UTS 39, 5.1, or ANY_SCRIPT for a character of all scripts.
    """
    data, code = _data(), ord(character)
    found = bisect_right(data.firsts, code) - 1
    return data.scripts[found] if found >= 0 and code <= data.lasts[found] else None


def lookalikes(key: str) -> tuple[str, str]:
    """Return what a caseless key looks like (UTS 39, 4) in lower case and in capitals, composed.

    ASCII looks only like itself: people type `l` and `1` as two characters.
    """
    if key.isascii():
        return key, key
    parts, data = unicodedata.normalize("NFD", key), _data()
    lower, upper = (
        unicodedata.normalize("NFC", parts.translate(table)) for table in (data.lower, data.upper)
    )
    return lower, upper


@cache
def _data() -> _Data:
    """Read the file."""
    ranges, _, looks = FILE.read_text(encoding="ascii").partition("\n\n")
    data, sets = _Data([], [], [], {}, {}), dict[str, frozenset[str]]()
    for line in ranges.splitlines():
        if line.startswith("#"):
            continue
        span, _, codes = line.partition(" ")
        first, last = span.split("-")
        data.firsts.append(int(first, 16))
        data.lasts.append(int(last, 16))
        data.scripts.append(sets.setdefault(codes, _augmented(codes)))
    for line in looks.splitlines():
        code, lower, *upper = line.split()
        data.lower[int(code, 16)] = _text(lower)
        data.upper[int(code, 16)] = _text(upper[0] if upper else lower)
    return data


def _augmented(codes: str) -> frozenset[str]:
    found = set(codes.split())
    if found & ANY_SCRIPT:
        return ANY_SCRIPT
    return frozenset(found.union(*(_SYSTEMS.get(code, set()) for code in found)))


def _text(codes: str) -> str:
    return "".join(chr(int(code, 16)) for code in codes.split("+"))
