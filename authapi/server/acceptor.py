"""Accepting connections, while there are slots for them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sized
from functools import partial
from typing import Any

from authapi.hosts import networks_of
from authapi.server.bounds import Bounds
from authapi.server.loop import Loop


class Accepted:
    """A connection that is accepted, and that is opened in the turn of its network."""

    kept = total_outbufs_len = 0  # bytes
    asked = True  # nobody has looked yet

    def __init__(self, acceptor: Acceptor, connection: socket.socket, address: Any) -> None:  # noqa: ANN401 - socket's
        """Take what `accept` returned."""
        self._acceptor = acceptor
        self.socket, self.addr = connection, address
        self.peer_networks = tuple(reversed(networks_of(address[0])))
        self.waits_since = time.monotonic()

    def evict(self) -> bool:
        """Close the connection before it is opened. Its client gets no answer."""
        del self._acceptor.unopened[self]
        self.socket.close()
        return True


class Acceptor:
    """Accepts connections on a listening socket, and opens each in the turn of its network.

    NOTE: the system gives connections in the order in which they came. If they were opened at once,
    a flood from one network would delay those of the others.
    """

    def __init__(
        self,
        listener: socket.socket,
        loop: Loop,
        begin: Callable[[socket.socket, Any], None],
        bounds: Bounds,
        opened: Sized,
    ) -> None:
        """Take the loop, what begins to serve a connection, and all connections that are open."""
        self._listener, self._loop, self._begin = listener, loop, begin
        self._bounds, self._opened = bounds, opened
        self.unopened: dict[Accepted, None] = {}  # in the order in which they came
        self._stopped = self._listens = False

    @property
    def taken(self) -> int:
        """The slots that are taken, by open connections and by those that wait to be opened."""
        return len(self._opened) + len(self.unopened)

    @property
    def has_room(self) -> bool:
        """Return whether there is a slot for another connection."""
        return self.taken < self._bounds.connections and not self._stopped

    def listen(self) -> None:
        """Wait for connections while there are slots for them; call it after each turn."""
        has_room = self.has_room
        if self._listens == has_room:
            return
        self._listens = has_room
        if has_room:
            self._loop.watch(self._listener.fileno(), self._accept)
        else:
            self._loop.unwatch(self._listener.fileno())

    def stop(self) -> None:
        """Accept no further connection."""
        self._stopped = True
        self.listen()

    def close(self) -> None:
        """Close the connections that were accepted and not opened."""
        for accepted in list(self.unopened):
            accepted.evict()

    def _accept(self) -> None:
        ends = time.monotonic() + self._bounds.accepting
        while self.has_room and time.monotonic() < ends:
            try:
                accepted = Accepted(self, *self._listener.accept())
            except OSError:  # none waits, or no file is left for it
                return
            self.unopened[accepted] = None
            self._loop.put(accepted.peer_networks, partial(self._open, accepted))

    def _open(self, accepted: Accepted) -> None:
        if accepted in self.unopened:  # and was not evicted
            del self.unopened[accepted]
            self._begin(accepted.socket, accepted.addr)
