"""The settings: groups of the core, one file each here, and groups that features declare.

`Settings` reads and checks them all. It refuses to be made of values that make no sense.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from authapi.feature import Feature, load
from authapi.features import DEFAULT
from authapi.settings.database import DatabaseSettings
from authapi.settings.declared import (
    every_group,
    every_setting,
    groups_of,
    refuse_settings_of,
    switched_off,
)
from authapi.settings.group import (
    PREFIX,
    Rate,
    SettingError,
    SettingsGroup,
    Value,
    checked,
    refused,
    require_known,
    setting,
    variable,
)
from authapi.settings.keys import KeySettings, weak_key
from authapi.settings.observation import ObservationSettings
from authapi.settings.passwords import PasswordSettings
from authapi.settings.server import ServerSettings
from authapi.settings.sessions import SessionSettings
from authapi.settings.sources import Given, read_sources
from authapi.settings.workers import WorkerSettings

__all__ = [
    "PREFIX",
    "DatabaseSettings",
    "KeySettings",
    "ObservationSettings",
    "PasswordSettings",
    "Rate",
    "ServerSettings",
    "SessionSettings",
    "SettingError",
    "Settings",
    "SettingsGroup",
    "WorkerSettings",
    "declared_settings",
    "refused",
    "require_settings",
    "setting",
    "variable",
    "weak_key",
]

Group = TypeVar("Group", bound=SettingsGroup)


class Settings:
    """The settings of the service, with their defaults. `docs/settings.md` describes each.

    `Settings(port=8080)` sets by name; the names are those of every group. `settings.of(Group)`
    returns a group, with its types. `settings.port` is the value of a name in any group. Settings
    cannot be changed; two are equal if all values are. `features` are the features that the service
    is to have.

    Raises SettingError, whether it is made by hand or by `from_env`, and TypeError for a name that
    is no setting's.
    """

    features: tuple[Feature, ...]  # those that are on
    _asked_for: tuple[str | ModuleType, ...]
    _values: dict[str, Value]
    _groups: dict[type[SettingsGroup], SettingsGroup]
    given: Mapping[str, Given]  # what `from_env` found, and where

    def __init__(self, *, features: Iterable[str | ModuleType] = DEFAULT, **values: Value) -> None:
        """Check every value by its declaration, then what follows from several."""
        asked_for = tuple(features)
        loaded = load(asked_for)
        declared = every_setting(loaded)
        for name in values:
            require_known(name, declared)
        used = {
            name: checked(each, values.get(name, each.default)) for name, each in declared.items()
        }
        off = switched_off(loaded, used)
        refuse_settings_of(off, values)
        vars(self).update(_asked_for=asked_for, _values=values, _groups={}, given={})
        vars(self).update(features=tuple(each for each in loaded if each not in off))
        unchecked = {group for feature in off for group in groups_of(feature)}
        for kind in every_group(loaded):
            group = kind(**{each.name: used[each.name] for each in dataclasses.fields(kind)})
            self._groups[kind] = group if kind in unchecked else group.completed(self)

    def of(self, kind: type[Group]) -> Group:
        """Return a group. Raises LookupError for one that no feature of these settings declares."""
        if kind not in self._groups:
            raise LookupError(f"{kind.__name__} belongs to no feature of these settings")
        return cast("Group", self._groups[kind])

    @property
    def groups(self) -> list[SettingsGroup]:
        """Return every group: those of the core, then those of the features."""
        return list(self._groups.values())

    def replace(self, **values: Value) -> Settings:
        """Return these settings with other values. Raises SettingError."""
        return Settings(features=self._asked_for, **{**self._values, **values})

    def on_port(self, port: int) -> Settings:
        """Return the settings for the port that was found where any free one was asked for."""
        return self.replace(port=port)

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        config: str | os.PathLike[str] | None = None,
        features: Iterable[str | ModuleType] = DEFAULT,
        **overrides: str | None,
    ) -> Settings:
        """Read the settings file, then every `AUTHAPI_…` variable of the environment or a mapping.

        `config` names the settings file, as `AUTHAPI_CONFIG` does. A variable wins over the file,
        and an override over both. An empty text is as good as none. Raises SettingError, for an
        unknown name too.
        """
        asked_for = tuple(features)
        declared = {each.name: each for each in declared_settings(asked_for)}
        environ = os.environ if environ is None else environ
        given = read_sources(declared, environ, config, overrides)
        settings = cls(features=asked_for, **{name: each.value for name, each in given.items()})
        vars(settings).update(given=given)
        return settings

    def __repr__(self) -> str:
        """Show every value that is no secret."""
        shown = (
            f"{each.name}={getattr(group, each.name)!r}"
            for group in self._groups.values()
            for each in dataclasses.fields(group)
            if each.repr
        )
        return f"Settings({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        """Return whether other settings have the same features and the same values."""
        return isinstance(other, Settings) and self._compared() == other._compared()

    def __hash__(self) -> int:
        """Return the hash of the values."""
        return hash(self._compared())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: settings do not change while the service runs."""
        raise dataclasses.FrozenInstanceError(f"cannot assign to {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse: settings do not change while the service runs."""
        raise dataclasses.FrozenInstanceError(f"cannot delete {name!r}")

    def _compared(self) -> tuple[object, ...]:
        return self.features, *self._groups.values()

    if not TYPE_CHECKING:  # typed code reads groups

        def __getattr__(self, name: str) -> object:
            """Return the value of a name, or a property, of any group."""
            for group in vars(self).get("_groups", {}).values():
                if hasattr(group, name):
                    return getattr(group, name)
            raise AttributeError(f"Settings has no {name!r}")


def declared_settings(
    features: Iterable[str | ModuleType] = DEFAULT,
) -> list[dataclasses.Field[Any]]:
    """Return the declaration of every setting of a service with these features."""
    return list(every_setting(load(features)).values())


def require_settings(settings: object) -> None:
    """Raise TypeError for what an application passes in the place of settings."""
    if isinstance(settings, Settings):
        return
    advice = "make them by Settings(name=value)"
    if callable(settings):
        advice = "call it, as in Settings.from_env()"
    elif isinstance(settings, Mapping):
        advice = "write Settings(**values), or Settings.from_env(environ) for AUTHAPI_… names"
    raise TypeError(f"authapi takes Settings, not {type(settings).__name__}: {advice}")
