"""The features: each is one module with `REQUIRES` and `setup(app, core)`."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

DEFAULT = (
    "audit",  # first, so that it keeps what other subscribers do in their order
    "users",
    "limits",
    "lockout",
    "accounts",
    "devices",
    "sessions",
    "session_list",
    "registration",
    "login",
    "reauthentication",
    "password_change",
    "forward_auth",
)


def load(names: Iterable[str]) -> list[ModuleType]:
    """The modules of these features, each once, and what it requires before it.

    Raises ModuleNotFoundError for a feature that is not there.
    """
    loaded: dict[str, ModuleType] = {}

    def visit(name: str) -> None:
        if name not in loaded:
            module = import_module(f"{__name__}.{name}")
            for required in module.REQUIRES:
                visit(required)
            loaded[name] = module

    for name in names:
        visit(name)
    return list(loaded.values())
