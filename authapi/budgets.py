"""Budgets of tries: the algorithm, and the rows of the database that keep them.

Table: limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from authapi.database import Database
from authapi.errors import Failure
from authapi.hosts import networks_of
from authapi.settings import Rate

SECOND = 1_000_000  # microseconds
DAY = 86_400  # seconds
KEPT_FOR = 90 * DAY * SECOND  # how long as many failures as lock out are remembered
WIDER = {"-56": 2, "-48": 4}  # how many times the tries of a /64 a /56 and a /48 have


class TooManyRequests(Failure):
    """Raised when a budget of tries is used up.

    The header fields are those of draft-ietf-httpapi-ratelimit-headers-11.
    """

    status, error, message = 429, "too_many_requests", "Too many requests. Try again later."
    header_names = ("Retry-After", "RateLimit", "RateLimit-Policy")

    def __init__(self, limit: str, quota: int, window: int, retry_after: int) -> None:
        """Take the limit's name, its tries, its seconds, and the seconds until a try comes back."""
        super().__init__(limit)
        self.limit = limit
        self.retry_after = retry_after
        self.notice = f"{self.error} limit={limit}"
        self._policy = f'"{limit}";q={quota};w={window}'
        self._left = f'"{limit}";r=0;t={retry_after}'

    @property
    def headers(self) -> dict[str, str]:
        """Return the limit, and when to come back."""
        return {**super().headers, "RateLimit-Policy": self._policy, "RateLimit": self._left}


class TooManyFailures(TooManyRequests):
    """Raised when there were too many tries in a row without a success.

    No time brings one back, so the seconds to wait are a guess.
    """

    def __init__(self, limit: str, quota: int, advice: str) -> None:
        """Take the limit's name, its tries in a row, and a sentence that says what to do."""
        super().__init__(limit, quota, DAY, DAY)
        self.message = f"Too many failures in a row. {advice}"
        self.notice += " locked_out"


class Limit(msgspec.Struct, frozen=True):
    """A number of tries at once, and as many again in each window, by GCRA (ITU-T I.371).

    `in_a_row` is the number of tries without a success after which there are no more, and `advice`
    tells the client what to do then.
    """

    name: str
    rate: Rate
    in_a_row: int | None = None
    advice: str = ""

    @property
    def window(self) -> int:
        """Return the microseconds in which an empty budget becomes full."""
        return self.rate.seconds * SECOND

    @property
    def interval(self) -> int:
        """Return the microseconds in which one try comes back."""
        return self.window // self.rate.tries

    @property
    def each_kept_for(self) -> int:
        """Return the microseconds for which each try in a row keeps the row.

        SECURITY: the row of a single failure is deleted soon, whether or not the name is a user's.
        Guesses that wait for it are at most `in_a_row` in each KEPT_FOR.
        """
        return 0 if self.in_a_row is None else KEPT_FOR // self.in_a_row

    def wait(self, full_at: int, now: int) -> int:
        """Return the microseconds until a budget that is full at `full_at` has a try.

        A budget that would be full only long after the window comes from a longer window, or from a
        clock that was set back by more than an interval. It counts as full.
        """
        wait = full_at + self.interval - now - self.window
        return max(0, wait) if wait <= 2 * self.interval else 0

    def is_ahead(self, kept_until: int | None, tries: int, now: int) -> bool:
        """Return whether a row comes from a clock that was set back by more than an interval."""
        longest = max(self.window, tries * self.each_kept_for)
        return kept_until is not None and kept_until > now + longest + self.interval

    def is_spent(self, tries: int) -> bool:
        """Return whether there have been too many tries in a row."""
        return self.in_a_row is not None and tries >= self.in_a_row

    def refusal(self, full_at: int, tries: int, now: int) -> TooManyRequests:
        """Return the answer to a try when a budget has none left."""
        if self.in_a_row is not None and self.is_spent(tries):
            return TooManyFailures(self.name, self.in_a_row, self.advice)
        retry_after = -(-self.wait(full_at, now) // SECOND)
        return TooManyRequests(self.name, self.rate.tries, self.rate.seconds, retry_after)

    def of(self, subject: str) -> Budget:
        """Return the budget of one account, user or device."""
        return Budget(self, subject)


class NetworkLimit(msgspec.Struct, frozen=True):
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


class Budget(msgspec.Struct, frozen=True):
    """The tries that a limit gives one account, network, user or device."""

    limit: Limit
    subject: str

    @property
    def key(self) -> str:
        """Return the key of the row."""
        return f"{self.limit.name}:{self.subject}"


class BudgetRepository:
    """The limits table. Methods other than `states` run inside transactions.

    Times are in microseconds since the epoch.
    """

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._statements = database.statements("limits")

    def states(self, budgets: Sequence[Budget], now: int) -> list[tuple[int, int]]:
        """Return the time at which each budget is full again, and the tries in a row.

        A budget whose row comes from a clock that was set back is full.
        """
        rows = self._statements.states(keys=_keys(budgets), now=now)
        kept = {key: state for key, *state in rows}
        states = []
        for budget in budgets:
            full_at, tries, kept_until = kept.get(budget.key, (0, 0, None))
            is_ahead = budget.limit.is_ahead(kept_until, tries, now)
            states.append((0 if is_ahead else full_at, tries))
        return states

    def take(self, budgets: Iterable[Budget], now: int) -> Iterator[int | None]:
        """Take a try of each; yield the tries in a row, or None if there was none left.

        A try is taken when its result is.
        """
        many = [_times(each, now) | {"in_a_row": each.limit.in_a_row} for each in budgets]
        return (row and int(row[0]) for row in self._statements.each(self._statements.take, many))

    def give_back(self, budget: Budget, now: int) -> None:
        """Give back a try that did not count."""
        self._statements.give_back(**_times(budget, now))

    def clear(self, budgets: Sequence[Budget]) -> int:
        """Make budgets full, with no tries in a row. Return of how many a try was missing."""
        return int(self._statements.clear(keys=_keys(budgets)))

    def prune(self, now: int, at_most: int) -> int:
        """Delete up to `at_most` rows that are no longer needed; return how many."""
        return int(self._statements.prune(now=now, at_most=at_most))


def _keys(budgets: Iterable[Budget]) -> str:
    """Return the keys of rows as JSON, in which a statement takes many."""
    return msgspec.json.encode([budget.key for budget in budgets]).decode()


def _times(budget: Budget, now: int) -> dict[str, str | int | None]:
    """Return the parameters that every statement about one budget takes."""
    limit = budget.limit
    return {
        "key": budget.key,
        "now": now,
        "interval": limit.interval,
        "window": limit.window,
        "each": limit.each_kept_for,
    }
