"""The answers of a relay, as lines: bounded in time and size."""

from __future__ import annotations

import socket
import time

TIMEOUT = 10  # seconds for each command
LONGEST_ANSWER = 65_536  # bytes


class Answers:
    """The relay's answers as lines. Each answer has a deadline and a longest length.

    NOTE: a socket's own timeout begins again with every byte.
    """

    def __init__(self, sock: socket.socket) -> None:
        """Take the socket."""
        self._sock, self._left = sock, b""
        self.begin(TIMEOUT)

    def begin(self, seconds: float) -> None:
        """Begin to wait for an answer."""
        self._deadline, self._size = time.monotonic() + seconds, 0

    @property
    def has_more(self) -> bool:
        """Return whether the relay has sent more than its answers."""
        return bool(self._left)

    def readline(self, at_most: int) -> bytes:
        """Return the next line; an empty one at the end. Raises OSError."""
        while b"\n" not in self._left and len(self._left) < at_most:
            wait = self._deadline - time.monotonic()
            if wait <= 0:
                raise TimeoutError("no answer in time")
            self._sock.settimeout(wait)
            received = self._sock.recv(4_096)
            self._size += len(received)
            if self._size > LONGEST_ANSWER:
                raise ConnectionAbortedError("an answer without an end")
            if not received:
                break
            self._left += received
        self._sock.settimeout(TIMEOUT)
        end = self._left.find(b"\n") + 1 or len(self._left)
        line, self._left = self._left[: min(end, at_most)], self._left[min(end, at_most) :]
        return line

    def close(self) -> None:
        """Do nothing: the socket is closed by its owner."""
