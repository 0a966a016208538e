"""The lines of the log: text, or a JSON object each."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from functools import lru_cache
from typing import Any

from authapi.settings import ObservationSettings, Settings

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}  # sd-daemon(3)


def _escaped(text: str) -> str:
    """Return a text in which no character ends a line or drives a terminal.

    SECURITY: waitress logs paths of requests, decoded. A line break in one would forge a line.
    """
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


class TextLine(logging.Formatter):
    """Formats a message as one line, with its time in UTC; a traceback follows on lines of its own.

    Under systemd's journal each line begins with its priority, so that `journalctl -p` works.
    """

    def __init__(self, *, prioritized: bool = False) -> None:
        """Take whether lines begin with their priority."""
        super().__init__("%(asctime)sZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime
        self._prioritized = prioritized

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's
        """Return the first line."""
        record.message = _escaped(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401 - logging's
        """Return a traceback, indented.

        SECURITY: the text of an error may hold what a client sent. Its lines look like no others.
        """
        return "\n".join(f"  {_escaped(line)}" for line in super().formatException(ei).split("\n"))

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record."""
        lines = super().format(record)
        if self._prioritized:
            priority = f"<{_PRIORITIES.get(record.levelname, 5)}>"
            lines = priority + lines.replace("\n", f"\n{priority}")
        return lines


class JSONLine(logging.Formatter):
    """Formats a record as a JSON object on one line: time, level, logger, message and its `fields`.

    A traceback is the text `exception` in it.
    """

    def __init__(self) -> None:
        """Take the encoder."""
        super().__init__()
        from msgspec.json import Encoder  # noqa: PLC0415 - text needs none

        self._encode = Encoder(enc_hook=str).encode

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line: dict[str, object] = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _escaped(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        try:
            return self._encode(line).decode()
        except UnicodeEncodeError:  # half a surrogate pair
            return json.dumps(line, default=str)


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def is_json(settings: Settings) -> bool:
    """Return whether the log is JSON: where the settings say so, or `auto` and no terminal."""
    chosen = settings.of(ObservationSettings).log_format
    return chosen == "json" or (chosen == "auto" and not os.isatty(2))


def formatter(settings: Settings) -> logging.Formatter:
    """Return the formatter of the log on standard error."""
    return JSONLine() if is_json(settings) else TextLine(prioritized=_is_journal())


def log_what_python_writes() -> None:
    """Log warnings, and exceptions that nobody catches, which Python would write as text."""
    logging.captureWarnings(capture=True)
    log = logging.getLogger("authapi")
    sys.excepthook = lambda *error: log.critical("the process ends", exc_info=error)
    threading.excepthook = lambda failed: log.error("a thread ends", exc_info=failed.exc_value)


def _is_journal() -> bool:
    """Return whether standard error is the stream to the journal that systemd made for it."""
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{found.st_dev}:{found.st_ino}"
