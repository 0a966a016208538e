"""The rules for new passwords: long enough, not listed, and not easy to guess."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from authapi.passwords.blocked import BlockedPasswords
from authapi.passwords.normalization import nfc
from authapi.passwords.patterns import (
    DIGITS_AND_SIGNS,
    SHORTEST_STEM,
    is_sequence,
    repeated,
    stems,
)
from authapi.passwords.sorted_lines import SortedLines
from authapi.settings import PasswordSettings, ServerSettings, Settings

MAX_LENGTH = 1_024  # code points, after NFC
MAX_DECOMPOSED = 4 * MAX_LENGTH  # code points before NFC, which joins at most four (UAX 15)
LONGEST_LISTED = 64  # code points; no list holds a longer password

COMMON = Path(__file__).parents[1] / "data" / "common-passwords.txt"


class PasswordPolicy:
    """The rules for new passwords (NIST SP 800-63B-4, 3.1.1.2; OWASP ASVS 6.2)."""

    def __init__(self, settings: Settings) -> None:
        """Take the rules from the settings, and open the lists. Raises StartError."""
        rules = settings.of(PasswordSettings)
        self._min_length = rules.password_min_length
        self._common = SortedLines(COMMON)
        self._blocked = BlockedPasswords(rules.blocked_passwords)
        self._refuses_names = rules.own_name_passwords == "refused"
        host = urlsplit(settings.of(ServerSettings).public_url).hostname or ""
        parts = ["authapi", host, *re.split(r"[.:]", host)]
        self._service_names = {part for part in parts if len(part) >= SHORTEST_STEM}

    def fault(self, password: str, names: Iterable[str] = ()) -> str | None:
        """Return why a new password is refused, as one sentence, or None.

        `names` are the user's username and email.
        """
        if len(password) <= MAX_DECOMPOSED:
            password = nfc(password)
        if len(password) < self._min_length:
            return f"Must have at least {self._min_length} characters."
        if len(password) > MAX_LENGTH:
            return f"Must have at most {MAX_LENGTH} characters."
        if "\0" in password or any("\ud800" <= character <= "\udfff" for character in password):
            return "Must not hold NUL or a lone surrogate."
        if self.is_made_of(password, (*names, *self._service_names)):
            return "Must not be your username, your email or the name of this service."
        if self._blocked.has(password):
            return "Is on the list of passwords that this service refuses."
        return self._guessable(password.casefold())

    def is_made_of(self, password: str, names: Iterable[str]) -> bool:
        """Return whether names that a password must not be are all of it (ASVS 6.2.11).

        It may have an ending of digits and signs. An email is also its part before the @.
        """
        if not self._refuses_names or len(password) > MAX_DECOMPOSED:
            return False
        password = nfc(password).casefold()
        own = {part.casefold() for name in names for part in (name, name.partition("@")[0])}
        return not {password, password.rstrip(DIGITS_AND_SIGNS)}.isdisjoint(own)

    def _guessable(self, password: str) -> str | None:
        """Return why a lower-case password is easy to guess, or None."""
        if self._is_common(password):
            return "Is one of the most common passwords."
        if any(self._is_common(stem) for stem in stems(password)):
            return "Is a common word with digits or signs."
        if is_sequence(password):
            return "Is a sequence or a row of keys."
        part = repeated(password)
        if part and (len(part) < self._min_length or self._guessable(part)):
            return "Is a repetition."
        return None

    def _is_common(self, word: str) -> bool:
        if len(word) > LONGEST_LISTED:
            return False
        word = unicodedata.normalize("NFKC", word)
        return self._common.find(word.encode()) or self._blocked.has_word(word)
