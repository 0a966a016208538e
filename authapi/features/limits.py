"""Limits: budgets of tries, kept in the database, so that no restart and no other worker forgets.

Endpoints: none of its own. Table: limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import falcon

from authapi.core import Core
from authapi.database import Database
from authapi.errors import Overloaded, TooManyFailures, TooManyRequests, Unavailable
from authapi.events import Event, LoggedIn, PasswordChanged, Reauthenticated, UserDeleted
from authapi.hosts import network_of
from authapi.identifiers import name_key
from authapi.setting import Rate

REQUIRES: tuple[str, ...] = ()

SECOND = 1_000_000  # microseconds
KEPT_FOR = 90 * 86_400 * SECOND  # that failures in a row are remembered, unless locked out
PRUNED_AT_ONCE = 100  # rows


@dataclass(frozen=True, slots=True)
class Limit:
    """So many tries at once and as many again in a window, by GCRA (ITU-T I.371).

    `in_a_row` is the number of tries without a success after which there are no more.
    """

    name: str
    rate: Rate
    in_a_row: int | None = None

    @property
    def window(self) -> int:
        """Microseconds in which an empty budget becomes full."""
        return self.rate.seconds * SECOND

    @property
    def interval(self) -> int:
        """Microseconds in which one try comes back."""
        return self.window // self.rate.tries

    def wait(self, full_at: int, now: int) -> int:
        """Microseconds until there is a try, of a budget that is full at a time; 0 for none.

        One that would be full only long after the window is of a window that was longer, or of a
        clock that was set back by more than an interval: it is full.
        """
        wait = full_at + self.interval - now - self.window
        return max(0, wait) if wait <= 2 * self.interval else 0

    @property
    def kept_for(self) -> int:
        """Microseconds for which a row says anything."""
        return self.window if self.in_a_row is None else KEPT_FOR


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget that a limit gives one account, network, user or device."""

    limit: Limit
    subject: str

    @property
    def key(self) -> str:
        """The row's."""
        return f"{self.limit.name}:{self.subject}"


class LimitRepository:
    """The limits table. All but `state` is for inside a transaction; times are microseconds."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._statements = database.statements("limits")

    def state(self, budget: Budget, now: int) -> tuple[int, int]:
        """When the budget is full again, and the tries in a row."""
        limit = budget.limit
        row = self._statements.state(
            key=budget.key, now=now, interval=limit.interval, kept_for=limit.kept_for
        )
        return row or (0, 0)

    def take(self, budget: Budget, now: int) -> int | None:
        """Take a try; give the tries in a row, or None where there is none left."""
        limit = budget.limit
        row = self._statements.take(
            key=budget.key,
            now=now,
            interval=limit.interval,
            window=limit.window,
            in_a_row=limit.in_a_row,
            kept_for=limit.kept_for,
        )
        return row and int(row[0])

    def give_back(self, budget: Budget, now: int) -> None:
        """Give a try back that was none."""
        limit = budget.limit
        self._statements.give_back(
            key=budget.key, now=now, interval=limit.interval, kept_for=limit.kept_for
        )

    def clear(self, budget: Budget) -> bool:
        """Make a budget full, with no tries in a row; False where nothing was missing."""
        return bool(self._statements.clear(key=budget.key))

    def prune(self, now: int) -> None:
        """Delete rows that say nothing any more, the oldest first."""
        self._statements.prune(now=now, at_most=PRUNED_AT_ONCE)


class Limits:
    """Says how often something may be tried, as the settings have it.

    A try is taken from its budgets before anything is checked, so that many at once do not get
    more than one after the other would.
    """

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._rows = LimitRepository(core.database)
        settings = core.settings
        self._enabled = settings.rate_limits == "on"
        lockout = settings.login_lockout
        account = Rate.parse(settings.login_account_limit)
        self._account = Limit("login-account", account, lockout)
        self._device = Limit("login-device", account, lockout)
        self._known = Limit("login-known", account)
        self._network = Limit("login-network", Rate.parse(settings.login_network_limit))
        self._registration = Limit("registration", Rate.parse(settings.registration_limit))
        self._password = Limit("password", Rate.parse(settings.password_limit), lockout)

    def account(self, identifier: str, user_id: int | None) -> Budget:
        """Of logins with a name; a username and an email of one user have one each.

        SECURITY: so nothing tells that two names are one user's, and a name that is nobody's is
        limited as any other. That one's row holds a keyed digest: people type passwords into the
        wrong field.
        """
        kind, key = name_key(identifier)
        digest = self._core.tokens.digest(key)  # of known names too: it takes its time
        return Budget(self._account, f"{user_id or digest}:{kind}")

    def accounts(self, user_id: int) -> list[Budget]:
        """Of logins with the username of a user, and with the email; they stay in a rename."""
        return [Budget(self._account, f"{user_id}:{name}") for name in ("username", "email")]

    def device(self, device_id: str) -> Budget:
        """Of logins from a browser that its user has logged in with before."""
        return Budget(self._device, device_id)

    def network(self, address: str) -> Budget:
        """Of passwords given in one network."""
        return Budget(self._network, network_of(address))

    def network_of_known(self, address: str, user_id: int) -> Budget:
        """Of passwords given in one network by who is known as a user.

        Where the network has no try left it is the user's own, which nobody else can use up.
        """
        network = self.network(address)
        return network if self.has_try(network) else Budget(self._known, str(user_id))

    def registration(self, address: str) -> Budget:
        """Of names asked for in one network: registrations and renames."""
        return Budget(self._registration, network_of(address))

    def password(self, user_id: int) -> Budget:
        """Of passwords given in a user's sessions."""
        return Budget(self._password, str(user_id))

    @contextmanager
    def trying(self, *budgets: Budget) -> Iterator[bool]:
        """Take a try of each budget for the block, which is given whether it is the last in a row.

        Given back where the block could not tell: the hash lane is full, or the database fails.
        Raises TooManyRequests, having taken none.
        """
        if not self._enabled:
            yield False
            return
        for budget in budgets:  # first without a turn at writing, which a flood could use up
            self._require(budget)
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
        most = budget.limit.in_a_row
        return most is not None and self._state(budget)[1] >= most

    def has_try(self, budget: Budget) -> bool:
        """Whether `trying` would find a try now."""
        try:
            self._require(budget)
        except TooManyRequests:
            return False
        return True

    def clear(self, *budgets: Budget) -> bool:
        """Forget failures, inside a transaction, after a success; False where there were none."""
        return sum(self._rows.clear(budget) for budget in budgets) > 0

    def _take(self, budget: Budget) -> int:
        now = self._now()
        tries = self._rows.take(budget, now)
        if tries is None:  # another took the last one meanwhile
            raise _refusal(budget.limit, *self._state(budget), now)
        return tries

    def _require(self, budget: Budget) -> None:
        now, most = self._now(), budget.limit.in_a_row
        full_at, tries = self._state(budget)
        if budget.limit.wait(full_at, now) > 0 or (most is not None and tries >= most):
            raise _refusal(budget.limit, full_at, tries, now)

    def _state(self, budget: Budget) -> tuple[int, int]:
        return self._rows.state(budget, self._now())

    def _now(self) -> int:
        return int(self._core.clock() * SECOND)


def _refusal(limit: Limit, full_at: int, tries: int, now: int) -> TooManyRequests:
    """The answer to a try where a budget has none left."""
    if limit.in_a_row is not None and tries >= limit.in_a_row:
        return TooManyFailures(limit.name, limit.in_a_row)
    retry_after = -(-limit.wait(full_at, now) // SECOND)
    return TooManyRequests(limit.name, limit.rate.tries, limit.rate.seconds, retry_after)


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Forget the wrong passwords of a user who gave the right one, or is gone."""
    limits = Limits(core)

    def forget(event: Event) -> None:
        if event.user_id is not None:
            limits.clear(limits.password(event.user_id))
            if isinstance(event, LoggedIn | UserDeleted):
                limits.clear(*limits.accounts(event.user_id))

    for kind in (LoggedIn, Reauthenticated, PasswordChanged, UserDeleted):
        core.events.subscribe(forget, kind)
