"""What happens to an account or a session, as typed records, and who hears of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger("authapi.events")


@dataclass(frozen=True, slots=True)
class Caller:
    """Where a request came from: the peer's address, and the id that its answer carries."""

    ip: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `user_id` is None where no user is known."""

    user_id: int | None
    caller: Caller


class Registered(Event):
    """A user came to be; follows the change, inside its transaction."""


class LoggedIn(Event):
    """A session was opened by a password; follows the change, inside its transaction."""


class LoginFailed(Event):
    """A login was refused; outside any transaction."""


class LoggedOut(Event):
    """A session was ended by its user; follows the change, inside its transaction."""


class Events:
    """Hands each event to the subscribers, in order, in the caller's thread.

    An event that follows a change is emitted inside the change's transaction, so a subscriber that
    raises undoes the change, and what it writes is kept or lost with it.
    """

    def __init__(self) -> None:
        """Begin with no subscribers."""
        self._subscribers: list[Callable[[Event], None]] = []

    def subscribe(self, subscriber: Callable[[Event], None]) -> None:
        """Call `subscriber` with every event from now on."""
        self._subscribers.append(subscriber)

    def emit(self, event: Event) -> None:
        """Tell every subscriber."""
        for subscriber in self._subscribers:
            subscriber(event)


def log(event: Event) -> None:
    """Write an event as one log line. It holds no name and no secret: people type both wrongly."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(event).__name__).lower()
    caller = event.caller
    user_id = "-" if event.user_id is None else event.user_id
    logger.info("%s user_id=%s ip=%s request_id=%s", name, user_id, caller.ip, caller.request_id)
