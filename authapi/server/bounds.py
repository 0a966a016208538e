"""The limits of what clients may use: connections, memory, disk and time."""

from __future__ import annotations

import msgspec

MIB = 1_048_576  # bytes


class Bounds(msgspec.Struct, frozen=True):
    """The bounds of one server. Sizes are bytes, times are seconds."""

    connections: int = 1_000
    kept: int = 8 * MIB  # of memory that all connections together may take
    unsent: int = 256 * MIB  # of answers that wait for all clients; most of it is in files
    idle: float = 60  # that a client may send nothing, or take nothing of its answer
    request: float = 10  # from the first byte of a request to its last
    drain: float = 8  # that a stop waits for running requests; containers wait for 10
    accepting: float = 0.002  # that a turn of the loop accepts connections
    maintenance: float = 1  # between two looks at what is overdue


DEFAULT = Bounds()
