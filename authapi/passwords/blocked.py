"""The operator's list of refused passwords: words, or SHA-1 digests of breached passwords."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from authapi.errors import StartError
from authapi.passwords.sorted_lines import SortedLines

MOST_BYTES = 16 << 20  # of a list of words, which is loaded into memory

_SHA1 = re.compile(rb"([0-9A-F]{40}|[0-9a-f]{40})(:[0-9]+)?")


class BlockedPasswords:
    """A list of words, one a line, or of sorted hexadecimal SHA-1 digests in one case.

    A digest may be followed by a count, `DIGEST:COUNT`, as in the lists of Have I Been Pwned. A
    file of digests may have any size, because it is searched on disk.
    """

    def __init__(self, path: str) -> None:
        """Open the list; an empty path means none. Raises StartError."""
        self._words: frozenset[str] = frozenset()
        self._digests: SortedLines | None = None
        if not path:
            return
        try:
            lines = SortedLines(Path(path))
            sample = lines.sample()
            if sample and _SHA1.fullmatch(sample[0]):
                self._digests, self._upper = lines, not _has_lower(sample)
                fault = _digest_fault(sample)
            else:
                self._words, fault = _read_words(Path(path))
        except OSError as error:
            fault = f"cannot be read ({error.strerror}): let this user read it"
        if fault:
            raise StartError(f"The file of AUTHAPI_BLOCKED_PASSWORDS, {path}, {fault}.")

    def has(self, password: str) -> bool:
        """Return whether a password is listed: exactly for digests, in any case for words."""
        if self._digests:
            # NOTE: SHA-1 only identifies the password in the list. It protects nothing.
            digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest()
            return self._digests.find((digest.upper() if self._upper else digest).encode())
        return password.casefold() in self._words

    def has_word(self, word: str) -> bool:
        """Return whether a lower-case word is on a list of words."""
        return word in self._words


def _has_lower(sample: list[bytes]) -> bool:
    return any(line != line.upper() for line in sample)


def _digest_fault(sample: list[bytes]) -> str:
    """Return what is wrong with some lines of a list of digests, or an empty text."""
    if not all(_SHA1.fullmatch(line) for line in sample):
        return "has lines that are not hexadecimal SHA-1 digests: remove them"
    if sample != sorted(sample):
        return "is not sorted: sort it with LC_ALL=C sort"
    return ""


def _read_words(path: Path) -> tuple[frozenset[str], str]:
    """Return the words of a list in lower case, and what is wrong with it or an empty text."""
    if path.stat().st_size > MOST_BYTES:
        return frozenset(), (
            f"has more than {MOST_BYTES >> 20} MiB of words: make a sorted list of their SHA-1"
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return frozenset(), "is not UTF-8: convert it"
    return frozenset(line.casefold() for line in lines if line), ""
