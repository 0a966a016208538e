"""Where values come from: the settings file, the environment and options, in rising precedence."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from authapi.errors import StartError
from authapi.secret_files import read_secret
from authapi.settings.database import DatabaseSettings
from authapi.settings.environment import read_environment
from authapi.settings.group import (
    PREFIX,
    SettingError,
    Value,
    meant,
    parse,
    require_known,
)

CONFIG = "CONFIG"  # AUTHAPI_CONFIG names the settings file
FILE = "_file"  # ends the name of a setting that names the file of another one's value

Declared = Mapping[str, dataclasses.Field[Any]]


@dataclass(frozen=True, slots=True)
class Given:
    """A value that is set, and the place that sets it, such as `AUTHAPI_PORT` or `--port`.

    `file` is the file that a secret was read from, if any.
    """

    value: Value = field(repr=False)
    origin: str
    file: str = ""


class Names:
    """The names by which values can be set: the settings, and the files of secret ones."""

    def __init__(self, declared: Declared) -> None:
        """Take the settings by their names. One that is declared itself keeps its own meaning."""
        self.declared = declared
        self.files = {
            f"{name}{FILE}": name
            for name, each in declared.items()
            if not each.repr and f"{name}{FILE}" not in declared
        }
        self.known = [*declared, *self.files]

    def require_one(self, layer: Mapping[str, Given]) -> None:
        """Raise SettingError where one place sets both a value and its file."""
        for name in layer:
            if name in layer and f"{name}{FILE}" in layer:
                first, second = layer[name].origin, layer[f"{name}{FILE}"].origin
                raise SettingError(f"{first} and {second} are both set: unset one of them.")

    def over(self, lower: Mapping[str, Given], higher: Mapping[str, Given]) -> dict[str, Given]:
        """Return the values of two layers: a value or its file replaces the lower layer's."""
        self.require_one(higher)
        replaced = {*higher, *(f"{name}{FILE}" for name in higher)}
        replaced |= {name.removesuffix(FILE) for name in higher}
        return {**{name: each for name, each in lower.items() if name not in replaced}, **higher}


def read_sources(
    declared: Declared,
    environ: Mapping[str, str],
    config: str | os.PathLike[str] | None,
    overrides: Mapping[str, str | None],
) -> dict[str, Given]:
    """Return each value that is set, by its setting's name. Raises SettingError."""
    names = Names(declared)
    texts = read_environment(environ)
    config = config or texts.get(CONFIG)
    texts.pop(CONFIG, None)
    given: dict[str, Given] = {}
    if config:
        from authapi.settings.file import read_file  # noqa: PLC0415 - few starts parse TOML

        given = names.over(given, read_file(Path(config), names))
    given = names.over(given, _of_environment(texts, names))
    given = names.over(given, _of_options(overrides, names))
    return _with_secrets(given, names)


def _of_environment(texts: Mapping[str, str], names: Names) -> dict[str, Given]:
    known = {name.upper(): name for name in names.known}
    for name in texts:
        if name not in known:
            likely = meant(name, list(known), PREFIX)
            raise SettingError(f"{PREFIX}{name} is not a setting{likely}: rename or unset it.")
    return {
        known[name]: Given(_parsed(known[name], text, names), f"{PREFIX}{name}")
        for name, text in texts.items()
    }


def _of_options(overrides: Mapping[str, str | None], names: Names) -> dict[str, Given]:
    for name in overrides:
        require_known(name, names.declared)
    return {
        name: Given(_parsed(name, text, names), f"--{name.replace('_', '-')}")
        for name, text in overrides.items()
        if text
    }


def _parsed(name: str, text: str, names: Names) -> Value:
    return text if name in names.files else parse(names.declared[name], text)


def _with_secrets(given: Mapping[str, Given], names: Names) -> dict[str, Given]:
    """Return the values, with those that stand in files of their own. Raises SettingError.

    NOTE: the database's URL is read first, for the database's owner may own the other files.
    """
    found = dict(given)
    for name in sorted(names.files, key=lambda name: name != f"database_url{FILE}"):
        if name in found:
            named = found.pop(name)
            owners = _owners(found) if names.files[name] != "database_url" else []
            text = _read_secret(named, owners)
            found[names.files[name]] = Given(text, named.origin, str(named.value))
    return found


def _owners(given: Mapping[str, Given]) -> list[int]:
    url = given.get("database_url")
    settings = DatabaseSettings(database_url=str(url.value)) if url else DatabaseSettings()
    return settings.owners


def _read_secret(named: Given, owners: Iterable[int]) -> str:
    """Return the text of the file that a setting names, without the newlines at its end."""
    path, what = Path(str(named.value)).absolute(), f"The file of {named.origin},"
    read = partial(read_secret, path, what, owners=owners)
    text = readable(read, f"{what} {path}", "let this user read it, or name another one")
    if not text.strip():
        raise SettingError(f"{what} {path} is empty: write the value into it.")
    return text.rstrip("\r\n")


def readable(read: Callable[[], bytes], what: str, advice: str) -> str:
    """Return what a function reads, as text. Raises SettingError where it cannot."""
    try:
        return read().decode()
    except StartError as error:
        raise SettingError(str(error)) from error
    except OSError as error:
        raise SettingError(f"{what} cannot be read ({error.strerror}): {advice}.") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"{what} is not UTF-8: write it anew.") from error
    except ValueError as error:  # a path with a NUL character
        raise SettingError(f"{what} cannot be read ({error}): {advice}.") from error
