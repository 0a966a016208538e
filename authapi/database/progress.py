"""Progress of a step that takes long, on standard error."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TextIO

SILENT_FOR = 1.0  # seconds of a step
LINE_EVERY = 10.0  # seconds, where standard error is no terminal
UPDATE_EVERY = 0.5  # seconds, where it is one
MIB = 1 << 20


_IS_SILENT: ContextVar[bool] = ContextVar("_IS_SILENT", default=False)


class Tick(Protocol):
    """What a step calls often. Where it knows, it says how many of how many bytes are done."""

    def __call__(self, done: int = 0, total: int = 0) -> None:
        """Show the progress if it is time to."""


@contextmanager
def silenced() -> Iterator[None]:
    """Show no progress in the block, for a program that reads standard error."""
    token = _IS_SILENT.set(True)
    try:
        yield
    finally:
        _IS_SILENT.reset(token)


@contextmanager
def progress(
    step: str,
    clock: Callable[[], float] = time.monotonic,
    output: TextIO | None = None,
) -> Iterator[Tick]:
    """Yield a function for the step in the block to call often, which says how far it is.

    Nothing is said in the first second. Later a terminal shows one line that counts the seconds or
    the bytes; anything else gets a line after one second, each ten seconds, and at the end.
    """
    error = _open(output)
    is_terminal = error.isatty()
    before, after = ("\r", "") if is_terminal else ("", "\n")
    begun = clock()
    say_at = begun + SILENT_FOR
    width = 0  # of the line that a terminal shows

    def show(text: str, after: str) -> None:
        nonlocal width
        line = f"{step}: {text}"
        print(
            f"{before}{line.ljust(width if is_terminal else 0)}", end=after, file=error, flush=True
        )
        width = len(line)

    def tick(done: int = 0, total: int = 0) -> None:
        nonlocal say_at
        now = clock()
        if now >= say_at:
            say_at = now + (UPDATE_EVERY if is_terminal else LINE_EVERY)
            show(_far(done, total, now - begun) if total else f"{now - begun:.0f} s …", after)

    try:
        yield tick
    except BaseException:
        if width and is_terminal:
            print(file=error)
        raise
    if width:
        show(f"done in {clock() - begun:.0f} s", "\n")


def _open(output: TextIO | None) -> TextIO:
    """Return what to write to. NOTE: standard error may be closed."""
    return (None if _IS_SILENT.get() else output or sys.stderr) or io.StringIO()


def _far(done: int, total: int, seconds: float) -> str:
    """Return how far a step is: `412 of 1,024 MiB, 38 MiB/s, 0:16 left`."""
    rate = done / seconds
    left = int((total - done) / rate) if rate else 0
    minutes, rest = divmod(left, 60)
    return (
        f"{done // MIB:,} of {total // MIB:,} MiB, {rate / MIB:.0f} MiB/s, {minutes}:{rest:02} left"
    )
