"""Settings as text: each value with its place, without secrets, and a settings file of them all."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from authapi.settings.group import Value, masked
from authapi.settings.sources import FILE

if TYPE_CHECKING:
    from authapi.settings import Settings

DEFAULT = "default"
WIDTH = 98  # columns of a comment

_HEADING = """\
# The settings of authapi. A line that begins with # shows a default, and changes nothing.
# Name this file in AUTHAPI_CONFIG or with --config. A variable of the environment wins over it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A setting: its value in use without what is secret, and the place that sets it."""

    name: str
    value: Value
    origin: str


def shown(settings: Settings) -> Iterator[Shown]:
    """Yield each setting."""
    for group in settings.groups:
        for each in dataclasses.fields(group):
            given = settings.given.get(each.name)
            origin = given.origin if given else DEFAULT
            if given and given.file:
                origin = f"{origin} ({given.file})"
            yield Shown(each.name, masked(each, getattr(group, each.name)), origin)


def as_toml(settings: Settings) -> str:
    """Return a settings file that sets what these settings were given, and shows the defaults.

    SECURITY: a secret that is not in a file of its own is left out.
    """
    parts = [_HEADING]
    for group in settings.groups:
        parts.append(f"## {str(type(group).__doc__).partition(chr(10))[0]}")
        parts += (_lines(settings, each) for each in dataclasses.fields(group))
    return "\n\n".join(parts)


def _lines(settings: Settings, each: dataclasses.Field[Any]) -> str:
    """Return the comment on a setting, and the line that sets it."""
    given = settings.given.get(each.name)
    comment = _comment(each.metadata["help"])
    if given is None:
        default: Any = each.default
        return f"{comment}\n# {each.name} = {_written(default)}"
    if given.file:
        return f"{comment}\n{each.name}{FILE} = {_written(given.file)}"
    if masked(each, given.value) != given.value:
        return f"{comment}\n{_comment(f'It is secret, and left to {given.origin}.')}"
    if not _is_utf8(given.value):
        return f"{comment}\n{_comment(f'It is not UTF-8, and left to {given.origin}.')}"
    return f"{comment}\n{each.name} = {_written(given.value)}"


def _comment(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _is_utf8(value: Value) -> bool:
    """Return whether a value is text without the bytes of an environment that are not UTF-8."""
    return not any("\ud800" <= each <= "\udfff" for each in str(value))


def _written(value: Value) -> str:
    """Return a value in TOML."""
    if isinstance(value, int):
        return str(value)
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04X}" if ord(character) < 0x10000 else f"\\U{ord(character):08X}"
