"""A group of settings: how each one is declared, read from text, checked and refused."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from authapi.errors import OperatorError

if TYPE_CHECKING:
    from authapi.settings import Settings

PREFIX = "AUTHAPI_"

_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_RATE = re.compile(rf"([1-9][0-9]{{0,8}})/({'|'.join(_SECONDS)})")

Value = str | int


class SettingError(OperatorError):
    """Raised for an invalid setting. Its text is one sentence that names it and says what to do."""

    error = "bad_setting"
    exit_status = 2


@dataclass(frozen=True, kw_only=True)
class SettingsGroup:
    """The settings of one part of the service, or of one feature.

    A subclass is a frozen, keyword-only dataclass whose fields are made by `setting`.
    `settings.of(Subclass)` returns its one instance.
    """

    def completed(self, settings: Settings) -> Self:
        """Return the group with the defaults that follow from other settings filled in.

        The values are of the declared types and ranges. `settings` already has the groups of the
        core that come before, and those of the features that are required. Raises SettingError for
        values that do not fit together. It is not called while the feature is off.
        """
        del settings
        return self


class Rate(NamedTuple):
    """A number of tries at once, and as many again in a number of seconds."""

    tries: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Return the rate of a text such as `10/hour`. Raises ValueError."""
        match = _RATE.fullmatch(text)
        if not match:
            raise ValueError(text)
        return cls(int(match[1]), _SECONDS[match[2]])


def setting(default: Value, text: str, *, secret: bool = False, **rule: object) -> Any:  # noqa: ANN401 - as dataclasses.field itself
    """Declare a setting. A default of 0 or "" that `text` explains is worked out at the start.

    A rule is `low`, `high` and perhaps a `unit` for a number, `choices` for a text, `rate=True`, or
    `items=True` for a list with spaces between its items. A number may have a `word`, which stands
    for 0. A `secret` may also stand in a file, which `AUTHAPI_…_FILE` names; it is shown as `***`,
    or by a function `masked`.
    """
    metadata = {"help": text, "low": 0, "high": 0, "unit": "", "choices": (), "rate": False}
    metadata |= {"word": "", "items": False, "masked": None}
    return field(default=default, metadata={**metadata, **rule}, repr=not secret)


def masked(declared: dataclasses.Field[Any], value: Value) -> Value:
    """Return a value without what is secret in it."""
    if declared.repr or value == "":
        return value
    mask: Callable[[str], str] = declared.metadata["masked"] or (lambda _: "***")
    return mask(str(value))


def refused(name: str, value: object, wanted: str, *, secret: bool = False) -> SettingError:
    """Return the error for a value that is not what is wanted."""
    # SECURITY: a URL with an @ may hold a password.
    shown = "" if secret or "@" in str(value) else f", not {value!r}"
    return SettingError(f"{variable(name)} must be {wanted}{shown}.")


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def likeliest(name: str, known: list[str]) -> str | None:
    """Return the known name that is most like another one, if any is."""
    import difflib  # noqa: PLC0415 - for mistakes alone

    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)


def meant(name: str, known: list[str], prefix: str = "") -> str:
    """Return what to add to the refusal of a name: the known one that is most like it, if any."""
    found = likeliest(name, known)
    return f"; {prefix}{found} was likely meant" if found else ""


def require_known(name: str, known: Iterable[str]) -> None:
    """Raise TypeError for a name that is no setting's."""
    names = list(known)
    if name not in names:
        raise TypeError(f"there is no setting {name!r}{meant(name, names)}")


def parse(declared: dataclasses.Field[Any], text: str) -> Value:
    """Return the value that a text gives a setting. Raises SettingError."""
    if isinstance(declared.default, str):
        return text
    if text.casefold() == declared.metadata["word"]:
        return 0
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise _against_rule(declared, text)
    return int(text)


def listed(text: str) -> list[str]:
    """Return the items of a list that are separated by white space or commas."""
    return [item for item in re.split(r"[ \t\r\n,]+", text) if item]


def checked(declared: dataclasses.Field[Any], value: object) -> Value:
    """Return the value as the service uses it: choices in lower case. Raises SettingError."""
    rule = declared.metadata
    if type(value) is not type(declared.default) or not isinstance(value, (str, int)):
        raise _of_another_type(declared, value)
    if rule["choices"]:
        value = str(value).casefold()
    is_out_of_range = isinstance(value, int) and not rule["low"] <= value <= rule["high"]
    is_no_choice = rule["choices"] and value not in rule["choices"]
    is_no_rate = rule["rate"] and not _RATE.fullmatch(str(value))
    if is_out_of_range or is_no_choice or is_no_rate:
        raise _against_rule(declared, value)
    return value


def _against_rule(declared: dataclasses.Field[Any], value: object) -> SettingError:
    return refused(declared.name, value, _wanted(declared), secret=not declared.repr)


def _of_another_type(declared: dataclasses.Field[Any], value: object) -> SettingError:
    """Return the error for a value of another type. SECURITY: it does not show the value."""
    name, wanted = declared.name, type(declared.default).__name__
    advice = ""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):
        advice = f": write {name}={value}"
    elif isinstance(value, os.PathLike):
        advice = ": write f'sqlite:///{path}'" if name == "database_url" else ": write str(path)"
    elif isinstance(value, (list, tuple, set, frozenset)) and wanted == "str":
        advice = ": join the items with a space between them"
    return SettingError(
        f"{variable(name)} must be of type {wanted}, not {type(value).__name__}{advice}."
    )


def _wanted(declared: dataclasses.Field[Any]) -> str:
    rule = declared.metadata
    if rule["choices"]:
        return " or ".join(rule["choices"])
    if rule["rate"]:
        return "a number of tries for a second, minute, hour or day, such as 10/hour"
    word = f"{rule['word']} or " if rule["word"] else ""
    unit = f" of {rule['unit']}" if rule["unit"] else ""
    day = " (86400 for each day)" if rule["unit"] == "seconds" else ""
    return f"{word}a whole number{unit} from {rule['low']} to {rule['high']}{day}"
