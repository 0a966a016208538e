"""Background services: the parts of an application that live beside its requests."""

from __future__ import annotations

import os
import weakref


class BackgroundService:
    """A part of an application that is woken, prepared for a fork, and closed.

    Each method does nothing unless a service overrides it. `create_app` calls none but `begin`, so
    that it leaves no thread behind: a service starts its threads when it is woken or used.
    """

    def __init__(self) -> None:
        """Begin, now and in each process that is forked from this one."""
        self.begin()
        _begun.add(self)

    def begin(self) -> None:
        """Forget locks and threads: a forked child has none of its parent's threads."""

    def wake(self) -> None:
        """Look for what is due. The server's loop calls this each second, so it must not wait."""

    def before_fork(self) -> None:
        """Release what cannot be carried through a fork; the next use acquires it again."""

    def close(self) -> bool:
        """End, within 5 seconds; return whether it has ended.

        It is called when no request is running any more.
        """
        return True


_begun: weakref.WeakSet[BackgroundService] = weakref.WeakSet()


def _begin_again() -> None:
    for service in list(_begun):
        service.begin()


os.register_at_fork(after_in_child=_begin_again)


class Background:
    """The background services of one application. Later ones may use earlier ones."""

    def __init__(self) -> None:
        """Begin with none."""
        self._services: list[BackgroundService] = []

    def add(self, *services: BackgroundService) -> None:
        """Add services after those that they use."""
        self._services += services

    def wake(self) -> None:
        """Wake each service."""
        for service in self._services:
            service.wake()

    def before_fork(self) -> None:
        """Prepare each service for a fork, the last one first."""
        for service in reversed(self._services):
            service.before_fork()

    def close(self) -> None:
        """Close the services, the last one first.

        NOTE: where one does not end, those that it uses stay open: SQLite crashes when a connection
        is closed while another thread runs a statement on it.
        """
        for service in reversed(self._services):
            if not service.close():
                return
