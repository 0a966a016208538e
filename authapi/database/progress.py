"""Progress of a step of a start that takes long, on standard error."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

SILENT_FOR = 1.0  # seconds of a step
LINE_EVERY = 10.0  # seconds, where standard error is no terminal
UPDATE_EVERY = 0.5  # seconds, where it is one


@contextmanager
def progress(
    step: str,
    clock: Callable[[], float] = time.monotonic,
    output: TextIO | None = None,
) -> Iterator[Callable[[], None]]:
    """Yield a function for the step in the block to call often, which says how long it takes.

    Nothing is said in the first second. Later a terminal shows one line that counts the seconds;
    anything else gets a line after one second, each ten seconds, and at the end.
    """
    error = output or sys.stderr or io.StringIO()  # standard error may be closed
    is_terminal = error.isatty()
    before, after = ("\r", "") if is_terminal else ("", "\n")
    begun = clock()
    say_at = begun + SILENT_FOR
    is_shown = False

    def tick() -> None:
        nonlocal say_at, is_shown
        now = clock()
        if now < say_at:
            return
        say_at, is_shown = now + (UPDATE_EVERY if is_terminal else LINE_EVERY), True
        print(f"{before}{step}: {now - begun:.0f} s …", end=after, file=error, flush=True)

    yield tick
    if is_shown:
        print(f"{before}{step}: done in {clock() - begun:.0f} s", file=error, flush=True)
