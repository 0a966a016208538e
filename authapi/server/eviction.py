"""Connection eviction: which connections to close when connection slots, memory or disk run out."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from operator import attrgetter
from typing import Any, Protocol, TypeVar

from authapi import metrics
from authapi.notices import Notices
from authapi.server.bounds import Bounds

SHARE = 16  # one in so many is freed at once, because choosing takes a look at all


class Connection(Protocol):
    """A client's connection."""

    @property
    def peer_networks(self) -> tuple[str, ...]:
        """The networks that the peer is in, widest first."""

    @property
    def waits_since(self) -> float | None:
        """When the last request came, or else the client itself; None while a request runs.

        Not None where another request waits behind the one that runs.
        """

    @property
    def asked(self) -> bool:
        """Return whether a whole request has come yet."""

    @property
    def kept(self) -> int:
        """The bytes of memory that it takes."""

    @property
    def total_outbufs_len(self) -> int:
        """The bytes of answers that wait for the client, in memory or in a file."""

    @property
    def addr(self) -> Any:  # noqa: ANN401 - socket's
        """The address of the peer, first of all its host."""

    def evict(self) -> bool:
        """Close it, unless a request runs and no other waits; return whether it was closed."""


Client = TypeVar("Client", bound=Connection)


class Eviction:
    """Closes connections that take what the bounds do not allow, and logs it."""

    def __init__(
        self, bounds: Bounds, notices: Notices, evicted: metrics.Counter = metrics.OFF
    ) -> None:
        """Take the bounds. A notice tells the operator of each network once a minute."""
        self._evicted = evicted
        self._crowded = bounds.connections - bounds.connections // SHARE
        self._kept, self._unsent = bounds.kept, bounds.unsent
        self._notices = notices

    def is_due(self, taken: int, kept: int, unsent: int) -> bool:
        """Return whether few slots are left, or the connections take too many bytes."""
        return taken >= self._crowded or kept > self._kept or unsent > self._unsent

    def run(self, connections: Collection[Connection], kept: int, unsent: int) -> None:
        """Close connections so that the bounds hold again, unless they only run requests.

        SECURITY: connections that wait to be opened count, and are closed too. Otherwise one
        network could take the last slots with them, and all others would wait.
        """
        if len(connections) >= self._crowded:
            self._close(least_worth(connections), "connections")
        if kept > self._kept:
            excess = kept - self._kept + self._kept // SHARE
            self._close(heaviest(connections, excess), "memory")
        if unsent > self._unsent:
            excess = unsent - self._unsent + self._unsent // SHARE
            self._close(heaviest(connections, excess, _UNSENT), "unread_answers")

    def _close(self, chosen: list[Connection], reason: str) -> None:
        for connection in chosen:
            if connection.evict():
                self._evicted.add()
                detail = f"reason={reason}"
                self._notices.refused("connection_evicted", connection.addr[0], detail)


_KEPT: Callable[[Connection], int] = attrgetter("kept")
_UNSENT: Callable[[Connection], int] = attrgetter("total_outbufs_len")


def least_worth(connections: Iterable[Client]) -> list[Client]:
    """Choose one in SHARE of the connections to close, none of which only runs a request.

    The order is: connections of the network that holds most, then those that never sent a request,
    then those that have been silent for longest. So thousands of slow clients make room for the
    next one, and clients of other networks keep their connections.

    SECURITY: the newest stay, because they may be about to ask. Otherwise, where all others have
    asked once, as a proxy's have, each new connection would be the one to go.
    """
    everyone = list(connections)
    count = max(1, len(everyone) // SHARE)
    held = Counter(network for one in everyone for network in one.peer_networks)
    waiting = [
        (since, number)
        for number, connection in enumerate(everyone)
        if (since := connection.waits_since) is not None
    ]
    older = [everyone[number] for _, number in sorted(waiting)[:-count]]
    return heapq.nsmallest(
        count, older, key=lambda one: ([-held[each] for each in one.peer_networks], one.asked)
    )


def heaviest(
    connections: Iterable[Client], excess: int, size: Callable[[Client], int] = _KEPT
) -> list[Client]:
    """Choose connections to close, to free so many bytes, none of which only runs a request.

    The order is: connections of the network that takes most, and of these the largest first.
    """
    held: Counter[str] = Counter()
    everyone = [connection for connection in connections if size(connection)]
    for connection in everyone:
        held.update(dict.fromkeys(connection.peer_networks, size(connection)))
    everyone.sort(key=lambda one: ([held[each] for each in one.peer_networks], size(one)))
    chosen: list[Client] = []
    while everyone and excess > 0:
        connection = everyone.pop()
        if connection.waits_since is not None:
            chosen.append(connection)
            excess -= size(connection)
    return chosen
