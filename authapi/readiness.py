"""Readiness: what keeps an application from its work at the moment."""

from __future__ import annotations

from collections.abc import Callable

Check = Callable[[], str | None]


class Readiness:
    """Collects the checks of the parts and features that an application cannot work without.

    A check returns the name of a fault in snake_case, or None. The server's loop calls it, so it
    must not wait.
    """

    def __init__(self) -> None:
        """Begin without a check."""
        self.drains = False  # whether the process is about to end
        self._checks: list[Check] = []

    def require(self, check: Check) -> None:
        """Ask a check each time, after those that are required already."""
        self._checks.append(check)

    def fault(self) -> str | None:
        """Return the name of the first fault; None where the application is ready."""
        if self.drains:
            return "draining"
        return next((fault for check in self._checks if (fault := check())), None)
