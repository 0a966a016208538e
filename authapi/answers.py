"""The bodies of successful answers: the envelope, and the answer that shows a user.

A feature declares its own as subclasses of `Answer`. `docs/contract.md` is the same for people.
"""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType


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
    email_verified: Annotated[bool | UnsetType, Meta(description="Only with mail.")] = UNSET


class UserAnswer(Answer, kw_only=True):
    """An answer that shows a user."""

    user: ShownUser


class SignedInAnswer(UserAnswer, kw_only=True):
    """An answer that shows a user whose session has a new token.

    The token, and its expiry as an HTTP-date, are in the body only if the client asked for it.
    """

    token: Annotated[
        str | UnsetType,
        Meta(description="The session's token, if the request has `Authapi-Token: body`."),
    ] = UNSET
    expires_at: Annotated[
        str | UnsetType, Meta(description="When the token expires; only with `token`.")
    ] = UNSET


class NobodyAnswer(Answer, kw_only=True):
    """An answer after which nobody is logged in."""

    user: None = None
