"""Features: what a feature module may declare, and the loader.

A feature is one module. It has `setup` or `COMMANDS`; all other names may be left out:

REQUIRES       the features that it builds on, which are loaded before it
ENABLED_BY     the setting of its own that turns it on: without a value, the feature is off
COMMANDS       its operator commands: `authapi.commands.Command`
JOBS           what is due without a request: `authapi.jobs.Job`
PERSONAL_DATA  what it keeps of a user: `authapi.personal_data.PersonalData`
setup          setup(app, core) adds its routes, subscriptions and steps

Its settings groups, failures, events, limits, cookies and token types stand in the same module.
NOTE: every listed module is imported at each start. What needs an optional library is imported in
`setup`, which runs only where the feature is on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authapi.app import AuthAPI
    from authapi.commands import Command
    from authapi.core import Core
    from authapi.jobs import Job
    from authapi.personal_data import PersonalData

PACKAGE = "authapi.features"


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature module, with what it declares."""

    module: ModuleType
    requires: tuple[Feature, ...]
    enabled_by: str
    commands: tuple[Command, ...]
    jobs: tuple[Job, ...]
    personal_data: tuple[PersonalData, ...]
    setup: Callable[[AuthAPI, Core], None]

    def __hash__(self) -> int:
        """Return the hash of the module, without those of everything that it declares."""
        return hash(self.module)

    @property
    def name(self) -> str:
        """Return the module's name without its package: `login`."""
        return self.module.__name__.rpartition(".")[2]

    @classmethod
    def of(cls, module: ModuleType, requires: tuple[Feature, ...]) -> Feature:
        """Return what a module declares. Raises TypeError without `setup` and `COMMANDS`."""
        declared = vars(module)
        if not callable(declared.get("setup")) and "COMMANDS" not in declared:
            raise TypeError(f"{module.__name__} is not a feature: it has no setup(app, core)")
        return cls(
            module=module,
            requires=requires,
            enabled_by=declared.get("ENABLED_BY", ""),
            commands=tuple(declared.get("COMMANDS", ())),
            jobs=tuple(declared.get("JOBS", ())),
            personal_data=tuple(declared.get("PERSONAL_DATA", ())),
            setup=declared.get("setup", _set_nothing_up),
        )


def _set_nothing_up(_app: AuthAPI, _core: Core) -> None:
    """Do nothing: the feature has commands alone."""


@cache
def _imported(name: str) -> ModuleType:
    return import_module(f"{PACKAGE}.{name}")


def load(names: Iterable[str | ModuleType]) -> list[Feature]:
    """Return these features, each once, with the features that it requires before it.

    A feature is named by its module in `authapi.features`, or is a module of your own. Raises
    ModuleNotFoundError for a name without a module, TypeError for a module that is no feature.
    """
    loaded: dict[ModuleType, Feature] = {}

    def visit(name: str | ModuleType) -> Feature:
        module = _imported(name) if isinstance(name, str) else name
        if module not in loaded:
            requires = tuple(map(visit, getattr(module, "REQUIRES", ())))
            loaded[module] = Feature.of(module, requires)
        return loaded[module]

    for name in names:
        visit(name)
    return list(loaded.values())
