"""Limits: how often something may be tried. The counts are in the database.

Endpoints: none. Table: limits (its rows are in `budgets`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

import falcon

from authapi.budgets import SECOND, Budget, BudgetRepository, Limit, NetworkLimit, TooManyRequests
from authapi.core import Core
from authapi.errors import Failure, Overloaded, Unavailable
from authapi.jobs import pruning
from authapi.metrics import Counter
from authapi.settings import Rate, SettingsGroup, setting

REQUIRES: tuple[str, ...] = ()

PRUNED_EVERY = 60  # seconds


@dataclass(frozen=True, kw_only=True)
class RateLimits(SettingsGroup):
    """The switch of all limits."""

    rate_limits: str = setting("on", "Whether tries are limited: on or off.", choices=("on", "off"))


class Limits:
    """Counts tries, and refuses those over a limit.

    A try is taken from its budgets before anything is checked, so that many requests at once get
    no more tries than one after the other would.
    """

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._rows = BudgetRepository(core.database)
        self._enabled = core.settings.of(RateLimits).rate_limits == "on"
        self._refused: dict[str, Counter] = {}  # by limit
        core.metrics.watch_failures(self._count)

    def declare(
        self, name: str, rate: str, *, in_a_row: int | None = None, advice: str = ""
    ) -> Limit:
        """Return a new limit, which gives each subject a number of tries such as `10/hour`.

        `in_a_row` is the number of tries without a success after which there are no more, however
        long one waits; `advice` is a sentence that tells the client what to do then. The name is in
        answers, in the log and in the keys of rows. Raises ValueError for a name that is taken.
        """
        self._require_new(name)
        return Limit(name, Rate.parse(rate), in_a_row, advice)

    def declare_by_network(self, name: str, rate: str) -> NetworkLimit:
        """Return a new limit of the networks of addresses. Raises ValueError, as `declare`."""
        declared = NetworkLimit.named(name, Rate.parse(rate))
        for limit in declared.limits:
            self._require_new(limit.name)
        return declared

    def _require_new(self, name: str) -> None:
        if name in self._refused:
            raise ValueError(f"the limit {name} is declared already")
        text = "Requests that a limit refused, by limit."
        self._refused[name] = self._core.metrics.counter("authapi_limited_total", text, limit=name)

    def _count(self, _route: str, failure: Failure) -> None:
        if isinstance(failure, TooManyRequests):
            self._refused[failure.limit].add()

    @contextmanager
    def trying(self, *budgets: Budget) -> Iterator[bool]:
        """Take a try of each budget for the block, and give it whether that was the last in a row.

        If the block raises Overloaded or Unavailable, the tries are given back. Inside a
        transaction, call `take` instead. Raises TooManyRequests, having taken none.
        """
        self.require(*budgets)  # SECURITY: it only reads, so a flood does not fill the writer lock
        # SECURITY: a session, and the event of a refused proof, are kept at once, and these tries
        # with them. So a crash of the database gives back no try whose proof was answered.
        change = self._core.database.transaction
        with change(at_once=False) if self._enabled else nullcontext():
            is_last = self.take(*budgets)
        try:
            yield is_last
        except (Overloaded, Unavailable) as failure:
            patience = 0 if isinstance(failure, Unavailable) else None  # it has waited already
            with suppress(Unavailable):
                self._give_back(budgets, patience)
            raise

    def take(self, *budgets: Budget) -> bool:
        """Take a try of each budget, inside a transaction; return whether it is the last in a row.

        The tries are kept or lost with the rest of the transaction. Raises TooManyRequests.
        """
        if not self._enabled:
            return False
        now, is_last = self._now(), False
        for budget, tries in zip(budgets, self._rows.take(budgets, now), strict=True):
            if tries is None:  # another took the last one meanwhile
                raise budget.limit.refusal(*self._state(budget), now)
            is_last = is_last or tries == budget.limit.in_a_row
        return is_last

    def is_spent(self, budget: Budget) -> bool:
        """Return whether there have been too many tries in a row."""
        return budget.limit.is_spent(self._state(budget)[1])

    def have_tries(self, *budgets: Budget) -> bool:
        """Return whether `trying` would find a try of each budget now."""
        try:
            self.require(*budgets)
        except TooManyRequests:
            return False
        return True

    def require(self, *budgets: Budget) -> None:
        """Raise TooManyRequests where `trying` would now. It only reads."""
        if not self._enabled:
            return
        now = self._now()
        for budget, (full_at, tries) in zip(budgets, self._rows.states(budgets, now), strict=True):
            limit = budget.limit
            if limit.wait(full_at, now) > 0 or limit.is_spent(tries):
                raise limit.refusal(full_at, tries, now)

    def tries(self, *budgets: Budget) -> list[int]:
        """Return the tries in a row of each budget."""
        return [tries for _, tries in self._rows.states(budgets, self._now())]

    def clear(self, *budgets: Budget) -> bool:
        """Clear the tries of budgets, inside a transaction. Return whether there were any."""
        return self._rows.clear(budgets) > 0

    def prune(self, at_most: int) -> int:
        """Delete up to `at_most` rows that are no longer needed; return how many."""
        return self._rows.prune(self._now(), at_most)

    def _give_back(self, budgets: Iterable[Budget], patience: float | None) -> None:
        if self._enabled:
            with self._core.database.transaction(patience):
                for budget in budgets:
                    self._rows.give_back(budget, self._now())

    def _state(self, budget: Budget) -> tuple[int, int]:
        return self._rows.states([budget], self._now())[0]

    def _now(self) -> int:
        return int(self._core.clock() * SECOND)


def _prune(core: Core, at_most: int) -> int:
    return core.of(Limits).prune(at_most)


JOBS = (pruning("limits", PRUNED_EVERY, _prune),)


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: other features declare their limits."""
