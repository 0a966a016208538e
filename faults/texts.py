"""Texts that may be expensive to parse: repeated, numbered, nested, and generated at random."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from faults.requests import Around, Place

ATOMS = tuple(
    atom.encode()
    for atom in (
        *"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \ta0\u00c9e\u0301\ufdfa\U0001f600",
        *('\\"', "\\\\", "\\a", "\\u0041", "\\ud83d\\ude00", "\\ud83d", "%41", "%C3%A9", "%e"),
        *("a=b; ", "a=; ", 'a="\\""; ', "=;", "a;", "a, ", "a=b&", "a&", "a=%41&", "a/b,"),
        *("*/*,", "a/b;q=1,", 'a/b;c="\\"d",', "application/problem+json,"),
        *('application/problem+json;a=",",', "close, ", "chunked, ", "bytes=0-1,", 'W/"a", '),
        *("1.2.3.4, ", "[::1], ", '"1.2.3.4", ', '"",', "for=a, ", "for=a;by=b;"),
        *(";a=b", ';a="\\b"', "a.", ".e30", "_-"),
        *("a:\r\n", "X: a\r\n", "Cookie: a=b\r\n", "Accept: a/b\r\n", "Host: x\r\n", "\r\n"),
        *("\n", "1\r\n \r\n", "1;a\r\n \r\n", "0001\r\n \r\n", "\r\n1\r\n \r\n"),
        *("//", "../", "/%2e", "/a", "{},", "[],", "1,", "1e9,", "0.1,", "null,", "[", '{"a":1},'),
        *('"\\u0041",', "\u0345\u0300", "\u1fb7", "\uac00\u11a8"),
        "".join(chr(mark) for mark in range(0x300, 0x346)),  # marks of several classes (UAX 44)
        "\u0300\u0327",
    )
)
# Marks of all classes, the highest first: sorting them by insertion takes the longest (UAX 15).
CLASSES = {unicodedata.combining(chr(code)): chr(code) for code in range(0x300, 0x2000)}
MARKS = [mark for number, mark in sorted(CLASSES.items(), reverse=True) if number]
NUMBERED = (
    ('"%x":0,', '"z":0'),
    ('"%x":"",', '"z":""'),
    ('"%x":{},', '"z":{}'),
    ("%x:\r\n", "z:"),
    ("X-%x: a\r\n", "z:"),
    ("c%x=a; ", "z=a"),
    ("%x=a&", "z=a"),
    ("x/%x, ", "application/problem+json"),
    ("application/problem+json;a=%x, ", "application/problem+json"),
    (".%x", ""),
    ("/%x", ""),
)
ELEMENTS = ("{}", "[]", '""', "0", "1e9", "0.1", "null", '{"a":1}', '"\\u0041"', "a", "a/b", "::1")
NESTED = (("[", "]"), ("(", ")"), ('{"a":', "}"), ("[[],", "]"))
NUMBERS = ("9", "0.9", "1e9", "-0.0", "0.0000001")
LINE_END = frozenset(b"\r\n")
MOST_PARTS = 6
HIGHEST_POWER = 17  # of two: how often a part is repeated


@dataclass(frozen=True)
class Text:
    """A text, and its notation."""

    shown: str
    data: bytes


def repeated(atom: bytes, size: int, before: bytes = b"", after: bytes = b"") -> Text:
    """Return a text of at most `size` bytes: an atom again and again, between two others."""
    count = (size - len(before) - len(after)) // len(atom)
    shown = [repr(part) for part in (before, after)]
    parts = [shown[0] * bool(before), f"{atom!r} * {count}", shown[1] * bool(after)]
    return Text(" + ".join(filter(None, parts)), before + atom * count + after)


def numbered(form: str, size: int, last: str = "") -> Text:
    """Return a text of at most `size` bytes: a form with 0, 1, 2 and so on, and the last one."""
    parts, length = [last], len(last)
    while (length := length + len(part := form % (len(parts) - 1))) <= size:
        parts.insert(-1, part)
    shown = f"''.join({form!r} % n for n in range({len(parts) - 1})) + {last!r}"
    return Text(shown, "".join(parts).encode())


def nested(opening: str, closing: str, size: int) -> Text:
    """Return a text of at most `size` bytes, nested as deep as they allow."""
    depth = size // len(opening + closing)
    shown = f"{opening!r} * {depth} + {closing!r} * {depth}"
    return Text(shown, (opening * depth + closing * depth).encode())


def unsorted(size: int) -> Text:
    """Return a text of at most `size` bytes with each mark as often as the next."""
    count = max(1, size // len("".join(MARKS).encode()))
    return Text(
        f"''.join(mark * {count} for mark in MARKS)",
        "".join(mark * count for mark in MARKS).encode(),
    )


def texts(place: Place, size: int) -> Iterator[Text]:
    """Yield texts of about `size` bytes to try in a place."""
    for text in _anything(size, place.around):
        if not place.one_line or not LINE_END & set(text.data):
            yield text


def _anything(size: int, around: Around) -> Iterator[Text]:
    for atom in ATOMS:
        for before, after in around:
            if len(before + atom + after) <= size:
                yield repeated(atom, size, before, after)
    for element in ELEMENTS:
        yield repeated(element.encode() + b",", size, after=element.encode())
    for form, last in NUMBERED:
        yield numbered(form, size, last)
    for opening, closing in NESTED:
        yield nested(opening, closing, size)
    yield unsorted(size)
    for number in NUMBERS:
        yield repeated(number[-1:].encode(), size, number[:-1].encode())


def strategy(place: Place) -> st.SearchStrategy[Text]:
    """Return a strategy for texts of some repeated parts, each an atom or anything at all."""
    atom = st.sampled_from(ATOMS) | st.binary(min_size=1, max_size=6)
    part = st.tuples(atom, st.integers(0, HIGHEST_POWER))
    whole = st.lists(part, min_size=1, max_size=MOST_PARTS)
    return whole.map(lambda parts: _of_parts(parts, place.sizes[-1]))


def _of_parts(parts: list[tuple[bytes, int]], longest: int) -> Text:
    shown = " + ".join(f"{atom!r} * {1 << power}" for atom, power in parts)
    data = b"".join(atom * (1 << power) for atom, power in parts)[:longest]
    return Text(f"({shown})[:{longest}]", data)
