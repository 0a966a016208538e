"""The signals that end the service, and what they do until it answers requests."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

# Under nohup, which ignores SIGHUP, a terminal that closes ends nothing.
_HANG_UP = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
END_SIGNALS = (signal.SIGTERM, signal.SIGINT, *_HANG_UP)


def end_at_once() -> None:
    """Let each of END_SIGNALS end this process from now on, whatever it is doing.

    NOTE: the kernel drops a signal to process 1 of a container that has no handler there.
    """
    for number in END_SIGNALS:
        signal.signal(number, _end if os.getpid() == 1 else signal.SIG_DFL)


@contextmanager
def kept_from_threads() -> Iterator[None]:
    """Let threads that are started in the block never take a signal; they must start no program.

    NOTE: handlers run in the main thread, and a signal that another thread takes does not wake it.
    But a program that such a thread starts would have every signal blocked. So the threads that
    answer requests take signals, and a pipe wakes the server's loop.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Ended(BaseException):
    """Raised in the main thread for a signal that ends a command, so that it can clean up."""

    def __init__(self, number: int) -> None:
        """Take the signal's number."""
        super().__init__(number)
        self.number = number


@contextmanager
def raising() -> Iterator[None]:
    """Raise Ended for each of END_SIGNALS in the block, where the main thread runs it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _frame: object) -> None:
        raise Ended(number)

    before = {number: signal.signal(number, end) for number in END_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_by(number: int) -> NoReturn:
    """End this process as a signal does: a shell sees the status 128 plus its number."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # as process 1, which no signal of its own ends


def _end(number: int, _frame: object) -> None:
    end_by(number)
