"""Standard output and error to which a write never waits, whether anybody reads them or not."""

from __future__ import annotations

import atexit
import io
import logging
import os
import select
import sys
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import Any

from authapi.descriptors import open_standard_streams
from authapi.signals import kept_from_threads

MOST_KEPT = 1_048_576  # bytes of memory for unread output; what comes after it is dropped
DRAIN_DEADLINE = 0.25  # seconds that the end of a process waits for a reader
FORK_PATIENCE = 0.05  # seconds that a fork waits for the writer thread

logger = logging.getLogger("authapi.streams")


class Unblocked(io.TextIOBase):
    """A standard stream that keeps what is written, for a thread that writes it to the system.

    While nobody reads, lines that do not fit are dropped and counted. The count is logged later.

    NOTE: the thread starts at the first write, and ends before a fork, because a process that forks
    must have no other thread. If nobody reads, it cannot end: then it waits in a system call and
    holds no lock.
    """

    encoding, errors = "utf-8", "backslashreplace"

    def __init__(self, descriptor: int) -> None:
        """Take the number of the stream: 1 or 2."""
        self._descriptor = descriptor
        self.begin()
        _streams.add(self)

    def begin(self) -> None:
        """Start empty and without a thread, as after a fork, which copies neither."""
        # NOTE: reentrant, because a signal or the garbage collector may write while it is held.
        self._changed = threading.Condition(threading.RLock())
        self._kept: deque[bytes] = deque()
        self._size = self._dropped = 0
        self._thread: threading.Thread | None = None
        self._rests = False

    def write(self, text: str) -> int:
        """Keep a text to be written, or drop it."""
        data = text.encode(self.encoding, self.errors)
        with self._changed:
            if self._size + sys.getsizeof(data) > MOST_KEPT:
                self._dropped += data.count(b"\n")
            elif data:
                self._kept.append(data)
                self._size += sys.getsizeof(data)
                self._start()
                self._changed.notify_all()
        return len(text)

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the number of the stream."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def drain(self, deadline: float) -> None:
        """Wait until nothing is kept, or for the deadline, in monotonic seconds."""
        with self._changed:
            while self._kept and self._changed.wait(max(0, deadline - time.monotonic())):
                pass

    def rest(self) -> None:
        """End the thread, and hold the lock, before a fork."""
        with self._changed:
            self._rests = True
            self._changed.notify_all()
            thread = self._thread
        if thread:
            thread.join(FORK_PATIENCE)
        self._changed.acquire()

    def resume(self) -> None:
        """Go on after a fork, in the process that was there before."""
        self._rests = False
        if self._kept:
            self._start()
        self._changed.release()

    def _start(self) -> None:
        """Start the thread if it does not run."""
        if self._thread or self._rests:
            return
        thread = threading.Thread(target=self._run, name="authapi-stream", daemon=True)
        # If the system has no more threads now, the next write tries again.
        with suppress(RuntimeError), kept_from_threads():
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while data := self._next():
            is_written = self._write(data)
            with self._changed:
                self._size -= sys.getsizeof(data)
                self._kept.popleft()
                dropped = 0
                if not is_written:
                    self._dropped += data.count(b"\n")
                elif self._size <= MOST_KEPT // 2:
                    dropped, self._dropped = self._dropped, 0
                self._changed.notify_all()
            if dropped:
                name = {1: "output", 2: "error"}[self._descriptor]
                logger.error("standard %s was not read: %d lines were dropped", name, dropped)

    def _next(self) -> bytes:
        """Wait for the next text to write; return nothing if the thread is to end."""
        with self._changed:
            while not self._kept and not self._rests:
                self._changed.wait()
            if self._rests:
                self._thread = None
                return b""
            return self._kept[0]

    def _write(self, data: bytes) -> bool:
        """Write a text to the system; return False if it takes none, since its reader has ended."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process that shares the stream may have set that
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


_streams: weakref.WeakSet[Unblocked] = weakref.WeakSet()


def unblock() -> None:
    """Replace standard output and error, also for log handlers that use them already.

    A stream that the application has replaced itself stays as it is.
    """
    open_standard_streams()
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        original = getattr(sys, f"__{name}__")
        if original is None or getattr(sys, name) is not original:
            continue
        with suppress(OSError):
            original.flush()
        replacement = Unblocked(descriptor)
        setattr(sys, name, replacement)
        for handler in _handlers():
            if handler.stream is original:
                handler.setStream(replacement)


def drain() -> None:
    """Wait until what is kept is written, before the process ends, for DRAIN_DEADLINE at most."""
    deadline = time.monotonic() + DRAIN_DEADLINE
    for stream in list(_streams):
        stream.drain(deadline)


def _handlers() -> list[Any]:
    """Return the handlers that log to streams."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    found = [handler for each in loggers for handler in getattr(each, "handlers", [])]
    return [handler for handler in found if isinstance(handler, logging.StreamHandler)]


def _before_fork() -> None:
    for stream in list(_streams):
        stream.rest()


def _after_fork() -> None:
    for stream in list(_streams):
        stream.resume()


def _in_child() -> None:
    for stream in list(_streams):
        stream.begin()


atexit.register(drain)
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
