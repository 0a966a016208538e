"""Signed tokens of any type, and the only module that knows JWT.

A feature declares its own type of token and its claims: `core.tokens.signed("device+jwt", Claims)`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

import jwt
import msgspec

from authapi.errors import InvalidToken
from authapi.keys import ALGORITHM, Key

LONGEST = 4_096  # bytes of a token

_JWS = jwt.PyJWS(algorithms=[ALGORITHM])
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # no padding


class Expiring(Protocol):
    """Claims with an expiry."""

    @property
    def exp(self) -> int:
        """Return the first second since the epoch in which the token is expired."""


Claims = TypeVar("Claims", bound=Expiring)


class KeyRing:
    """The signing keys for tokens of one type, oldest to newest: the newest signs, all verify.

    A ring accepts no token of another type (RFC 8725, 3.11).
    """

    def __init__(self, keys: list[Key], kind: str) -> None:
        """Take the keys and the type of the tokens, which their `typ` header says."""
        self._kind = kind
        self._newest = keys[-1]
        self._secrets = {key.kid: key.secret for key in keys}
        self._keys = {self._signed(key, b"").partition(".")[0]: key for key in keys}

    def sign(self, payload: bytes) -> str:
        """Return the compact JWS of a payload, signed by the newest key."""
        return self._signed(self._newest, payload)

    def knows(self, token: str) -> bool:
        """Return whether a token's first part is the header that one of the keys writes."""
        return token.partition(".")[0] in self._keys

    def verify(self, token: str) -> bytes:
        """Return the payload of a token that one of the keys signed. Raises InvalidToken.

        SECURITY: its first part must be the very header that the key's tokens have, so there is no
        `alg`, `jwk`, `jku`, `crit` or `typ` to play with. NOTE: a request may bring many tokens
        that are not ours, and this costs a microsecond for each.
        """
        key = self._keys.get(token.partition(".")[0])
        if key is None or len(token) > LONGEST or not _COMPACT.fullmatch(token):
            raise InvalidToken
        try:
            return bytes(_JWS.decode(token, self._secrets[key.kid], algorithms=[key.alg]))
        except jwt.PyJWTError as error:
            raise InvalidToken from error

    def _signed(self, key: Key, payload: bytes) -> str:
        header = {"alg": key.alg, "kid": key.kid, "typ": self._kind}
        return _JWS.encode(payload, self._secrets[key.kid], key.alg, headers=header)


class Signed(Generic[Claims]):
    """Issues and reads the tokens of one type.

    `remembered` is the number of tokens, of 1 KiB or less, whose claims a process keeps in memory,
    and of claims whose token it keeps. The expiry is checked at every read.
    """

    def __init__(self, ring: KeyRing, claims: type[Claims], *, remembered: int) -> None:
        """Take the ring that signs, and the claims: a frozen `msgspec.Struct`."""
        self._ring = ring
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(claims).decode
        self.issue = lru_cache(maxsize=remembered)(self._issue)
        self.claims = lru_cache(maxsize=remembered)(self._verified)

    def read(self, token: str, now: float) -> Claims:
        """Return the claims of a token of ours that has not expired. Raises InvalidToken."""
        claims = self.claims(token)
        if claims.exp <= now:
            raise InvalidToken
        return claims

    def verified(self, token: str) -> Claims | None:
        """Return the claims of a token, expired or not; None where it is not ours."""
        try:
            return self.claims(token)
        except InvalidToken:
            return None

    def names_our_key(self, token: str) -> bool:
        """Return whether a token has the header of our tokens of this type."""
        return self._ring.knows(token)

    def _issue(self, claims: Claims) -> str:
        """Return the token that carries these claims.

        NOTE: `issue` remembers it, because a client that goes on with an older session token gets
        the same newer one each time.
        """
        return self._ring.sign(self._encode(claims))

    def _verified(self, token: str) -> Claims:
        """Return the claims of a token of ours, expired or not. Raises InvalidToken.

        NOTE: `claims` remembers those of good tokens only.
        """
        payload = self._ring.verify(token)
        try:
            claims = self._decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidToken from error
        # SECURITY: only the very bytes that we write: no duplicate claims, no 1e9 for a time.
        if self._encode(claims) != payload:
            raise InvalidToken
        return claims


class Tokens:
    """The signing keys of an application, for the types of tokens that its parts declare."""

    def __init__(self, keys: list[Key]) -> None:
        """Take the keys, oldest to newest."""
        self._keys = keys
        self._kinds: set[str] = set()

    def signed(self, kind: str, claims: type[Claims], *, remembered: int = 0) -> Signed[Claims]:
        """Declare a type of token, such as `device+jwt`, by its claims.

        Raises ValueError for a type that is declared already.
        """
        if kind in self._kinds:
            raise ValueError(f"the token type {kind} is declared already: choose another")
        self._kinds.add(kind)
        return Signed(KeyRing(self._keys, kind), claims, remembered=remembered)
