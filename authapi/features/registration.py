"""Registration: a new account, logged in at once.

Endpoints: POST /register. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Self

import falcon
import msgspec

from authapi.answers import SignedInAnswer
from authapi.body_fields import Email, NewPassword, Username
from authapi.budgets import Budget, TooManyRequests
from authapi.core import Core
from authapi.errors import Failure, Overloaded, ValidationFailed
from authapi.events import Event
from authapi.features.limits import Limits
from authapi.features.sign_in import PASSWORD, Proof, SignIn
from authapi.features.users import Credential, EmailTaken, UsernameTaken, UserRepository
from authapi.identifiers import email_fault
from authapi.identifiers.usernames import RESERVED, UsernamePolicy, fault
from authapi.metrics import Counter
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.principal import User
from authapi.settings import Settings, SettingsGroup, refused, setting
from authapi.validation import Fields, broken

REQUIRES = ("limits", "sign_in", "users")

REGISTER = "/register"


class RegistrationClosed(Failure):
    """Raised when registration is closed."""

    status, error, message = 403, "registration_closed", "Registration is closed."


class Registered(Event):
    """A user registered."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class RegistrationSettings(SettingsGroup):
    """The rules of registration: for whom it is open, how often, and by which names."""

    registration: str = setting(
        "open", "Who may register: open (anyone) or closed (nobody).", choices=("open", "closed")
    )
    registration_limit: str = setting("20/hour", "Registrations from one network.", rate=True)
    reserved_usernames: str = setting(
        RESERVED,
        "Usernames that nobody may take, separated by spaces; none reserves none.",
        items=True,
    )

    def completed(self, settings: Settings) -> Self:
        """Return the group. Raises SettingError for a reserved name that could be no username."""
        for name in self.reserved:
            if fault(name):
                raise refused("reserved_usernames", name, "usernames with a space between them")
        return super().completed(settings)

    @property
    def reserved(self) -> list[str]:
        """Return the reserved usernames."""
        names = self.reserved_usernames.split()
        return [] if names == ["none"] else names


class NewNames:
    """The rules for names that users ask for, at a registration or a rename."""

    def __init__(self, core: Core) -> None:
        """Take the rules from the settings."""
        settings = core.settings.of(RegistrationSettings)
        limits = core.of(Limits)
        self._limit = limits.declare_by_network("registration", settings.registration_limit)
        self.username_fault = UsernamePolicy(settings.reserved).fault
        self.are_open = settings.registration == "open"

    def require_open(self) -> None:
        """Raise RegistrationClosed, unless anybody may register."""
        if not self.are_open:
            raise RegistrationClosed

    def budgets(self, address: str) -> list[Budget]:
        """Return the budgets of names asked for in the networks of an address."""
        return self._limit.of(address)


class NewUsers:
    """Adds users who register, and calls what other features do for them."""

    def __init__(self, core: Core) -> None:
        """Take the core, and begin without actions."""
        self._sign_in = core.of(SignIn)
        self._actions: list[Callable[[falcon.Request, Credential], None]] = []
        self._succeeded = _counted(core)

    def follow(self, action: Callable[[falcon.Request, Credential], None]) -> None:
        """Call `action` in the transaction that adds a user, for each who registers."""
        self._actions.append(action)

    def log_in(
        self, req: falcon.Request, resp: falcon.Response, add: Callable[[], Credential]
    ) -> User:
        """Add a user by `add`, which is called inside a transaction, and open a session."""

        def prove() -> Proof:
            credential = add()
            for action in self._actions:
                action(req, credential)
            return Proof(credential=credential, methods=PASSWORD)

        user = self._sign_in.finish(req, resp, prove, event=Registered, always=True)
        self._succeeded.add()
        return user


class RegistrationBody(msgspec.Struct):
    """The names and the password of a new user."""

    username: Username
    email: Email
    password: NewPassword


class RegistrationResource:
    """Adds users."""

    public = True
    hashes = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._users = core.of(UserRepository)
        self._limits = core.of(Limits)
        self._names, self._new_users = core.of(NewNames), core.of(NewUsers)

    def known_users(self, _req: falcon.Request) -> tuple[str, ...]:
        """Return nobody: nobody who registers is known."""
        return ()

    def admit(self, req: falcon.Request, _users: Iterable[str]) -> None:
        """Raise RegistrationClosed, or TooManyRequests where the network has no try left."""
        self._names.require_open()
        self._limits.require(*self._names.budgets(caller_of(req).ip))

    def faults(self, _req: falcon.Request, fields: Fields) -> dict[str, str]:
        """Check the names, and the password, which must not be made of them."""
        rules = {"username": self._names.username_fault, "email": email_fault}
        faults = broken(rules, fields)
        names = [fields[name] for name in rules if name in fields and name not in faults]
        password_fault = partial(self._core.passwords.fault, names=names)
        return faults | broken({"password": password_fault}, fields)

    @operation(
        "Register a user, and log in.",
        name="register",
        answers=SignedInAnswer,
        status=201,
        body=RegistrationBody,
        rules=faults,
        raises=(RegistrationClosed, UsernameTaken, EmailTaken, TooManyRequests),
        headers={"Set-Cookie": "The session cookie, and the device cookie."},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: RegistrationBody) -> None:
        """Add the user, open a session, set the cookie."""
        core = self._core
        with self._limits.trying(*self._names.budgets(caller_of(req).ip)):
            self._users.require_free(body.username, body.email)
            password_hash = core.passwords.hash(body.password)
            add = partial(self._users.insert, body.username, body.email, password_hash)
            user = self._new_users.log_in(req, resp, add)
        core.wire.answer_signed_in(resp, 201, "User created.", user)


def _counted(core: Core) -> Counter:
    """Count registrations that fail, by why; return the counter of those that succeed."""

    def counter(outcome: str) -> Counter:
        text = "Registrations, by outcome."
        return core.metrics.counter("authapi_registrations_total", text, outcome=outcome)

    succeeded, refused = counter("ok"), counter("refused")
    failed: dict[type[Failure], Counter] = {
        RegistrationClosed: counter("closed"),
        TooManyRequests: counter("limited"),
        Overloaded: counter("overloaded"),
        UsernameTaken: refused,
        EmailTaken: refused,
        ValidationFailed: refused,
    }
    core.metrics.count_failures(REGISTER, failed)
    return succeeded


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route."""
    app.add_route(REGISTER, RegistrationResource(core))
