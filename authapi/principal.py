"""Principals: who sends a request, in which session, and what a resource may ask of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import falcon
import msgspec

from authapi.errors import EmailNotVerified, FreshLoginRequired, StrongLoginRequired

FRESH_FOR = 300  # seconds
ISSUER = AUDIENCE = "authapi"


class Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of a session's token: the documented `id` and `username`, and registered claims.

    Times are seconds since the epoch; `sid` is the session's secret id, 256 bits in base64url.
    Raises ValueError for an issuer, an audience or a subject that is not ours.
    """

    id: int
    username: str
    sub: str
    iat: int
    exp: int
    sid: str
    iss: str = ISSUER
    aud: str = AUDIENCE

    def __post_init__(self) -> None:
        """Compare what RFC 7519 says twice."""
        if (self.iss, self.aud, self.sub) != (ISSUER, AUDIENCE, str(self.id)):
            raise ValueError("the claims of another issuer, audience or subject")


class User(msgspec.Struct, frozen=True):
    """A user, as shown. Times are seconds since the epoch."""

    id: int
    username: str
    email: str
    created_at: int
    updated_at: int
    email_verified_at: int | None = None

    @property
    def email_verified(self) -> bool:
        """Return whether the user has proved that they receive the mail of this address."""
        return self.email_verified_at is not None


class Account(User, frozen=True):
    """A user as an operator sees them. `disabled_at` is None where they may log in."""

    disabled_at: int | None = None

    @property
    def disabled(self) -> bool:
        """Return whether the user was disabled: they cannot log in, and have no session."""
        return self.disabled_at is not None


class Session(msgspec.Struct, frozen=True):
    """A live session. Times are seconds since the epoch.

    Its public `id` is the SHA-256, in hexadecimal, of the secret id that the token carries.
    `method_names` are the names of `methods`, with a space between two. `second_factor_at` is None
    for a user without a second factor, and 0 where the user has one and did not give it.
    """

    id: str
    user: User
    created_at: int
    authenticated_at: int
    last_seen_at: int
    expires_at: int
    ip: str
    user_agent: str
    method_names: str = "pwd"
    second_factor_at: int | None = None

    @property
    def methods(self) -> frozenset[str]:
        """Return how the user has signed in: names of RFC 8176, such as `pwd` or `otp`."""
        return frozenset(self.method_names.split())

    @property
    def aal(self) -> int:
        """Return 2 where a second factor was given in this session, else 1 (NIST SP 800-63B)."""
        return 2 if self.second_factor_at else 1

    def is_fresh(self, now: float) -> bool:
        """Return whether the user gave a proof within FRESH_FOR seconds (ASVS 7.5.1).

        SECURITY: after a clock is set back by more than that, a session is not fresh until the
        clock reaches the earlier time again.
        """
        return abs(now - self.authenticated_at) < FRESH_FOR

    def is_strong(self, now: float) -> bool:
        """Return whether the user gave the second factor within FRESH_FOR seconds.

        For a user without one it is the same as `is_fresh`.
        """
        if self.second_factor_at is None:
            return self.is_fresh(now)
        return abs(now - self.second_factor_at) < FRESH_FOR

    def require_fresh(self, now: float) -> None:
        """Raise FreshLoginRequired if the last proof was given too long ago."""
        if not self.is_fresh(now):
            raise FreshLoginRequired

    def require_strong(self, now: float) -> None:
        """Raise StrongLoginRequired, or FreshLoginRequired for a user without a second factor."""
        if not self.is_strong(now):
            raise FreshLoginRequired if self.second_factor_at is None else StrongLoginRequired


@dataclass(frozen=True, slots=True)
class Assurance:
    """The methods by which a user has proved who they are (names of RFC 8176, such as `pwd`).

    `second_factor` is True if a second factor was given too, False if the user has one that was not
    asked for, as on a trusted browser, and None if this proof does not tell.
    """

    methods: frozenset[str]
    second_factor: bool | None = None

    def method_names(self, before: frozenset[str] = frozenset()) -> str:
        """Return these methods, and those of before, as `Session.method_names`."""
        return " ".join(sorted(self.methods | before))

    def second_factor_at(self, now: int, before: int | None = None) -> int | None:
        """Return the `Session.second_factor_at` after this proof; `before` is the one until now."""
        if self.second_factor:
            return now
        return before or 0 if self.second_factor is False else before


class Principal(msgspec.Struct, frozen=True):
    """The sender of a request: a user, in a live session, by a token with these claims."""

    # NOTE: each session check makes one, and a dataclass takes ten times as long to make

    user: User
    session: Session
    claims: Claims

    def __repr__(self) -> str:
        """Show whose session it is, and never the claims, which hold its secret."""
        return f"Principal(user={self.user!r}, session={self.session!r})"


Need = Callable[[Principal, float], None]


def fresh(principal: Principal, now: float) -> None:
    """Raise FreshLoginRequired if the last proof was given too long ago.

    A resource that says `needs = (fresh,)` is reached by fresh sessions only. A need of your own is
    a function like this one: it gets the principal and the time, in seconds since the epoch, and
    raises a Failure.
    """
    principal.session.require_fresh(now)


def strong(principal: Principal, now: float) -> None:
    """Raise StrongLoginRequired if the user has a second factor and gave it too long ago.

    For a user without a second factor this is the same as `fresh`.
    """
    principal.session.require_strong(now)


def verified(principal: Principal, _now: float) -> None:
    """Raise EmailNotVerified unless the user has proved the address. Needs mail."""
    if not principal.user.email_verified:
        raise EmailNotVerified


def principal_of(req: falcon.Request) -> Principal:
    """Return who sends a request. Raises LookupError where the resource is public."""
    try:
        principal: Principal = req.context.principal
    except AttributeError:
        raise LookupError("the resource is public: nobody was authenticated") from None
    return principal
