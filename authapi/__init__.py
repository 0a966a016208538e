"""authapi: a small, fast, self-hosted authentication service.

Run it
    `authapi serve` runs the service by itself. `create_app(Settings.from_env())` returns the same
    service as a Falcon application, a WSGI application to serve or to add resources to.

Embed it
    mount(app, settings)           adds its routes and its protection to your Falcon application
    protect(app, settings)         tells any WSGI application which user sends a request
    protect_asgi(app, settings)    tells any ASGI application, in requests and websockets

    Below, `auth` is what `create_app` and `mount` return, and the attribute of that name of what
    `protect` and `protect_asgi` return. Call `close()` when no request is running any more.

Know who sends a request
    principal_of(req).user         in a Falcon resource; also req.context.user
    environ["authapi.user"]        in WSGI; with "authapi.session"
    scope["authapi.user"]          in ASGI; with "authapi.session"
    await app.is_live(session)     in a websocket that stays open; `app` is of `protect_asgi`

    A Falcon resource needs a session unless it says `public = True`. It asks for more with
    `needs = (fresh,)`, or `strong`, `verified`, or a function of your own.

Look after users
    auth.users.get(7), .find("anna")             an Account, or None
    auth.users.list(search="an", disabled=False) yields Accounts, however many, 500 a statement
    auth.users.create("anna", "anna@example.com", "a long password")
    auth.users.rename(7, "anne"), .set_password(7, "another password")
    auth.users.disable(7), .enable(7), .delete(7)

    They raise RefusedValue, UsernameTaken, EmailTaken or NoSuchUser, and Overloaded or Unavailable
    where a later try may succeed. `str(error)` is a sentence for a person.

Hear what happens
    def greet(event: Registered) -> None: ...
    auth.core.events.subscribe(greet, Registered)

    `subscribe(function)` gets every event: each class below that is an Event. `event.name` is
    "registered", and `auth.users.get(event.user_id)` the user. The function runs in the transaction
    of the change: it reads, but changes no user, and undoes the change if it raises. Pass what may
    wait, such as a mail, to `auth.core.database.after_commit(function)`.

Each by itself
    help(authapi.Users), help(authapi.create_app), help(authapi.Settings)

Errors
    A Failure is an answer to a client: raise one in a Falcon resource. StartError and SettingError
    say in one sentence why the service cannot start.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authapi.app import AuthAPI, create_app
    from authapi.asgi import ProtectedASGI, protect_asgi
    from authapi.embed import Protected, mount, protect
    from authapi.errors import Failure, Overloaded, StartError, Unavailable
    from authapi.events import Caller, Event, Restored
    from authapi.features.claims import AccountClaimed
    from authapi.features.email_change import EmailChanged, EmailChangeRequested
    from authapi.features.email_undo import EmailRestored, EmailWithdrawn
    from authapi.features.email_verification import EmailVerified
    from authapi.features.lockout import LockedOut, LoginFailed, Unlocked
    from authapi.features.mail import MailFailed
    from authapi.features.mail_login import MailLoginRequested
    from authapi.features.password_reset import PasswordResetRequested
    from authapi.features.pending_registrations import RegistrationRequested
    from authapi.features.registration import Registered
    from authapi.features.renewal import SessionRenewed
    from authapi.features.security_notices import AccountLocked
    from authapi.features.sessions import (
        LoggedIn,
        LoggedOut,
        Reauthenticated,
        SessionRevoked,
    )
    from authapi.features.user_management import (
        NoSuchUser,
        RefusedValue,
        UserAdded,
        UserDisabled,
        UserEnabled,
        Users,
    )
    from authapi.features.users import (
        CredentialsChanged,
        EmailTaken,
        PasswordChanged,
        UserDeleted,
        UsernameTaken,
        UserRenamed,
    )
    from authapi.principal import (
        Account,
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
    "Account",
    "AccountClaimed",
    "AccountLocked",
    "AuthAPI",
    "Caller",
    "CredentialsChanged",
    "EmailChangeRequested",
    "EmailChanged",
    "EmailRestored",
    "EmailTaken",
    "EmailVerified",
    "EmailWithdrawn",
    "Event",
    "Failure",
    "LockedOut",
    "LoggedIn",
    "LoggedOut",
    "LoginFailed",
    "MailFailed",
    "MailLoginRequested",
    "NoSuchUser",
    "Overloaded",
    "PasswordChanged",
    "PasswordResetRequested",
    "Principal",
    "Protected",
    "ProtectedASGI",
    "Reauthenticated",
    "RefusedValue",
    "Registered",
    "RegistrationRequested",
    "Restored",
    "Session",
    "SessionRenewed",
    "SessionRevoked",
    "SettingError",
    "Settings",
    "StartError",
    "Unavailable",
    "Unlocked",
    "User",
    "UserAdded",
    "UserDeleted",
    "UserDisabled",
    "UserEnabled",
    "UserRenamed",
    "UsernameTaken",
    "Users",
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
        "errors": "Failure Overloaded StartError Unavailable",
        "events": "Caller Event Restored",
        "features.claims": "AccountClaimed",
        "features.email_change": "EmailChangeRequested EmailChanged",
        "features.email_undo": "EmailRestored EmailWithdrawn",
        "features.email_verification": "EmailVerified",
        "features.lockout": "LockedOut LoginFailed Unlocked",
        "features.mail": "MailFailed",
        "features.mail_login": "MailLoginRequested",
        "features.password_reset": "PasswordResetRequested",
        "features.pending_registrations": "RegistrationRequested",
        "features.registration": "Registered",
        "features.renewal": "SessionRenewed",
        "features.security_notices": "AccountLocked",
        "features.sessions": "LoggedIn LoggedOut Reauthenticated SessionRevoked",
        "features.user_management": "NoSuchUser RefusedValue UserAdded UserDisabled UserEnabled "
        "Users",
        "features.users": "CredentialsChanged EmailTaken PasswordChanged UserDeleted UserRenamed "
        "UsernameTaken",
        "principal": "Account Principal Session User fresh principal_of strong verified",
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
