"""The service with its care taken out, to see that the checks can fail.

python -m faults.spoilt late      answers first, and commits every half second
python -m faults.spoilt NORMAL    commits with that PRAGMA synchronous
python -m faults.spoilt cookies   takes quadratic time over a cookie
"""

from __future__ import annotations

import re
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from authapi import AuthAPI, Settings, create_app
from authapi.database import Database
from authapi.server import serve

PUT_OFF = 0.5  # seconds
BACKSLASH, OCTAL = re.compile(r"\\."), re.compile(r"\\[0-3][0-7][0-7]")


class LateDatabase(Database):
    """One connection for all threads, whose changes are committed some time after the answer."""

    _shared: sqlite3.Connection
    _writer: threading.Lock

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of all threads, which sees what is not committed yet."""
        return self._shared

    @contextmanager
    def transaction(self, patience: float | None = None) -> Iterator[None]:  # noqa: ARG002
        """Leave the change to the next commit."""
        with self._writer:
            if not self._shared.in_transaction:
                self._shared.execute("BEGIN IMMEDIATE")
            self._shared.execute("SAVEPOINT change")
            try:
                yield
            except BaseException:
                self._shared.execute("ROLLBACK TO change")
                raise
            finally:
                self._shared.execute("RELEASE change")

    def after_commit(self, action: Callable[[], None]) -> None:
        """Do not wait for it."""
        action()

    def spoil(self) -> None:
        """Open the connection of all threads, and commit now and then from now on."""
        self._shared, self._writer = self._connect(), threading.Lock()
        threading.Thread(target=self._commit_now_and_then, daemon=True).start()

    def _commit_now_and_then(self) -> None:
        while True:
            time.sleep(PUT_OFF)
            with self._writer:
                self._shared.commit()


def create_late(settings: Settings) -> AuthAPI:
    """The application, which answers before it commits."""
    app = create_app(settings)
    app.core.database.__class__ = LateDatabase
    app.core.database.spoil()  # type: ignore[attr-defined]
    return app


class SlowCookies(AuthAPI):
    """The application, which unquotes cookies as Python's http.cookies once did (CVE-2024-7592)."""

    def __call__(self, env: dict[str, Any], start_response: Callable[..., Any]) -> Any:  # noqa: ANN401 - WSGI's
        """Look for an octal escape in all that is left, at each backslash."""
        left = env.get("HTTP_COOKIE", "")
        while found := BACKSLASH.search(left):
            OCTAL.search(left)
            left = left[found.end() :]
        return super().__call__(env, start_response)


def create_slow(settings: Settings) -> AuthAPI:
    """The application, with slow cookies."""
    app = create_app(settings)
    app.__class__ = SlowCookies
    return app


def relax(level: str) -> None:
    """Have every connection commit with another PRAGMA synchronous."""
    connect = Database._connect  # noqa: SLF001 - to be taken apart is what it is here for

    def relaxed(database: Database) -> Any:  # noqa: ANN401 - a private class
        connection = connect(database)
        connection.execute(f"PRAGMA synchronous = {level}")
        return connection

    Database._connect = relaxed  # type: ignore[assignment,method-assign]  # noqa: SLF001


def main(how: str) -> None:
    """Serve until a signal."""
    run = partial(serve, Settings.from_env())
    if how == "late":
        run(create_late)
    elif how == "cookies":
        run(create_slow)
    else:
        relax(how)
        run()


if __name__ == "__main__":
    main(sys.argv[1])
