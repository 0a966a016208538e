"""Users of other systems: a row as it was read, and the user that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

MILLISECONDS_FROM = 100_000_000_000  # a larger number counts milliseconds: it is the year 5138
LATEST = 253_402_300_799  # seconds: the year 9999
LARGEST = (1 << 53) - 1  # of a number that JSON keeps, and after which databases can still count on

_FLAGS = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}


class Fault(Exception):
    """Raised for a row that cannot be imported. Its text is one sentence."""

    def __init__(self, message: str, error: str = "invalid") -> None:
        """Take the sentence and the name of the fault."""
        super().__init__(message)
        self.error = error


class EndOfInput(Fault):
    """Raised for input that cannot be read any further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A user to import. Times are seconds since the epoch; the hash is as it will be stored.

    Without a hash the user has no password. `is_own` is set for users of authapi, who keep names
    that are older than a rule.
    """

    email: str
    username: str | None = None
    password_hash: str | None = field(default=None, repr=False)
    id: int | None = None
    created_at: int | None = None
    updated_at: int | None = None
    email_verified_at: int | None = None
    disabled_at: int | None = None
    is_disabled: bool = False
    password_version: int = 1
    credentials_version: int = 1
    roles: str = ""
    is_own: bool = False


class Row:
    """The values of a row, by names of which the first that has a value counts."""

    def __init__(self, values: Mapping[str, object]) -> None:
        """Take the values by name."""
        self._values = values

    def value(self, *names: str) -> object:
        """Return the first value that is neither missing, null nor an empty text."""
        return next(
            (self._values[name] for name in names if self._values.get(name) not in (None, "")), None
        )

    def text(self, *names: str) -> str | None:
        """Return a text, or None. Raises Fault for another type, NUL and what is no UTF-8."""
        value = self.value(*names)
        if value is None:
            return None
        if not isinstance(value, str):
            raise Fault(f"{names[0]} is no text.")
        if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
            raise Fault(f"{names[0]} has a NUL character or is not UTF-8.")
        return value

    def required_email(self, *names: str) -> str:
        """Return the email. Raises Fault without one."""
        email = self.text(*(names or ("email",)))
        if email is None:
            raise Fault("There is no email.", "no_email")
        return email

    def flag(self, *names: str, default: bool) -> bool:
        """Return whether something is so. Raises Fault for another type."""
        value = self.value(*names)
        if value is None:
            return default
        found = _FLAGS.get(str(value).lower())
        if found is None:
            raise Fault(f"{names[0]} is neither true nor false.")
        return found

    def number(self, *names: str) -> int | None:
        """Return a whole number from 1 to LARGEST, or None. Raises Fault for anything else."""
        value = self.value(*names)
        if value is None:
            return None
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST:
            raise Fault(f"{names[0]} is no whole number from 1 to {LARGEST}.")
        return value

    def id(self, *names: str) -> int | None:
        """Return an id that is a number; None for another, such as a UUID."""
        try:
            return self.number(*(names or ("id",)))
        except Fault:
            return None

    def time(self, *names: str) -> int | None:
        """Return a time in seconds since the epoch, or None. Raises Fault.

        It may be ISO 8601, which is UTC unless it says otherwise, or a number of seconds or
        milliseconds.
        """
        value = self.value(*names)
        if value is None:
            return None
        try:
            seconds = _seconds(value)
        except (ValueError, OverflowError, TypeError) as error:
            raise Fault(f"{names[0]} is no time.") from error
        if not 0 <= seconds <= LATEST:
            raise Fault(f"{names[0]} is no time from 1970 to 9999.")
        return seconds


def _seconds(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if isinstance(value, str):
        found = datetime.fromisoformat(value)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    return int(value / 1_000 if value >= MILLISECONDS_FROM else value)
