"""One-time tokens: the links and codes that are sent by mail.

A request begins a token; the thread that sends the mail asks for its secrets, which are derived
from the root key. The database holds their hashes alone.

Endpoints: none. Table: one_time_tokens.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field

import falcon

from authapi.core import Core
from authapi.events import Event, Restored
from authapi.features.claims import AccountClaimed
from authapi.features.sign_in import ProofRejected
from authapi.features.users import Credential, UserRepository
from authapi.jobs import pruning
from authapi.mailed_secrets import LONGEST, Begun, MailedSecrets, Purpose, Secrets, digest, parted
from authapi.outbox.delivery import Refused
from authapi.personal_data import PersonalData
from authapi.principal import User
from authapi.times import timestamp

__all__ = ["Begun", "InvalidLink", "OneTimeTokens", "Purpose", "Token"]

REQUIRES = ("claims", "sign_in", "users")

PRUNED_EVERY = 60  # seconds
MOST_TRIES = 5  # of a token's code
OUTDATED = "outdated"  # the purpose of the row that marks a change of a user's credentials


class InvalidLink(ProofRejected):
    """Raised for a link that does not count. It does not say why."""

    status, error, message = 400, "invalid_link", "The link is not valid, or no longer."

    def __init__(self) -> None:
        """Say the same of every such link in the log."""
        super().__init__("invalid_link")


@dataclass(frozen=True, slots=True)
class Token:
    """A token whose link or code was given. `data` is what its feature stored.

    `binding` is the digest of the secret of the browser that it is bound to, or None.
    """

    id: int
    purpose: Purpose
    user_id: int | None
    data: str = field(repr=False)
    binding: str | None = field(default=None, repr=False)

    @property
    def owner_id(self) -> int:
        """Return the id of its user. Raises InvalidLink for one that is nobody's."""
        if self.user_id is None:
            raise InvalidLink
        return self.user_id

    def is_bound_to(self, cookie: str) -> bool:
        """Return whether a cookie is of the browser that the token is bound to."""
        return hmac.compare_digest(self.binding or "", digest(parted(cookie)[1]))

    def is_named_by(self, cookie: str) -> bool:
        """Return whether a cookie was given with this token, not another of its browser."""
        return self.id == parted(cookie)[0]


class OneTimeTokens:
    """Begins, sends, finds and consumes one-time tokens."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._secrets = MailedSecrets(core.root)
        self._rows = core.database.statements("one_time_tokens")

    def begin(
        self,
        purpose: Purpose,
        *,
        user_id: int | None = None,
        data: str = "{}",
        is_bound: bool = False,
        cookie: str = "",
    ) -> Begun:
        """Add a token that waits for its mail, inside a transaction.

        A token that `is_bound` has a cookie: its code counts only in the browser that brings it.
        With the `cookie` of an older token of the same browser, it is bound as that one is. `data`
        is stored as it is, so it holds nothing that a link or a code is made of.
        """
        now = self._now()
        secret = (parted(cookie)[1] or secrets.token_urlsafe(32)) if is_bound else ""
        token_id = self._rows.insert(
            purpose=purpose.name,
            user_id=user_id,
            data=data,
            kid=self._core.root.newest,
            nonce=secrets.token_urlsafe(16),
            binding=digest(secret) if is_bound else None,
            now=now,
            expires_at=now + purpose.lifetime,
        )
        return Begun(token_id, f"{token_id}.{secret}" if is_bound else "")

    def send(
        self, purpose: Purpose, token_id: int, credential: Credential | None = None
    ) -> Secrets | None:
        """Return the secrets of a token, inside a transaction; the same each time.

        The first time, it becomes the user's with this credential, or nobody's, and its lifetime
        begins. Return None where the token must not be sent: it has ended, a newer one was sent to
        the user, or the credentials have changed since it was begun. Raises Refused for one of a
        root key that is not there.
        """
        now, user_id = self._now(), credential.user.id if credential else None
        row = self._rows.waiting(id=token_id, purpose=purpose.name, now=now)
        if row is None:
            return None
        if row[0] not in self._core.root.kids:
            raise Refused("the root key that it was begun with is not there", is_final=False)
        same = {"id": token_id, "user_id": user_id}
        if credential and not purpose.outlives_changes and self._rows.is_outdated(**same):
            return None
        if credential and not purpose.keeps_older:
            if self._rows.has_newer(purpose=purpose.name, **same):
                return None
            self._rows.replace_older(purpose=purpose.name, **same)
        made = self._secrets.derive(purpose.name, token_id, *row)
        is_versioned = credential and not purpose.outlives_changes
        sent = self._rows.send(
            version=credential.credentials_version if credential and is_versioned else None,
            link_hash=digest(made.link),
            code_hash=self._secrets.code_hash(row[0], token_id, made.code),
            now=now,
            expires_at=now + purpose.lifetime,
            **same,
        )
        return made if sent and self.find(purpose, made.link) else None

    def find(self, purpose: Purpose, link: str) -> Token | None:
        """Return the token of a link's secret, or None. It is not used up."""
        row = self._rows.by_link(link_hash=digest(link), purpose=purpose.name, now=self._now())
        return row and Token(row[0], purpose, *row[1:])

    def guess(
        self, purpose: Purpose, code: str, *, cookie: str = "", user_id: int | None = None
    ) -> Token | None:
        """Return the token of a code, or None. It is not used up.

        The token is that of a browser's cookie, or the newest of a user in a session. Not to be
        used inside a transaction.

        SECURITY: the try is counted, and kept, before the code is compared.
        """
        token_id, secret = parted(cookie)
        if user_id is not None:
            found = self._rows.newest(user_id=user_id, purpose=purpose.name, now=self._now())
            token_id = found or 0
        with self._core.database.transaction():
            row = token_id and self._rows.take_try(
                id=token_id,
                purpose=purpose.name,
                binding=digest(secret) if secret else "",
                user_id=user_id,
                tries=MOST_TRIES,
                now=self._now(),
            )
        if not row or row[0] not in self._core.root.kids:
            return None
        # SECURITY: something is compared for an unsent token too, so both take the same time.
        given = self._secrets.code_hash(row[0], token_id, code)
        is_right = hmac.compare_digest(given, row[1] or "-" * len(given))
        return Token(token_id, purpose, row[2], row[3]) if is_right else None

    def consume(self, token: Token) -> None:
        """Use up a token, inside the transaction of what it allows.

        Raises InvalidLink where it has been used or has ended meanwhile.
        """
        used = self._rows.consume(id=token.id, purpose=token.purpose.name, now=self._now())
        if used is None:
            raise InvalidLink

    def end(self, user_id: int, purpose: Purpose) -> None:
        """End a user's tokens of a purpose, inside a transaction."""
        self._rows.end_purpose(user_id=user_id, purpose=purpose.name)

    def end_newer(self, token: Token) -> None:
        """End all tokens of the same user that are newer, inside a transaction."""
        self._rows.end_newer(user_id=token.user_id, id=token.id)

    def end_of_user(self, event: Event) -> None:
        """End all tokens of an event's user, inside its transaction."""
        self._rows.end_of_user(user_id=event.user_id)

    def outdate(self, user_id: int) -> None:
        """Keep tokens of a user that wait for their mail from being sent, inside a transaction.

        SECURITY: a waiting token may get its user only when it is sent. So a row marks this moment:
        a token with a lower id is not sent to this user.
        """
        self._rows.end_purpose(user_id=user_id, purpose=OUTDATED)
        now = self._now()
        self._rows.mark(purpose=OUTDATED, user_id=user_id, now=now, expires_at=now + LONGEST)

    def end_all(self) -> None:
        """End every token, inside a transaction."""
        self._rows.end_all()

    def prune(self, at_most: int) -> int:
        """Delete up to `at_most` tokens that have expired; return how many."""
        return int(self._rows.prune(now=self._now(), at_most=at_most))

    def _now(self) -> int:
        return int(self._core.clock())


def _prune(core: Core, at_most: int) -> int:
    return core.of(OneTimeTokens).prune(at_most)


def _kept(core: Core, user: User) -> list[dict[str, object]]:
    rows = core.database.statements("one_time_tokens").of_user(user_id=user.id)
    names = ("purpose", "data", "created_at", "expires_at")
    return [dict(zip(names, (*row[:2], *map(timestamp, row[2:])), strict=True)) for row in rows]


PERSONAL_DATA = (PersonalData("one_time_tokens", ("one_time_tokens",), _kept),)
JOBS = (pruning("one_time_tokens", PRUNED_EVERY, _prune),)


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """End tokens when credentials change or an address is proved, and all after a restore.

    SECURITY: those that were used since the backup would count again.
    """
    tokens = core.of(OneTimeTokens)
    core.of(UserRepository).when_outdated(tokens.outdate)
    core.events.subscribe(tokens.end_of_user, AccountClaimed)
    core.events.subscribe(lambda _: tokens.end_all(), Restored)
