"""Fair queueing: networks take turns, so that none gets more than its share."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """A queue in which networks take turns, an item each (round robin; RFC 970).

    The networks within a network take turns too: a client that has a /48 gets one turn for it, and
    not one for each of its 65,536 networks. Items of the same network leave in order of arrival.
    The queue has no lock.
    """

    def __init__(self) -> None:
        """Begin empty."""
        # By network, the next one first: its parts in the same way, or a queue of its items.
        self._parts: OrderedDict[str, Any] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether there are items."""
        return bool(self._parts)

    def put(self, networks: tuple[str, ...], item: Item) -> None:
        """Add an item behind those of its network. `networks` are its networks, widest first."""
        parts = self._parts
        for network in networks[:-1]:
            parts = parts.setdefault(network, OrderedDict())
        queue = parts.get(networks[-1])
        if queue is None:
            queue = parts[networks[-1]] = deque()
        queue.append(item)

    def get(self, passed_over: Collection[str] = ()) -> Item | None:
        """Take the next item, or return None. The networks in `passed_over` keep their turns."""
        item: Item | None = _take(self._parts, passed_over)
        return item


def _take(parts: OrderedDict[str, Any], passed_over: Collection[str]) -> Any:  # noqa: ANN401
    for network, part in parts.items():
        if network in passed_over:
            continue
        item = part.popleft() if isinstance(part, deque) else _take(part, passed_over)
        if item is None:
            continue
        if part:
            parts.move_to_end(network)
        else:
            del parts[network]
        return item
    return None
