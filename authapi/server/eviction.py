"""Connection eviction: which connections to close where places or memory run out."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Protocol, TypeVar

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
        """Whether a whole request has come yet."""

    @property
    def kept(self) -> int:
        """The bytes that it makes us keep."""


Client = TypeVar("Client", bound=Connection)


def least_worth(connections: Iterable[Client]) -> list[Client]:
    """Choose one in SHARE of the connections to close, none with a request that runs and no other.

    First go those of the network that holds most, then those that never asked anything, then those
    that are silent for longest. So slow clients by the thousand make room for the next one, and
    clients elsewhere keep their connections.

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


def heaviest(connections: Iterable[Client], excess: int) -> list[Client]:
    """Choose connections to close, to free so many bytes, none with a request that runs.

    First go those of the network that makes us keep most, and of these the ones that hold most.
    """
    held: Counter[str] = Counter()
    everyone = [connection for connection in connections if connection.kept]
    for connection in everyone:
        held.update(dict.fromkeys(connection.peer_networks, connection.kept))
    everyone.sort(key=lambda one: ([held[each] for each in one.peer_networks], one.kept))
    chosen: list[Client] = []
    while everyone and excess > 0:
        connection = everyone.pop()
        if connection.waits_since is not None:
            chosen.append(connection)
            excess -= connection.kept
    return chosen
