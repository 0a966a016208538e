"""authapi: a small, fast, self-hosted authentication service.

`create_app(Settings(...))` gives a Falcon application to serve, or to add resources to. `mount`
puts it into a Falcon application that is there already, and `protect` tells any WSGI application
whose session a request comes in.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authapi.app import AuthAPI, create_app
    from authapi.embed import Protected, mount, protect
    from authapi.errors import Failure, StartError
    from authapi.events import Event
    from authapi.principal import Principal, Session, User, fresh, principal_of
    from authapi.settings import SettingError, Settings

__all__ = [
    "AuthAPI",
    "Event",
    "Failure",
    "Principal",
    "Protected",
    "Session",
    "SettingError",
    "Settings",
    "StartError",
    "User",
    "create_app",
    "fresh",
    "mount",
    "principal_of",
    "protect",
]
__version__ = "0.2.0.dev0"

if not TYPE_CHECKING:
    # Each public name is imported at its first use: `authapi --help` does not load the service.
    _MODULES = {
        "AuthAPI": "app",
        "Event": "events",
        "Failure": "errors",
        "Principal": "principal",
        "Protected": "embed",
        "Session": "principal",
        "SettingError": "settings",
        "Settings": "settings",
        "StartError": "errors",
        "User": "principal",
        "create_app": "app",
        "fresh": "principal",
        "mount": "embed",
        "principal_of": "principal",
        "protect": "embed",
    }

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
