"""Passwords that rules can guess: repetitions, sequences, rows of keys, and words with endings."""

from __future__ import annotations

import string
from collections.abc import Iterator
from itertools import pairwise

SHORTEST_SEQUENCE = 3  # characters
LONGEST_SEQUENCE = 256
MOST_BESIDE = 3  # characters beside sequences, and at most a third of the password
SHORTEST_STEM = 4  # letters
LONGEST_ENDING = 6  # digits and signs around a stem, together

DIGITS_AND_SIGNS = string.digits + string.punctuation

_ROWS = (
    *("1234567890", "!@#$%^&*()"),
    *("qwertyuiop", "asdfghjkl", "zxcvbnm"),  # QWERTY
    *("qwertzuiop", "yxcvbnm"),  # QWERTZ
    *("azertyuiop", "qsdfghjklm", "wxcvbn"),  # AZERTY
    *("1qaz", "2wsx", "3edc", "4rfv", "5tgb", "6yhn", "7ujm", "8ik,", "9ol.", "0p;/"),
    *("!qaz", "@wsx", "#edc", "$rfv"),
)
_BESIDE = {pair for row in _ROWS for pair in pairwise(row)}
_BESIDE |= {(second, first) for first, second in _BESIDE}

# Signs and digits that people use as letters; a 1 is an i or an l.
_LETTERS = {"@": "a", "4": "a", "3": "e", "0": "o", "$": "s", "5": "s", "7": "t", "+": "t"}
_READINGS = [str.maketrans({**_LETTERS, "1": one, "!": one, "|": one}) for one in "il"]


def is_sequence(password: str) -> bool:
    """Return whether a lower-case password consists of sequences and at most MOST_BESIDE others.

    A sequence repeats one character, counts up or down, or follows the keyboard: `aaaa1111`,
    `abcdefgh`, `Qwertz4321!`.

    SECURITY: passwords of more than LONGEST_SEQUENCE characters are not searched, to bound the
    time.
    """
    if len(password) > LONGEST_SEQUENCE:
        return False
    most = min(MOST_BESIDE, len(password) // 3)
    others = start = 0
    while start < len(password) and others <= most:
        length = max(_length(password, start, step) for step in _STEPS)
        others += length < SHORTEST_SEQUENCE
        start += length if length >= SHORTEST_SEQUENCE else 1
    return others <= most


def repeated(password: str) -> str | None:
    """Return the shortest part that a password repeats, or None. The last repetition may be cut."""
    sizes = range(1, len(password) // 2 + 1)
    return next((password[:size] for size in sizes if password[size:] == password[:-size]), None)


def stems(password: str) -> Iterator[str]:
    """Yield the words that a lower-case password may be made from.

    Digits and signs around a word are removed, and those within it are read as letters:
    `p@ssw0rd2026!` gives `password` among others.
    """
    for word in {password, password.rstrip(DIGITS_AND_SIGNS), password.strip(DIGITS_AND_SIGNS)}:
        if len(word) >= max(SHORTEST_STEM, len(password) - LONGEST_ENDING):
            yield from {word.translate(reading) for reading in _READINGS}


def _length(password: str, start: int, step: str) -> int:
    """Return how many characters from `start` form a sequence of one kind."""
    end = start + 1
    while end < len(password) and _follows(password[end - 1], password[end], step):
        end += 1
    return end - start


_STEPS = ("same", "up", "down", "beside")


def _follows(first: str, second: str, step: str) -> bool:
    if step == "beside":
        return (first, second) in _BESIDE
    return ord(second) - ord(first) == {"same": 0, "up": 1, "down": -1}[step]
