"""Budgets of tries: the algorithm, and the rows of the database that keep them.

Table: limits.
"""

from __future__ import annotations

from dataclasses import dataclass

from authapi.database import Database
from authapi.errors import Failure
from authapi.hosts import networks_of
from authapi.settings import Rate

SECOND = 1_000_000  # microseconds
DAY = 86_400  # seconds
KEPT_FOR = 90 * DAY * SECOND  # that as many failures as lock out are remembered
WIDER = {"-56": 2, "-48": 4}  # how many times the tries of a /64 a /56 and a /48 have


class TooManyRequests(Failure):
    """A budget of tries that is used up; one comes back after some seconds.

    The fields are those of draft-ietf-httpapi-ratelimit-headers-11.
    """

    status, error, message = 429, "too_many_requests", "Too many requests. Try again later."

    def __init__(self, limit: str, quota: int, window: int, retry_after: int) -> None:
        """Take the limit's name, its tries, its seconds, and the seconds to wait."""
        super().__init__(limit)
        self.retry_after = retry_after
        self.notice = f"{self.error} limit={limit}"
        self._policy = f'"{limit}";q={quota};w={window}'
        self._left = f'"{limit}";r=0;t={retry_after}'

    @property
    def headers(self) -> dict[str, str]:
        """The limit, and when to come back."""
        return {**super().headers, "RateLimit-Policy": self._policy, "RateLimit": self._left}


class TooManyFailures(TooManyRequests):
    """A budget that no time fills again: too many failures in a row."""

    message = (
        "Too many failures in a row. "
        "Log in with a browser that you have logged in with before, or ask the operator."
    )

    def __init__(self, limit: str, quota: int) -> None:
        """Take the limit's name and its failures in a row; the time to come back is a guess."""
        super().__init__(limit, quota, DAY, DAY)
        self.notice += " locked_out"


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

    @property
    def each_kept_for(self) -> int:
        """Microseconds for which each try in a row keeps the row.

        SECURITY: so the row of a single failure goes soon, whether or not the name is somebody's.
        Whoever waits for it guesses no more often than `in_a_row` times in each KEPT_FOR.
        """
        return 0 if self.in_a_row is None else KEPT_FOR // self.in_a_row

    def wait(self, full_at: int, now: int) -> int:
        """Microseconds until there is a try, of a budget that is full at a time; 0 for none.

        A budget that would be full only long after the window comes from a longer window, or from a
        clock that was set back by more than an interval: it is full.
        """
        wait = full_at + self.interval - now - self.window
        return max(0, wait) if wait <= 2 * self.interval else 0

    def is_spent(self, tries: int) -> bool:
        """Whether there have been too many tries in a row."""
        return self.in_a_row is not None and tries >= self.in_a_row

    def refusal(self, full_at: int, tries: int, now: int) -> TooManyRequests:
        """The answer to a try where a budget has none left."""
        if self.in_a_row is not None and self.is_spent(tries):
            return TooManyFailures(self.name, self.in_a_row)
        retry_after = -(-self.wait(full_at, now) // SECOND)
        return TooManyRequests(self.name, self.rate.tries, self.rate.seconds, retry_after)

    def of(self, subject: str) -> Budget:
        """Return the budget of one account, user or device."""
        return Budget(self, subject)


@dataclass(frozen=True, slots=True)
class NetworkLimit:
    """A limit of the networks of an address: of an IPv4 address, or of an IPv6 /64, /56 and /48.

    SECURITY: some providers give a client 65,536 networks of /64, so the wider networks, which
    have more tries, are limited too.
    """

    limits: tuple[Limit, ...]

    @classmethod
    def named(cls, name: str, rate: Rate) -> NetworkLimit:
        """Return the limits of these names: `name`, and with the width of a wider network."""
        wider = [Limit(name + at, Rate(rate.tries * by, rate.seconds)) for at, by in WIDER.items()]
        return cls((Limit(name, rate), *wider))

    def of(self, address: str) -> list[Budget]:
        """Return the budgets of an address's networks."""
        pairs = zip(self.limits, networks_of(address), strict=False)
        return [limit.of(network) for limit, network in pairs]


@dataclass(frozen=True, slots=True)
class Budget:
    """The tries that a limit gives one account, network, user or device."""

    limit: Limit
    subject: str

    @property
    def key(self) -> str:
        """The row's key."""
        return f"{self.limit.name}:{self.subject}"


class BudgetRepository:
    """The limits table. All but `state` is for inside a transaction; times are microseconds."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._statements = database.statements("limits")

    def state(self, budget: Budget, now: int) -> tuple[int, int]:
        """When the budget is full again, and the tries in a row."""
        return self._statements.state(**_times(budget, now)) or (0, 0)

    def take(self, budget: Budget, now: int) -> int | None:
        """Take a try; give the tries in a row, or None where there is none left."""
        row = self._statements.take(**_times(budget, now), in_a_row=budget.limit.in_a_row)
        return row and int(row[0])

    def give_back(self, budget: Budget, now: int) -> None:
        """Give back a try that was none."""
        self._statements.give_back(**_times(budget, now))

    def clear(self, budget: Budget) -> bool:
        """Make a budget full, with no tries in a row; False where nothing was missing."""
        return bool(self._statements.clear(key=budget.key))

    def prune(self, now: int, at_most: int) -> int:
        """Delete so many rows at most that have no meaning any more; return how many."""
        return int(self._statements.prune(now=now, at_most=at_most))


def _times(budget: Budget, now: int) -> dict[str, str | int]:
    """The parameters that every statement about one budget takes."""
    limit = budget.limit
    return {
        "key": budget.key,
        "now": now,
        "interval": limit.interval,
        "window": limit.window,
        "each": limit.each_kept_for,
    }
