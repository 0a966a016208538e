"""Whom to turn out where the places for connections are nearly all taken."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from typing import Protocol, TypeVar

SHARE = 16  # one in so many is kept free; finding whom to close takes a look at all


class Connection(Protocol):
    """A client's connection."""

    @property
    def host(self) -> str:
        """The client's network."""

    @property
    def waits_since(self) -> float | None:
        """When its last request began to run, or else it itself came; None while one runs.

        Not None where more requests wait behind the one that runs.
        """

    @property
    def asked(self) -> bool:
        """Whether a whole request has come yet."""


Client = TypeVar("Client", bound=Connection)


def least_worth(connections: Iterable[Client]) -> list[Client]:
    """The connections to close, one in SHARE, none with a request that runs and no other.

    First go those of the network that holds most, then those that never asked anything, then those
    that are silent for longest. So slow clients by the thousand make room for the next one, and
    whoever asks from elsewhere keeps their connection.

    SECURITY: not the newest, which may be about to ask. Else, where all others have asked once, as
    a proxy's have, each new connection would be the one to go.
    """
    everyone = list(connections)
    count = max(1, len(everyone) // SHARE)
    held = Counter(connection.host for connection in everyone)
    waiting = [
        (since, number)
        for number, connection in enumerate(everyone)
        if (since := connection.waits_since) is not None
    ]
    older = [everyone[number] for _, number in sorted(waiting)[:-count]]
    return heapq.nsmallest(count, older, key=lambda one: (-held[one.host], one.asked))
