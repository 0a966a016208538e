"""A node of several on one PostgreSQL server, also with deliberate faults.

python -m faults.nodes ahead      its machine's clock is 60 s ahead
python -m faults.nodes own-clock  the same, and it does not use the server's clock
python -m faults.nodes slow       waits three seconds after it found a database without tables
python -m faults.nodes unlocked   the same, and it takes no lock before
"""

from __future__ import annotations

import sys
import time
from http.client import HTTPConnection, HTTPException
from typing import Any

from faults.harness import HOST, Service

AHEAD = 60  # seconds
SECRET = "8f2d1c6b7a90e35f4d2c1b0a9988776655443322110f1e2d3c4b5a6978"
LATEST = 5  # seconds of a test request


def node_environ(url: str) -> dict[str, str]:
    """Return the variables of a node on a database."""
    return {"AUTHAPI_DATABASE_URL": url, "AUTHAPI_SECRET_KEY": SECRET}


def is_ready(node: Service) -> bool:
    """Return whether a node can write: a login of nobody gets a 401."""
    connection = HTTPConnection(HOST, node.port, timeout=LATEST)
    body = '{"usernameOrEmail": "nobody", "password": "a password"}'
    try:
        connection.request("POST", "/login", body, {"Content-Type": "application/json"})
        return connection.getresponse().status == 401
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def spoil(fault: str) -> None:
    """Bring a fault into this process, before the service is imported."""
    if fault in {"ahead", "own-clock"}:
        right = time.time
        time.time = lambda: right() + AHEAD
    from authapi.database.postgresql import PostgreSQLDatabase  # noqa: PLC0415 - after the clock

    statements = PostgreSQLDatabase.statements

    def slow(self: PostgreSQLDatabase, name: str) -> Any:  # noqa: ANN401
        found = statements(self, name)
        return Slow(found, is_locked=fault == "slow") if name == "migrations" else found

    if fault == "own-clock":
        setattr(PostgreSQLDatabase, "clock", lambda _, local: local)  # noqa: B010
    if fault in {"slow", "unlocked"}:
        setattr(PostgreSQLDatabase, "statements", slow)  # noqa: B010


class Slow:
    """The statements of the migrations, the first of which is slow."""

    def __init__(self, statements: Any, *, is_locked: bool) -> None:  # noqa: ANN401
        """Take the statements themselves."""
        self._statements, self._is_locked = statements, is_locked

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Return a statement."""
        return getattr(self._statements, name)

    def lock(self) -> None:
        """Take the lock."""
        if self._is_locked:
            self._statements.lock()

    def has_ledger(self) -> bool:
        """Return whether the database has a ledger; wait three seconds where it has none."""
        found = bool(self._statements.has_ledger())
        if not found:
            time.sleep(3)
        return found


if __name__ == "__main__":
    spoil(sys.argv[1])
    from authapi.__main__ import main

    sys.exit(main(["serve"]))
