"""One setting: how it is declared, read from text, checked and refused."""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass, field
from typing import Any

PREFIX = "AUTHAPI_"

_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_RATE = re.compile(rf"([1-9][0-9]{{0,8}})/({'|'.join(_SECONDS)})")


class SettingError(Exception):
    """A setting that makes no sense. Its text is one sentence that names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many tries at once, and as many again in so many seconds."""

    tries: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """The rate of a text such as `10/hour`. Raises ValueError."""
        match = _RATE.fullmatch(text)
        if not match:
            raise ValueError(text)
        return cls(int(match[1]), _SECONDS[match[2]])


def setting(default: str | int, text: str, *, secret: bool = False, **rule: object) -> Any:  # noqa: ANN401 - as dataclasses.field itself
    """Declare a setting. A default of 0 or "" that `text` explains is worked out at the start.

    A rule is `low` and `high` for a number, `choices` for a text, or `rate=True`.
    """
    metadata = {"help": text, "low": 0, "high": 0, "choices": (), "rate": False, **rule}
    return field(default=default, metadata=metadata, repr=not secret)


def refused(name: str, value: object, wanted: str) -> SettingError:
    """The error for a value that is not what is wanted."""
    # SECURITY: a URL with an @ may hold a password.
    shown = "" if name == "secret_key" or "@" in str(value) else f", not {value!r}"
    return SettingError(f"{PREFIX}{name.upper()} must be {wanted}{shown}.")


def unknown(name: str, known: list[str]) -> SettingError:
    """The error for a name without its prefix that is no setting's, with the likeliest one."""
    likely = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    meant = f"; {PREFIX}{likely[0]} was likely meant" if likely else ""
    return SettingError(f"{PREFIX}{name} is no setting{meant}: rename or unset it.")


def parse(declared: dataclasses.Field[Any], text: str) -> str | int:
    """The value that a text gives a setting. Raises SettingError."""
    if not text:
        raise SettingError(
            f"{PREFIX}{declared.name.upper()} is empty: give it a value, or unset it."
        )
    if isinstance(declared.default, str):
        return text
    if declared.name == "workers" and text == "auto":
        return 0
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise refused(declared.name, text, _wanted(declared))
    return int(text)


def check(declared: dataclasses.Field[Any], value: object) -> None:
    """Raise SettingError for a value that the setting does not take."""
    rule = declared.metadata
    if type(value) is not type(declared.default):
        raise refused(declared.name, value, _wanted(declared))
    if isinstance(value, int) and not rule["low"] <= value <= rule["high"]:
        raise refused(declared.name, value, _wanted(declared))
    if rule["choices"] and value not in rule["choices"]:
        raise refused(declared.name, value, _wanted(declared))
    if rule["rate"] and not _RATE.fullmatch(str(value)):
        raise refused(declared.name, value, _wanted(declared))


def _wanted(declared: dataclasses.Field[Any]) -> str:
    rule = declared.metadata
    if rule["choices"]:
        return " or ".join(rule["choices"])
    if rule["rate"]:
        return "a number of tries for a second, minute, hour or day, such as 10/hour"
    if isinstance(declared.default, int):
        auto = "auto or " if declared.name == "workers" else ""
        return f"{auto}a whole number from {rule['low']} to {rule['high']}"
    return "text"
