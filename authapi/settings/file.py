"""The settings file: TOML whose names are the settings' own, in lower case and without tables."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

from authapi.secret_files import read_secret
from authapi.settings.group import PREFIX, SettingError, Value, checked, masked, meant
from authapi.settings.sources import Given, Names, readable

READABLE = 0o055  # bits of a mode: everyone may read a file without secrets

_KINDS = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "an array"}


def read_file(path: Path, names: Names) -> dict[str, Given]:
    """Return what a settings file sets, by name. An empty text or array counts as unset.

    Raises SettingError for a file that cannot be read, that others can write, that others can read
    although it holds a secret, or that is no TOML, and for an unknown name or a value of another
    type.
    """
    path = path.absolute()
    what = "The settings file"
    read = partial(read_secret, path, what, shared=READABLE)
    advice = "name another one in AUTHAPI_CONFIG or with --config"
    content = _parsed(path, readable(read, f"{what} {path}", advice))
    given: dict[str, Given] = {}
    for name, found in content.items():
        _require_known(name, found, path, names)
        value = _value(name, found, path, names)
        if value != "":
            given[name] = Given(value, f"{name} in {path}")
    secrets = [name for name, each in given.items() if _is_secret(name, each.value, names)]
    if secrets:
        readable(
            partial(read_secret, path, f"{secrets[0]} is a secret, and the settings file"),
            f"{what} {path}",
            advice,
        )
    return given


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))  # as editors on Windows begin a file
    except tomllib.TOMLDecodeError as error:
        fault = " ".join(str(error).split())
        raise SettingError(f"The settings file {path} is not TOML: {fault}.") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 1,000 open brackets
        raise SettingError(f"The settings file {path} holds a value that is too large.") from error


def _require_known(name: str, found: object, path: Path, names: Names) -> None:
    """Raise SettingError for a name that is no setting's, and for a table."""
    if isinstance(found, dict):
        raise SettingError(
            f"{name} in {path} is a table: write the settings above it, without any table."
        )
    if name not in names.known:
        likely = meant(name.lower().removeprefix(PREFIX.lower()), names.known)
        raise SettingError(f"{name} in {path} is not a setting{likely}: rename or remove it.")


def _value(name: str, found: object, path: Path, names: Names) -> Value:
    """Return the value as the setting has it. Raises SettingError for one of another kind."""
    if "\0" in str(found):
        raise SettingError(f"{name} in {path} holds a NUL character: remove it.")
    if name in names.files:
        if isinstance(found, str):
            return found
        raise _refused(name, "a path as text", found, path)
    declared = names.declared[name]
    value = _converted(declared, found)
    if value is None:
        raise _refused(name, _wanted(declared, found), found, path)
    try:
        return value if value == "" else checked(declared, value)
    except SettingError as error:
        raise SettingError(f"{str(error).removesuffix('.')} ({name} in {path}).") from error


def _converted(declared: dataclasses.Field[Any], found: object) -> Value | None:
    """Return a value of the declared type, or None."""
    rule = declared.metadata
    if isinstance(declared.default, int):
        if rule["word"] and isinstance(found, str) and found.casefold() == rule["word"]:
            return 0
        return found if type(found) is int else None
    if isinstance(found, list) and rule["items"] and all(isinstance(each, str) for each in found):
        return " ".join(found)
    return found if isinstance(found, str) else None


def _wanted(declared: dataclasses.Field[Any], found: object) -> str:
    rule, name = declared.metadata, declared.name
    if isinstance(declared.default, int):
        word = f' or "{rule["word"]}"' if rule["word"] else ""
        is_number = isinstance(found, str) and re.fullmatch("[0-9]{1,18}", found)
        return f"a whole number{word}" + (f", as in {name} = {found}" if is_number else "")
    if rule["choices"]:
        return " or ".join(f'"{each}"' for each in rule["choices"])
    return "text or an array of texts" if rule["items"] else "text"


def _refused(name: str, wanted: str, found: object, path: Path) -> SettingError:
    """Return the error for a value of another kind. SECURITY: it does not show the value."""
    kind = _KINDS.get(type(found), "a time")
    return SettingError(f"{name} in {path} must be {wanted}, not {kind}.")


def _is_secret(name: str, value: Value, names: Names) -> bool:
    return name in names.declared and masked(names.declared[name], value) != value
