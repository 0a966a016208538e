"""The bodies of successful answers: the envelope, and the answer that shows a user.

A feature declares its own as subclasses of `Answer`. `docs/contract.md` is the same for people.
"""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache

import msgspec


@lru_cache(maxsize=1_024)
def http_date(seconds: int) -> str:
    """Return seconds since the epoch as `Tue, 16 Aug 2022 10:21:29 GMT` (RFC 9110, 5.6.7)."""
    return formatdate(seconds, usegmt=True)


class Answer(msgspec.Struct, kw_only=True):
    """The envelope of a success. `code` is the status, `timestamp` when it was made."""

    code: int = 200
    message: str
    timestamp: str = ""


class ShownUser(msgspec.Struct):
    """A user in an answer. The times are HTTP-dates. `email_verified` is there only with mail."""

    id: int
    username: str
    email: str
    created_at: str
    updated_at: str
    email_verified: bool | msgspec.UnsetType = msgspec.UNSET


class UserAnswer(Answer, kw_only=True):
    """An answer that shows a user."""

    user: ShownUser


class SignedInAnswer(UserAnswer, kw_only=True):
    """An answer that shows a user whose session has a new token.

    The token, and its expiry as an HTTP-date, are in the body only if the client asked for it.
    """

    token: str | msgspec.UnsetType = msgspec.UNSET
    expires_at: str | msgspec.UnsetType = msgspec.UNSET


class NobodyAnswer(Answer, kw_only=True):
    """An answer after which nobody is logged in."""

    user: None = None
