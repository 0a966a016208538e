"""Lockout: how often passwords may be tried, and for how many failures in a row.

Endpoints: none. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import falcon

from authapi.budgets import Budget
from authapi.core import Core
from authapi.events import Event
from authapi.features.limits import Limits
from authapi.features.sessions import LoggedIn, Reauthenticated
from authapi.features.users import PasswordChanged, UserDeleted
from authapi.identifiers import name_key
from authapi.personal_data import PersonalData
from authapi.principal import User
from authapi.settings import SettingsGroup, setting

REQUIRES = ("limits", "sessions", "users")

ADVICE = "Log in with a browser that you have logged in with before, or ask the operator."


@dataclass(frozen=True, kw_only=True)
class LoginLimits(SettingsGroup):
    """The limits of passwords that are tried."""

    login_account_limit: str = setting("10/hour", "Failed logins in a row for one name.", rate=True)
    login_network_limit: str = setting(
        "300/hour",
        "Logins from one network: an IPv4 address or an IPv6 /64; a /56 has twice as many, a "
        "/48 four times.",
        rate=True,
    )
    login_lockout: int = setting(
        100,
        "Failed logins in a row after which only known browsers can log in with a name.",
        low=1,
        high=1_000_000,
    )
    password_limit: str = setting(
        "10/hour", "Wrong passwords in a row in one user's sessions.", rate=True
    )


class LoginFailed(Event):
    """A proof, such as a password, was refused at a login or in a session.

    `detail` is `wrong_password`, `unknown_name`, `disabled`, `unusable_hash` (the stored one), or
    `outdated_credential`: the password or the user changed while it was checked.
    """

    __slots__ = ()


class LockedOut(Event):
    """A name, a browser or a user's sessions had too many wrong passwords in a row."""

    __slots__ = ()


class Unlocked(Event):
    """An operator cleared failed logins."""

    __slots__ = ()


class LoginBudgets:
    """The budgets from which logins, and passwords given in sessions, take their tries."""

    def __init__(self, core: Core) -> None:
        """Declare the limits."""
        self._core = core
        self._limits = limits = core.of(Limits)
        settings = core.settings.of(LoginLimits)
        account, password = settings.login_account_limit, settings.password_limit
        declare = partial(limits.declare, in_a_row=settings.login_lockout, advice=ADVICE)
        self._account = declare("login-account", account)
        self._device = declare("login-device", account)
        self._password = declare("password", password)
        self._known = limits.declare("login-known", account)
        self._network = limits.declare_by_network("login-network", settings.login_network_limit)
        self._added: list[Callable[[str, int | None], list[Budget]]] = []

    def add(self, budgets: Callable[[str, int | None], list[Budget]]) -> None:
        """Let an operator clear more budgets: those that `budgets` returns, as `of_name` does."""
        self._added.append(budgets)

    def of_name(self, name: str, user_id: int | None) -> list[Budget]:
        """Return the budgets that an operator clears: a user's, or those of a name of nobody.

        `name` is the email of a user.
        """
        if user_id is None:
            own = [self.account(name, None)]
        else:
            own = [*self.accounts(user_id), self.password(user_id)]
        return [*own, *(each for budgets in self._added for each in budgets(name, user_id))]

    def account(self, identifier: str, user_id: int | None) -> Budget:
        """Return the budget of logins with a name. A user's username and email have one each.

        SECURITY: with one budget a name, nothing tells that two names are one user's, and a name of
        no user is limited like any other. Its key is a keyed digest, because people type passwords
        into the wrong field.
        """
        kind, key = name_key(identifier)
        root = self._core.root
        # SECURITY: it is derived for known names too, so that both take the same time.
        digest = root.derive(root.newest, "limit", key).hex()
        return self._account.of(f"{user_id or digest}:{kind}")

    def accounts(self, user_id: int) -> list[Budget]:
        """Return the budgets of a user's username and email, which a rename does not change."""
        return [self._account.of(f"{user_id}:{name}") for name in ("username", "email")]

    def device(self, device_id: str) -> Budget:
        """Return the budget of logins from a browser that its user has logged in with before."""
        return self._device.of(device_id)

    def networks(self, address: str) -> list[Budget]:
        """Return the budgets of passwords given in the networks of an address."""
        return self._network.of(address)

    def networks_of_known(self, address: str, user_id: int) -> list[Budget]:
        """Return the budgets of a password that a known user gives in the networks of an address.

        If a network has no try left, it is the user's own budget, which nobody else can use up.
        """
        networks = self.networks(address)
        return networks if self._limits.have_tries(*networks) else [self._known.of(str(user_id))]

    def password(self, user_id: int) -> Budget:
        """Return the budget of passwords given in a user's sessions."""
        return self._password.of(str(user_id))

    def clear(self, event: Event) -> None:
        """Clear the failures of a user who gave the right password, or is gone."""
        if event.user_id is not None:
            by_name = isinstance(event, LoggedIn | UserDeleted)
            names = self.accounts(event.user_id) if by_name else ()
            known = [self._known.of(str(event.user_id))] if isinstance(event, UserDeleted) else ()
            self._limits.clear(*names, *known, self.password(event.user_id))

    def kept(self, user_id: int) -> dict[str, int]:
        """Return the failures in a row that are counted for a user, by what they were tried with.

        SECURITY: those of a network or a browser are in no row that names the user.
        """
        counted = [*self.accounts(user_id), self.password(user_id), self._known.of(str(user_id))]
        names = ("username", "email", "password_in_a_session", "networks_without_tries")
        return dict(zip(names, self._limits.tries(*counted), strict=True))


def _kept(core: Core, user: User) -> dict[str, int]:
    return core.of(LoginBudgets).kept(user.id)


PERSONAL_DATA = (PersonalData("failures_in_a_row", ("limits",), _kept),)


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Clear the failures of users who gave the right password, or are gone."""
    budgets = core.of(LoginBudgets)
    for kind in (LoggedIn, Reauthenticated, PasswordChanged, UserDeleted):
        core.events.subscribe(budgets.clear, kind)
