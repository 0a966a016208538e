"""Sessions: the row under each token, which every request is checked against.

Endpoints: none yet. Table: sessions.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

import falcon

from authapi.core import Core
from authapi.database import Database
from authapi.errors import InvalidCredentials
from authapi.features.accounts import User
from authapi.tokens import Claims

REQUIRES = ("accounts",)

PRUNED_AT_ONCE = 100  # rows; a login ends at most so many expired sessions


@dataclass(frozen=True, slots=True)
class Session:
    """A live session and its user; times are seconds since the epoch."""

    created_at: int
    expires_at: int
    user: User


class SessionRepository:
    """The sessions table. A session's id is a secret; only its SHA-256 is kept."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._statements = database.statements("sessions")

    def insert(self, session_id: str, user_id: int, *, created_at: int, expires_at: int) -> bool:
        """Add a session, inside a transaction; False for a user who is gone or disabled by now."""
        added = self._statements.insert(
            id_hash=_digest(session_id),
            user_id=user_id,
            created_at=created_at,
            expires_at=expires_at,
        )
        return bool(added)

    def authenticate(self, claims: Claims, now: float) -> Session | None:
        """The session of a token, or None where it is revoked, expired or its user disabled."""
        row = self._statements.authenticate(id_hash=_digest(claims.sid), user_id=claims.id, now=now)
        return row and Session(created_at=row[0], expires_at=row[1], user=User(*row[2:]))

    def revoke(self, session_id: str) -> bool:
        """End a session, inside a transaction; False where there was none."""
        return bool(self._statements.revoke(id_hash=_digest(session_id)))

    def prune(self, now: int) -> None:
        """Delete expired sessions, the oldest first, inside a transaction."""
        self._statements.prune(now=now, at_most=PRUNED_AT_ONCE)


def open_session(core: Core, sessions: SessionRepository, user: User) -> str:
    """Open a session for a user, inside a transaction, and give its token.

    Raises InvalidCredentials for a user who was deleted or disabled a moment ago.
    """
    now = int(core.clock())
    expires_at = now + core.settings.session_lifetime
    session_id = secrets.token_urlsafe(32)  # 256 bits
    sessions.prune(now)
    if not sessions.insert(session_id, user.id, created_at=now, expires_at=expires_at):
        raise InvalidCredentials
    return core.tokens.issue(
        user_id=user.id,
        username=user.username,
        session_id=session_id,
        issued_at=now,
        expires_at=expires_at,
    )


def _digest(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add no routes yet."""
