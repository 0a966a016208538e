"""Figures that a measurement produces, with or without a goal."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

DIGITS = {
    "": 2,
    "s": 3,
    "ms": 1,
    "us": 1,
    "bytes": 0,
    "/s": 1,
    "MiB": 1,
    "answers": 0,
}  # after the point, by unit


@dataclass(frozen=True)
class Goal:
    """A bound for the median of a figure; `sign` is `>=` or `<=`."""

    sign: str
    bound: float

    def verdict(self, value: float) -> str:
        """Return whether a value is within the bound, in a word."""
        met = value >= self.bound if self.sign == ">=" else value <= self.bound
        return "met" if met else "MISSED"


@dataclass(frozen=True)
class Figure:
    """A measured figure, with one value for each round."""

    name: str
    values: list[float]
    unit: str = ""
    goal: Goal | None = None

    @property
    def median(self) -> float:
        """Return the median of the values."""
        return statistics.median(self.values)

    def shown(self, value: float) -> str:
        """Return a value with the digits of its unit."""
        return f"{value:.{DIGITS[self.unit]}f}"

    def row(self) -> tuple[str, ...]:
        """Return name, median, range, unit."""
        span = f"{self.shown(min(self.values))} - {self.shown(max(self.values))}"
        return self.name, self.shown(self.median), span, self.unit

    def goal_row(self, goal: Goal) -> tuple[str, ...]:
        """Return name, goal, median, range, verdict."""
        name, median, span, unit = self.row()
        wanted = f"{goal.sign} {self.shown(goal.bound)} {unit}".rstrip()
        return name, wanted, median, span, goal.verdict(self.median)


def ratios(measured: list[float], base: list[float]) -> list[float]:
    """Divide one list by the other, round by round."""
    return [value / other for value, other in zip(measured, base, strict=True)]
