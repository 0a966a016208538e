"""Build `authapi/data/username-characters.txt` from ICU's copy of the Unicode data.

    python tools/username_characters.py 72 > authapi/data/username-characters.txt

The argument is the major version of ICU4C's libraries. Debian's package libicu72 has Unicode 15.0.

The first section lists the characters that usernames may hold, in ranges, with their scripts
(Script_Extensions, UAX 24). They are the letters, marks and digits whose Identifier_Status is
Allowed (UTS 39, 3.1), the main exemplar characters of each language in CLDR (its alphabet), the
marks among its auxiliary ones, and the characters of limited-use scripts (UAX 31, Table 7).

The second section lists the characters that look like others (UTS 39, 4): a character, what it
looks like in lower case, and what its capital looks like, if that differs. The table
`username_lookalikes` of a database stores what this file said when a user took the name. A change
here needs a migration that fills the table again.
"""

import ctypes
import sys
import unicodedata
from collections.abc import Iterator
from functools import partial
from typing import Any

LETTER_MARK_DIGIT = range(1, 10)  # of UCharCategory: Lu, Ll, Lt, Lm, Lo, Mn, Me, Mc, Nd
MARK = range(6, 9)
LIMITED_USE = 3  # of UScriptUsage
WITH_CAPITALS = 4  # of USetAttribute
MAIN, AUXILIARY = 0, 1  # of ULocaleDataExemplarSetType
DEFAULT_IGNORABLE = 5  # of UProperty
PUNCTUATION = "-._"
# Chromium's addition to UTS 39: most fonts draw the small palochka like l.
LOWER = {"\u04cf": "l"}


class Icu:
    """The functions of ICU4C that are used here. Their names end with the major version."""

    def __init__(self, version: str) -> None:
        """Load the libraries."""
        self._common = ctypes.CDLL(f"libicuuc.so.{version}")
        self._more = ctypes.CDLL(f"libicui18n.so.{version}")
        self._version = version
        self._status = ctypes.c_int(0)
        pointer = ctypes.c_void_p
        self._checker = pointer(self._call(self._more, "uspoof_open", pointer))
        recommended = pointer(self._call(self._more, "uspoof_getRecommendedSet", pointer))
        self._allowed = pointer(self._get("uset_cloneAsThawed", pointer, recommended))
        self._marks = pointer(self._get("uset_openEmpty", pointer))
        for number in range(self._get("uloc_countAvailable", ctypes.c_int)):
            locale = self._get("uloc_getAvailable", ctypes.c_char_p, number)
            self._get("uset_addAll", None, self._allowed, self._alphabet(locale, MAIN))
            self._get("uset_addAll", None, self._marks, self._alphabet(locale, AUXILIARY))

    def _call(self, library: Any, name: str, result: Any, *arguments: object) -> Any:  # noqa: ANN401 - ctypes'
        """Call a function whose last parameter is the status. Raises RuntimeError."""
        function = getattr(library, f"{name}_{self._version}")
        function.restype = result
        value = function(*arguments, ctypes.byref(self._status))
        if self._status.value > 0:
            raise RuntimeError(f"{name}: status {self._status.value}")
        return value

    @property
    def unicode(self) -> str:
        """Return the version of Unicode."""
        numbers = (ctypes.c_uint8 * 4)()
        self._get("u_getUnicodeVersion", None, numbers)
        return ".".join(map(str, numbers[:3]))

    def _get(self, name: str, result: Any, *arguments: object) -> Any:  # noqa: ANN401 - ctypes'
        """Call a function without a status parameter."""
        function = getattr(self._common, f"{name}_{self._version}")
        function.restype = result
        return function(*arguments)

    def _alphabet(self, locale: bytes, kind: int) -> ctypes.c_void_p:
        pointer = ctypes.c_void_p
        data = pointer(self._call(self._more, "ulocdata_open", pointer, locale))
        name = "ulocdata_getExemplarSet"
        return pointer(self._call(self._more, name, pointer, data, None, WITH_CAPITALS, kind))

    def is_allowed(self, code: int) -> bool:
        """Return whether usernames may hold a character."""
        if chr(code) in PUNCTUATION:
            return True
        category = self._get("u_charType", ctypes.c_int8, code)
        if category not in LETTER_MARK_DIGIT:
            return False
        if self._get("u_hasBinaryProperty", ctypes.c_bool, code, DEFAULT_IGNORABLE):
            return False
        is_allowed = self._get("uset_contains", ctypes.c_bool, self._allowed, code)
        is_mark = category in MARK and self._get("uset_contains", ctypes.c_bool, self._marks, code)
        return is_allowed or is_mark or self._is_of_limited_use(code)

    def _is_of_limited_use(self, code: int) -> bool:
        script = self._call(self._common, "uscript_getScript", ctypes.c_int, code)
        return bool(self._get("uscript_getUsage", ctypes.c_int, script) == LIMITED_USE)

    def scripts(self, code: int) -> str:
        """Return the codes of a character's scripts (ISO 15924), separated by spaces."""
        found = (ctypes.c_int * 64)()
        count = self._call(
            self._common, "uscript_getScriptExtensions", ctypes.c_int, code, found, len(found)
        )
        name = partial(self._get, "uscript_getShortName", ctypes.c_char_p)
        return " ".join(sorted(name(script).decode() for script in found[:count]))

    def skeleton(self, text: str) -> str:
        """Return the skeleton of a text (UTS 39, 4)."""
        data, room = text.encode(), ctypes.create_string_buffer(1_024)
        length = self._call(
            self._more,
            "uspoof_getSkeletonUTF8",
            ctypes.c_int,
            self._checker,
            0,
            data,
            len(data),
            room,
            len(room),
        )
        return room.raw[:length].decode()


def ranges(icu: Icu) -> Iterator[tuple[int, int, str]]:
    """Yield ranges of characters that usernames may hold: first, last, and their scripts."""
    first, last, scripts = 0, -1, ""
    for code in range(sys.maxunicode + 1):
        found = icu.scripts(code) if icu.is_allowed(code) else ""
        if found != scripts:
            if scripts:
                yield first, last, scripts
            first, scripts = code, found
        last = code


def folded(text: str) -> str:
    """Return the caseless form of a text that usernames' keys have, decomposed."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())


def lookalikes(icu: Icu, code: int) -> tuple[str, str] | None:
    """Return what a folded character and its capital look like; None if only like itself."""
    character = chr(code)
    if character.isascii() or folded(character) != character:
        return None
    lower = LOWER.get(character) or folded(icu.skeleton(character))
    # In capitals, a character that looks like a small l looks like a capital I.
    upper = folded(icu.skeleton(character.upper()).replace("l", "i"))
    return None if {lower, upper} == {character} else (lower, upper)


def codes(text: str) -> str:
    """Return the code points of a text in hexadecimal."""
    return "+".join(f"{ord(character):X}" for character in text)


def main() -> None:
    """Print the file."""
    version = sys.argv[1]
    icu = Icu(version)
    print(f"# Unicode {icu.unicode}, from ICU {version} by tools/username_characters.py.")
    print("# Copyright (c) 1991-2022 Unicode, Inc. The licence stands in README.md.")
    allowed = list(ranges(icu))
    for first, last, scripts in allowed:
        print(f"{first:X}-{last:X}", scripts)
    print()
    for first, last, _ in allowed:
        for code in range(first, last + 1):
            looks = lookalikes(icu, code)
            if looks:
                lower, upper = looks
                print(f"{code:X}", codes(lower), codes(upper) if upper != lower else "", sep=" ")


if __name__ == "__main__":
    main()
