"""The list of settings: the groups of the core, and those that features declare."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cache
from types import ModuleType
from typing import Any

from authapi.feature import Feature
from authapi.settings.database import DatabaseSettings
from authapi.settings.group import SettingError, SettingsGroup, Value, variable
from authapi.settings.keys import KeySettings
from authapi.settings.observation import ObservationSettings
from authapi.settings.passwords import PasswordSettings
from authapi.settings.server import ServerSettings
from authapi.settings.sessions import SessionSettings
from authapi.settings.workers import WorkerSettings

CORE: tuple[type[SettingsGroup], ...] = (
    ServerSettings,
    ObservationSettings,
    DatabaseSettings,
    KeySettings,
    SessionSettings,
    PasswordSettings,
    WorkerSettings,
)


def groups_of(feature: Feature) -> tuple[type[SettingsGroup], ...]:
    """Return the groups that stand in a feature's module."""
    return _groups_in(feature.module)


@cache
def _groups_in(module: ModuleType) -> tuple[type[SettingsGroup], ...]:
    return tuple(
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, SettingsGroup)
        and each.__module__ == module.__name__
    )


def every_group(features: Iterable[Feature]) -> list[type[SettingsGroup]]:
    """Return the groups of the core, then those of the features."""
    return [*CORE, *(group for feature in features for group in groups_of(feature))]


def every_setting(features: Iterable[Feature]) -> dict[str, dataclasses.Field[Any]]:
    """Return each setting by its name. Raises TypeError for a name that is declared twice."""
    declared: dict[str, dataclasses.Field[Any]] = {}
    for group in every_group(features):
        for each in dataclasses.fields(group):
            if each.name in declared:
                raise TypeError(f"{group.__name__} declares {variable(each.name)}, which is taken")
            declared[each.name] = each
    return declared


def switched_off(features: Iterable[Feature], values: Mapping[str, Value]) -> dict[Feature, str]:
    """Return the features that are off, each with the setting that turns it on.

    A feature is off without a value for the setting that its ENABLED_BY names, and where a feature
    that it requires is off. `features` has what is required first. Raises TypeError for an
    ENABLED_BY that names no setting of the feature.
    """
    off: dict[Feature, str] = {}
    for feature in features:
        own = {each.name for group in groups_of(feature) for each in dataclasses.fields(group)}
        if feature.enabled_by not in {"", *own}:
            raise TypeError(f"ENABLED_BY of {feature.name} names no setting of its own")
        if feature.enabled_by and not values[feature.enabled_by]:
            off[feature] = feature.enabled_by
        for required in feature.requires:
            if required in off:
                off.setdefault(feature, off[required])
    return off


def refuse_settings_of(off: Mapping[Feature, str], given: Mapping[str, Value]) -> None:
    """Raise SettingError for the setting of a feature that is off, unless it has its default."""
    for feature, needed in off.items():
        for group in groups_of(feature):
            for each in dataclasses.fields(group):
                used = given.get(each.name, each.default)
                if used not in {"", each.default} and each.name != feature.enabled_by:
                    raise SettingError(
                        f"{variable(each.name)} is a setting of the feature {feature.name}, which "
                        f"is off: set {variable(needed)} to turn it on, or unset the former."
                    )
