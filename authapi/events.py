"""Events: records of what happened, and the subscribers that each is handed to.

Features declare their own in their modules.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

logger = logging.getLogger("authapi.events")


@dataclass(frozen=True, slots=True)
class Caller:
    """The client of a request: its address, its User-Agent, the request's id and its trace's.

    The User-Agent is cut to 256 characters, and empty without one. So is the id of a trace.
    """

    ip: str
    user_agent: str
    request_id: str
    trace_id: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    `user_id` is None where no user is known. `session_id` is the public id of the session that it
    happened to, or in. `detail` is one word for the operator, such as why a login failed. A
    subclass without fields of its own says `__slots__ = ()` in place of the decorator.

    SECURITY: a detail is never a secret, a name or an address, and no client may be told.
    """

    user_id: int | None
    caller: Caller
    session_id: str | None = None
    detail: str | None = None

    @property
    def name(self) -> str:
        """Return the name of the event's class."""
        return name_of(type(self))


def name_of(kind: type[Event]) -> str:
    """Return the name of a class of events in snake_case: `password_changed`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


Kind = TypeVar("Kind", bound=Event)


@dataclass(frozen=True, slots=True)
class Restored(Event):
    """The database is a backup of an earlier time: nothing of the lost time may count again.

    `newest_user_id` and `newest_entry_id` (of the audit log) are the highest ids that the lost
    database gave; 0 where they are not known.
    """

    newest_user_id: int = 0
    newest_entry_id: int = 0


class Events:
    """Hands each event to the subscribers, in the caller's thread.

    An event is emitted inside the transaction of the change that it follows. A subscriber that
    raises undoes the change, and what it writes is kept or lost with the change. An event that
    follows no change, such as LoginFailed, has a transaction of its own.

    An event that a subscriber emits is handed out after the one that caused it has reached every
    subscriber. So all of them get the events in the same order, whatever order they subscribed in.
    """

    def __init__(self) -> None:
        """Begin with no subscribers."""
        self._subscribers: list[tuple[type[Event], Callable[[Event], None]]] = []
        self._waiting = _Waiting()

    @overload
    def subscribe(self, subscriber: Callable[[Event], None]) -> None: ...

    @overload
    def subscribe(self, subscriber: Callable[[Kind], None], kind: type[Kind]) -> None: ...

    def subscribe(self, subscriber: Callable[[Any], None], kind: type[Event] = Event) -> None:
        """Call `subscriber` with every event from now on, or with those of one kind.

        It is called in the request's thread, inside the transaction of the change. What it raises
        undoes the change.
        """
        self._subscribers.append((kind, subscriber))

    def emit(self, event: Event) -> None:
        """Hand an event to every subscriber; inside a subscriber, do so after its own event."""
        waiting = self._waiting.events
        waiting.append(event)
        if len(waiting) > 1:
            return
        try:
            while waiting:
                for kind, subscriber in self._subscribers:
                    if isinstance(waiting[0], kind):
                        subscriber(waiting[0])
                waiting.popleft()
        finally:
            waiting.clear()


class _Waiting(threading.local):
    """The event that a thread is handing out, and those that wait for it."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()


def log(event: Event) -> None:
    """Write an event as one log line. It holds no name and no secret: people type both wrongly."""
    caller = event.caller
    user_id = "-" if event.user_id is None else event.user_id
    reason = "" if event.detail is None else f" reason={event.detail}"
    trace = f" trace_id={caller.trace_id}" if caller.trace_id else ""
    logger.info(
        "%s user_id=%s%s ip=%s request_id=%s%s",
        event.name,
        user_id,
        reason,
        caller.ip,
        caller.request_id,
        trace,
        extra={"fields": _fields(event)},
    )


def _fields(event: Event) -> dict[str, object]:
    """Return what an event says, by name, without what is not known."""
    caller = event.caller
    known = {
        "event": event.name,
        "user_id": event.user_id,
        "session_id": event.session_id,
        "reason": event.detail,
        "ip": caller.ip,
        "request_id": caller.request_id,
        "trace_id": caller.trace_id,
    }
    return {name: value for name, value in known.items() if value not in {None, ""}}
