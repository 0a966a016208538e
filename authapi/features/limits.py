"""Limits: how often something may be tried. No restart and no other worker forgets it.

Endpoints: none of its own. Table: limits, see `budgets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import falcon

from authapi.budgets import SECOND, Budget, BudgetRepository, Limit, TooManyRequests
from authapi.core import Core
from authapi.errors import Overloaded, Unavailable
from authapi.events import Event
from authapi.features.sessions import LoggedIn, Reauthenticated
from authapi.features.users import PasswordChanged, UserDeleted
from authapi.hosts import networks_of
from authapi.identifiers import name_key
from authapi.settings import Rate, SettingsGroup, setting

REQUIRES = ("users", "sessions")

WIDER = {"-56": 2, "-48": 4}  # IPv6: how many times the tries of a /64 a /56 and a /48 have


@dataclass(frozen=True, kw_only=True)
class RateLimits(SettingsGroup):
    """The switch of all limits."""

    rate_limits: str = setting("on", "Whether tries are limited: on or off.", choices=("on", "off"))


@dataclass(frozen=True, kw_only=True)
class LoginLimits(SettingsGroup):
    """How often passwords may be tried, and names registered."""

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
    registration_limit: str = setting("20/hour", "Registrations from one network.", rate=True)
    password_limit: str = setting(
        "10/hour", "Wrong passwords in a row in one user's sessions.", rate=True
    )


class Limits:
    """Says how often something may be tried, as the settings have it.

    A try is taken from its budgets before anything is checked, so that many at once do not get
    more than one after the other would.
    """

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._rows = BudgetRepository(core.database)
        self._enabled = core.settings.of(RateLimits).rate_limits == "on"
        settings = core.settings.of(LoginLimits)
        lockout = settings.login_lockout
        account = Rate.parse(settings.login_account_limit)
        self._account = Limit("login-account", account, lockout)
        self._device = Limit("login-device", account, lockout)
        self._known = Limit("login-known", account)
        self._network = _of_networks("login-network", Rate.parse(settings.login_network_limit))
        self._registration = _of_networks("registration", Rate.parse(settings.registration_limit))
        self._password = Limit("password", Rate.parse(settings.password_limit), lockout)

    def account(self, identifier: str, user_id: int | None) -> Budget:
        """The budget of logins with a name; a username and an email of one user have one each.

        SECURITY: so nothing tells that two names are one user's, and a name that is nobody's is
        limited as any other. Its row holds a keyed digest: people type passwords into the wrong
        field.
        """
        kind, key = name_key(identifier)
        root = self._core.root
        digest = root.derive(root.newest, "limit", key).hex()  # of known names too: it takes time
        return Budget(self._account, f"{user_id or digest}:{kind}")

    def accounts(self, user_id: int) -> list[Budget]:
        """The budgets of a user's username and email; they stay in a rename."""
        return [Budget(self._account, f"{user_id}:{name}") for name in ("username", "email")]

    def device(self, device_id: str) -> Budget:
        """The budget of logins from a browser that its user has logged in with before."""
        return Budget(self._device, device_id)

    def networks(self, address: str) -> list[Budget]:
        """The budgets of passwords given in the networks of an address."""
        return _budgets(self._network, address)

    def networks_of_known(self, address: str, user_id: int) -> list[Budget]:
        """The budgets of a password given in a network by somebody who is known as a user.

        Where a network has no try left it is the user's own, which nobody else can use up.
        """
        networks = self.networks(address)
        return networks if self.have_tries(*networks) else [Budget(self._known, str(user_id))]

    def registration(self, address: str) -> list[Budget]:
        """The budgets of names asked for in the networks of an address: registrations, renames."""
        return _budgets(self._registration, address)

    def password(self, user_id: int) -> Budget:
        """The budget of passwords given in a user's sessions."""
        return Budget(self._password, str(user_id))

    @contextmanager
    def trying(self, *budgets: Budget) -> Iterator[bool]:
        """Take a try of each budget for the block, which is given whether it is the last in a row.

        The tries are given back where the block could not tell: the hash lane is full, or the
        database fails. Raises TooManyRequests, having taken none.
        """
        if not self._enabled:
            yield False
            return
        self.require(*budgets)  # first without a turn at writing, which a flood could use up
        with self._core.database.transaction():
            counts = {budget: self._take(budget) for budget in budgets}
            self._rows.prune(self._now())
        try:
            yield any(count == budget.limit.in_a_row for budget, count in counts.items())
        except (Overloaded, Unavailable) as failure:
            patience = 0 if isinstance(failure, Unavailable) else None  # it has waited already
            with suppress(Unavailable), self._core.database.transaction(patience):
                for budget in budgets:
                    self._rows.give_back(budget, self._now())
            raise

    def is_spent(self, budget: Budget) -> bool:
        """Whether there have been too many tries in a row."""
        return budget.limit.is_spent(self._state(budget)[1])

    def have_tries(self, *budgets: Budget) -> bool:
        """Whether `trying` would find a try of each budget now."""
        try:
            self.require(*budgets)
        except TooManyRequests:
            return False
        return True

    def require(self, *budgets: Budget) -> None:
        """Raise TooManyRequests where `trying` would now. It only reads."""
        for budget in budgets if self._enabled else ():
            now, limit = self._now(), budget.limit
            full_at, tries = self._state(budget)
            if limit.wait(full_at, now) > 0 or limit.is_spent(tries):
                raise limit.refusal(full_at, tries, now)

    def clear(self, *budgets: Budget) -> bool:
        """Forget failures, inside a transaction, after a success; False where there were none."""
        return sum(self._rows.clear(budget) for budget in budgets) > 0

    def _take(self, budget: Budget) -> int:
        now = self._now()
        tries = self._rows.take(budget, now)
        if tries is None:  # another took the last one meanwhile
            raise budget.limit.refusal(*self._state(budget), now)
        return tries

    def _state(self, budget: Budget) -> tuple[int, int]:
        return self._rows.state(budget, self._now())

    def _now(self) -> int:
        return int(self._core.clock() * SECOND)


def _of_networks(name: str, rate: Rate) -> list[Limit]:
    """The limits of an address and an IPv6 /64, of a /56, and of a /48.

    SECURITY: some providers give a client 65,536 networks of /64.
    """
    wider = [Limit(name + at, Rate(rate.tries * by, rate.seconds)) for at, by in WIDER.items()]
    return [Limit(name, rate), *wider]


def _budgets(limits: list[Limit], address: str) -> list[Budget]:
    return [Budget(*each) for each in zip(limits, networks_of(address), strict=False)]


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Forget the wrong passwords of a user who gave the right one, or is gone."""
    limits = core.of(Limits)

    def forget(event: Event) -> None:
        if event.user_id is not None:
            limits.clear(limits.password(event.user_id))
            if isinstance(event, LoggedIn | UserDeleted):
                limits.clear(*limits.accounts(event.user_id))

    for kind in (LoggedIn, Reauthenticated, PasswordChanged, UserDeleted):
        core.events.subscribe(forget, kind)
