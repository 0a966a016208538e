"""The log while a command runs: a sentence on standard error, as everything else that is said.

What the settings of a service log is kept until `serve` has set up its log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from authapi.commands.console import Console

AWAY = "authapi.database"  # its errors are what the command then fails with


class _Teller(logging.Handler):
    """Tells people what is logged."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Tell a line, unless it says what the command is about to say when it fails."""
        if record.name != AWAY or record.levelno < logging.ERROR:
            self._console.say(f"authapi: {self.format(record)}")


class _Keeper(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.records.append(record)


@contextmanager
def kept() -> Iterator[Callable[[], None]]:
    """Keep what is logged in the block; yield a function that logs it, to be called after it."""
    logger, keeper = logging.getLogger("authapi"), _Keeper()

    def log() -> None:
        for record in keeper.records:
            logging.getLogger(record.name).handle(record)

    logger.addHandler(keeper)
    try:
        yield log
    finally:
        logger.removeHandler(keeper)


@contextmanager
def told(console: Console) -> Iterator[None]:
    """Tell people what is logged in the block. Programs that read JSON are told nothing."""
    logger, teller = logging.getLogger("authapi"), _Teller(console)
    logger.addHandler(teller)
    try:
        yield
    finally:
        logger.removeHandler(teller)
