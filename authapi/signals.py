"""The signals that end the service, and what they do until it answers requests."""

from __future__ import annotations

import os
import signal
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
    """Start threads in the block that never take a signal, for work that starts no program.

    NOTE: handlers run in the main thread, and a signal that another thread takes does not wake it.
    A program that such a thread started would have every signal blocked. So the threads that answer
    requests take signals: the server's loop wakes each second.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_by(number: int) -> NoReturn:
    """End this process as a signal does: with status 128 and its number, as a shell calls it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # as process 1, which no signal of its own ends


def _end(number: int, _frame: object) -> None:
    end_by(number)
