"""Sessions: the row under each token, which every request is checked against.

Endpoints: none of its own. Table: sessions.
"""

from __future__ import annotations

import falcon

from authapi.core import Core
from authapi.errors import InvalidToken
from authapi.events import Caller, Event, Restored
from authapi.features.users import Credential, CredentialsChanged
from authapi.jobs import pruning
from authapi.principal import Assurance, Claims, Session, User
from authapi.session_tokens import Issued, SessionTokens, digest, new_secret
from authapi.settings import SessionSettings

REQUIRES = ("users",)

PRUNED_EVERY = 60  # seconds


class LoggedIn(Event):
    """A session was opened for an existing user."""

    __slots__ = ()


class LoggedOut(Event):
    """A session was ended by a logout in it."""

    __slots__ = ()


class Reauthenticated(Event):
    """A session was made fresh by a proof of its user."""

    __slots__ = ()


class SessionRevoked(Event):
    """A session was ended by another one, by a change of credentials, or as one too many."""

    __slots__ = ()


class SessionRepository:
    """The sessions table. Methods that write run inside transactions. Expired rows do not count."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._statements = core.database.statements("sessions")

    def insert(  # noqa: PLR0913 - a row
        self,
        session_id: str,
        credential: Credential,
        caller: Caller,
        *,
        now: int,
        expires_at: int,
        methods: str,
        second_factor_at: int | None,
    ) -> bool:
        """Add a session; return False for a user who has lost the credential by now."""
        added = self._statements.insert(
            id_hash=session_id,
            user_id=credential.user.id,
            password_version=credential.password_version,
            credentials_version=credential.credentials_version,
            now=now,
            expires_at=expires_at,
            ip=caller.ip,
            user_agent=caller.user_agent,
            methods=methods,
            second_factor_at=second_factor_at,
        )
        return bool(added)

    def authenticate(self, claims: Claims, now: float) -> Session | None:
        """Return the session of a token, or None if it ended or expired or its user is disabled."""
        id_hash = digest(claims.sid)
        row = self._statements.authenticate(id_hash=id_hash, user_id=claims.id, now=int(now))
        return row and Session(id_hash, User(*row[8:]), *row[:8])

    def of_user(self, user: User, now: float) -> list[Session]:
        """Return the sessions of a user, newest first.

        NOTE: to take a row apart by names takes half as long as by a slice.
        """
        rows = self._statements.of_user(user_id=user.id, now=int(now))
        return [
            Session(id_hash, user, created, proved, seen, expires, ip, agent, methods, second)
            for id_hash, created, proved, seen, expires, ip, agent, methods, second in rows
        ]

    def end_all(self) -> None:
        """End every session of every user."""
        self._statements.end_all()

    def renew(
        self, session_id: str, caller: Caller, *, seen_until: int, now: int, expires_at: int
    ) -> bool:
        """Move the expiry of a session last seen at `seen_until` or before."""
        renewed = self._statements.renew(
            id_hash=session_id,
            seen_until=seen_until,
            now=now,
            expires_at=expires_at,
            ip=caller.ip,
            user_agent=caller.user_agent,
        )
        return bool(renewed)

    def rotate(
        self, session: Session, new_id: str, assurance: Assurance, *, now: int, expires_at: int
    ) -> bool:
        """Give a session another id and make it fresh; return False where it has ended."""
        rotated = self._statements.rotate(
            id_hash=session.id,
            new_id_hash=new_id,
            now=now,
            expires_at=expires_at,
            methods=assurance.method_names(session.methods),
            second_factor_at=assurance.second_factor_at(now, session.second_factor_at),
        )
        return bool(rotated)

    def revoke(self, session_id: str, user_id: int, now: int) -> bool:
        """End a session of a user, also one that has expired. Return whether there was one.

        SECURITY: a clock that is ahead may be set back, and then the session would count again.
        """
        return bool(self._statements.revoke(id_hash=session_id, user_id=user_id, now=now))

    def revoke_all_but(self, kept: str | None, user_id: int, now: int) -> list[str]:
        """End all sessions of a user, or all but one; return the ids of those that were live."""
        rows = self._statements.revoke_all_but(user_id=user_id, kept=kept, now=now)
        return [session_id for session_id, was_live in rows if was_live]

    def revoke_unused(self, user_id: int, *, kept: int, now: int) -> list[str]:
        """End the longest unused sessions of a user until `kept` are left; return their ids."""
        rows = self._statements.revoke_unused(user_id=user_id, kept=kept, now=now)
        return [session_id for (session_id,) in rows]

    def exist(self, now: float) -> bool:
        """Return whether anybody has a session."""
        return bool(self._statements.exist(now=int(now)))

    def prune(self, now: float, at_most: int) -> int:
        """Delete up to `at_most` expired sessions, the oldest first; return how many."""
        return int(self._statements.prune(now=int(now), at_most=at_most))


class Sessions:
    """Opens, rotates and ends sessions, and emits their events."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._tokens = core.of(SessionTokens)
        self._settings = core.settings.of(SessionSettings)
        self._rows = core.of(SessionRepository)
        self.authenticate = self._rows.authenticate
        self.of_user = self._rows.of_user

    def open(self, credential: Credential, assurance: Assurance, caller: Caller) -> Issued | None:
        """Open a session, inside a transaction.

        Where the user has too many, the longest unused one ends. Return None for a user who was
        deleted or disabled, or got another password, a moment ago. Only SignIn calls this.
        """
        user, now = credential.user, self._now()
        secret = new_secret()
        expires_at = self.expiry(now, now)
        ended = self._rows.revoke_unused(user.id, kept=self._settings.max_sessions - 1, now=now)
        self._tell(ended, user.id, caller)
        if not self._rows.insert(
            digest(secret),
            credential,
            caller,
            now=now,
            expires_at=expires_at,
            methods=assurance.method_names(),
            second_factor_at=assurance.second_factor_at(now),
        ):
            return None
        return self._tokens.issue_for(user, secret, issued_at=now, expires_at=expires_at)

    def expiry(self, now: int, created_at: int) -> int:
        """Return the end of a session that is used now: the idle timeout, or the longest life."""
        settings = self._settings
        return min(now + settings.session_lifetime, created_at + settings.session_max_lifetime)

    def require(self, claims: Claims) -> None:
        """Raise InvalidToken if the session of these claims has ended, inside a transaction.

        SECURITY: it may have ended while its request waited for the writer lock.
        """
        if self.authenticate(claims, self._core.clock()) is None:
            raise InvalidToken

    def rotate(self, session: Session, assurance: Assurance) -> Issued:
        """Give a session a new secret, inside a transaction, and make it fresh (ASVS 7.2.4).

        The token that it had is dead. Raises InvalidToken where the session has ended meanwhile.
        """
        secret, now = new_secret(), self._now()
        new_id, expires_at = digest(secret), self.expiry(now, session.created_at)
        if not self._rows.rotate(session, new_id, assurance, now=now, expires_at=expires_at):
            raise InvalidToken
        return self._tokens.issue_for(session.user, secret, issued_at=now, expires_at=expires_at)

    def end(self, session_id: str, user_id: int) -> bool:
        """End one session of a user, inside a transaction. Return whether there was one."""
        return self._rows.revoke(session_id, user_id, self._now())

    def end_others(self, user_id: int, caller: Caller, kept: str | None) -> int:
        """End all sessions of a user, or all but one, inside a transaction; return how many."""
        ended = self._rows.revoke_all_but(kept, user_id, self._now())
        self._tell(ended, user_id, caller)
        return len(ended)

    def _tell(self, ended: list[str], user_id: int, caller: Caller) -> None:
        for session_id in ended:
            self._core.events.emit(SessionRevoked(user_id, caller, session_id))

    def _now(self) -> int:
        return int(self._core.clock())


def _prune(core: Core, at_most: int) -> int:
    return core.of(SessionRepository).prune(core.clock(), at_most)


JOBS = (pruning("sessions", PRUNED_EVERY, _prune),)


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """End the other sessions where a user's credentials change, and all after a restore."""
    sessions, repository = core.of(Sessions), core.of(SessionRepository)

    def end_others(event: Event) -> None:
        if event.user_id is not None:
            sessions.end_others(event.user_id, event.caller, kept=event.session_id)

    core.events.subscribe(end_others, CredentialsChanged)
    core.events.subscribe(lambda _: repository.end_all(), Restored)
