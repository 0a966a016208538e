"""The service with deliberate faults, to check that the scripts can fail.

python -m faults.spoilt late      answers first, and commits every half second
python -m faults.spoilt NORMAL    commits with that PRAGMA synchronous
python -m faults.spoilt cookies   takes quadratic time over a cookie
python -m faults.spoilt patient   waits for a PostgreSQL server for half a minute
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from authapi import AuthAPI, Settings, create_app
from authapi.database.sqlite import SQLiteDatabase
from authapi.database.sqlite.connections import Connection, Connections
from authapi.server import serve

PUT_OFF = 0.5  # seconds
BACKSLASH, OCTAL = re.compile(r"\\."), re.compile(r"\\[0-3][0-7][0-7]")


class OneConnection(Connections):
    """One connection for all threads, which sees uncommitted changes."""

    shared: Connection

    @property
    def current(self) -> Connection:
        """Return the connection of all threads."""
        return self.shared


class LateDatabase(SQLiteDatabase):
    """A database whose changes are committed some time after the answer."""

    _writer: threading.Lock

    @contextmanager
    def transaction(
        self,
        patience: float | None = None,  # noqa: ARG002
        *,
        of: int | Iterable[int] | None = None,  # noqa: ARG002
        at_once: bool = True,  # noqa: ARG002
    ) -> Iterator[None]:
        """Leave the change to the next commit."""
        shared = self.connections.current
        with self._writer:
            if not shared.in_transaction:
                shared.execute("BEGIN IMMEDIATE")
            shared.execute("SAVEPOINT change")
            try:
                yield
            except BaseException:
                shared.execute("ROLLBACK TO change")
                raise
            finally:
                shared.execute("RELEASE change")

    def after_commit(self, action: Callable[[], None]) -> None:
        """Do not wait for the commit."""
        action()

    def prepare_to_fork(self) -> None:
        """Keep the connection, because nothing forks here."""

    def spoil(self) -> None:
        """Share this thread's connection, and commit now and then from now on."""
        shared, self._writer = self.connections.current, threading.Lock()
        self.connections.__class__ = OneConnection
        self.connections.shared = shared  # type: ignore[attr-defined]
        threading.Thread(target=self._commit_now_and_then, daemon=True).start()

    def _commit_now_and_then(self) -> None:
        while True:
            time.sleep(PUT_OFF)
            with self._writer:
                self.connections.current.commit()


def create_late(settings: Settings) -> AuthAPI:
    """Return the application, which answers before it commits."""
    app = create_app(settings)
    app.core.database.__class__ = LateDatabase
    app.core.database.spoil()  # type: ignore[attr-defined]
    return app


class SlowCookies(AuthAPI):
    """The application with cookies unquoted as Python's http.cookies once did (CVE-2024-7592)."""

    def __call__(self, env: dict[str, Any], start_response: Callable[..., Any]) -> Any:  # noqa: ANN401 - WSGI's
        """Search all that is left for an octal escape, at each backslash."""
        left = env.get("HTTP_COOKIE", "")
        while found := BACKSLASH.search(left):
            OCTAL.search(left)
            left = left[found.end() :]
        return super().__call__(env, start_response)


def create_slow(settings: Settings) -> AuthAPI:
    """Return the application with slow cookies."""
    app = create_app(settings)
    app.__class__ = SlowCookies
    return app


def create_patient(settings: Settings) -> AuthAPI:
    """Return the application, with deadlines that nobody would wait for."""
    from authapi.database.postgresql.connections import Deadlines  # noqa: PLC0415 - psycopg's

    app = create_app(settings)
    deadlines = Deadlines(connect=30, change=30, check=30)
    app.core.database.deadlines = deadlines  # type: ignore[attr-defined]
    return app


def relax(level: str) -> None:
    """Make every connection commit with another PRAGMA synchronous."""
    Connections.setup += f"PRAGMA synchronous = {level};"


def main(how: str) -> None:
    """Serve until a signal."""
    run = partial(serve, Settings.from_env())
    if how == "late":
        run(create_late)
    elif how == "cookies":
        run(create_slow)
    elif how == "patient":
        run(create_patient)
    else:
        relax(how)
        run()


if __name__ == "__main__":
    main(sys.argv[1])
