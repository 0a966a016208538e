"""authapi: a small, fast, self-hosted authentication service.

`create_app(Settings(...))` returns a Falcon application: serve it, or add your resources to it.
`mount` adds its routes to your own Falcon application; `protect` tells any WSGI application, and
`protect_asgi` any ASGI application, which user sends a request. `app.core.events.subscribe` calls a
function with each event, or with those of one class below.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authapi.app import AuthAPI, create_app
    from authapi.asgi import ProtectedASGI, protect_asgi
    from authapi.embed import Protected, mount, protect
    from authapi.errors import Failure, StartError
    from authapi.events import Caller, Event, Restored
    from authapi.features.email_verification import EmailVerified
    from authapi.features.lockout import LockedOut, LoginFailed, Unlocked
    from authapi.features.registration import Registered
    from authapi.features.renewal import SessionRenewed
    from authapi.features.sessions import (
        LoggedIn,
        LoggedOut,
        Reauthenticated,
        SessionRevoked,
    )
    from authapi.features.users import (
        CredentialsChanged,
        PasswordChanged,
        UserDeleted,
        UserRenamed,
    )
    from authapi.principal import (
        Principal,
        Session,
        User,
        fresh,
        principal_of,
        strong,
        verified,
    )
    from authapi.settings import SettingError, Settings

__all__ = [
    "AuthAPI",
    "Caller",
    "CredentialsChanged",
    "EmailVerified",
    "Event",
    "Failure",
    "LockedOut",
    "LoggedIn",
    "LoggedOut",
    "LoginFailed",
    "PasswordChanged",
    "Principal",
    "Protected",
    "ProtectedASGI",
    "Reauthenticated",
    "Registered",
    "Restored",
    "Session",
    "SessionRenewed",
    "SessionRevoked",
    "SettingError",
    "Settings",
    "StartError",
    "Unlocked",
    "User",
    "UserDeleted",
    "UserRenamed",
    "create_app",
    "fresh",
    "mount",
    "principal_of",
    "protect",
    "protect_asgi",
    "strong",
    "verified",
]
__version__ = "0.2.0.dev0"

if not TYPE_CHECKING:
    # Each public name is imported at its first use: `authapi --help` does not load the service.
    _NAMES = {
        "app": "AuthAPI create_app",
        "asgi": "ProtectedASGI protect_asgi",
        "embed": "Protected mount protect",
        "errors": "Failure StartError",
        "events": "Caller Event Restored",
        "features.email_verification": "EmailVerified",
        "features.lockout": "LockedOut LoginFailed Unlocked",
        "features.registration": "Registered",
        "features.renewal": "SessionRenewed",
        "features.sessions": "LoggedIn LoggedOut Reauthenticated SessionRevoked",
        "features.users": "CredentialsChanged PasswordChanged UserDeleted UserRenamed",
        "principal": "Principal Session User fresh principal_of strong verified",
        "settings": "SettingError Settings",
    }
    _MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
