"""Signed tokens of any type, and the only module that knows JWT.

A feature declares its own type of token and its claims: `core.tokens.signed("device+jwt", Claims)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from functools import lru_cache, partial
from typing import Any, Generic, Protocol, TypeVar

import jwt
import msgspec

from authapi.errors import InvalidToken
from authapi.keys import ALGORITHM, Key

LONGEST = 4_096  # bytes of a token

_JWS = jwt.PyJWS(algorithms=[ALGORITHM])
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # no padding


class Expiring(Hashable, Protocol):
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
        self._keys = {self._header(key): key for key in keys}
        one, other = (self._header(msgspec.structs.replace(keys[-1], kid=kid)) for kid in "0~")
        pairs = enumerate(zip(one, other, strict=True))
        self._beginning = one[: next(place for place, (a, b) in pairs if a != b)]

    def sign(self, payload: bytes) -> str:
        """Return the compact JWS of a payload, signed by the newest key."""
        return self._signed(self._newest, self._secrets[self._newest.kid], payload)

    def knows(self, token: str) -> bool:
        """Return whether a token's first part is the header that one of the keys writes."""
        return token.partition(".")[0] in self._keys

    def may_be_ours(self, token: str) -> bool:
        """Return whether a token begins as those of this type do, whatever key it names."""
        return token.startswith(self._beginning)

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

    def _header(self, key: Key) -> str:
        """Return the first part of the tokens that a key signs."""
        return self._signed(key, self._secrets[self._newest.kid], b"").partition(".")[0]

    def _signed(self, key: Key, secret: bytes, payload: bytes) -> str:
        header = {"alg": key.alg, "kid": key.kid, "typ": self._kind}
        return _JWS.encode(payload, secret, key.alg, headers=header)


class Signed(Generic[Claims]):
    """Issues and reads the tokens of one type.

    `remembered` is the number of tokens, of 1 KiB or less, whose claims a process keeps in memory,
    and of claims whose token it keeps. The expiry is checked at every read.
    """

    def __init__(
        self,
        ring: KeyRing,
        claims: type[Claims],
        refresh: Callable[[], None],
        *,
        remembered: int,
    ) -> None:
        """Take the ring, the claims (a frozen `msgspec.Struct`) and what looks for other keys."""
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder(claims).decode
        self._refresh = refresh
        self._remembered = remembered
        self.use(ring)

    def use(self, ring: KeyRing) -> None:
        """Sign and verify by another ring, and forget what was remembered of the former one.

        NOTE: each ring has memories of its own, so a thread that uses the former one meanwhile does
        not fill the new ones. `_ring` is set last: who sees it finds the new memories.
        """
        self.claims = lru_cache(maxsize=self._remembered)(partial(self._verified, ring))
        self.issued = lru_cache(maxsize=self._remembered)(partial(self._issued, ring))
        self._ring = ring

    def issue(self, claims: Claims) -> str:
        """Return the token that carries these claims, signed by the newest key of the key file."""
        self._refresh()
        return self.issued(claims)

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

    def _issued(self, ring: KeyRing, claims: Claims) -> str:
        """Return the token that carries these claims.

        NOTE: `issued` remembers it, because a client that goes on with an older session token gets
        the same newer one each time.
        """
        return ring.sign(self._encode(claims))

    def _verified(self, ring: KeyRing, token: str) -> Claims:
        """Return the claims of a token of ours, expired or not. Raises InvalidToken.

        A token that this ring refuses may be signed by a key that was added to the key file a
        moment ago. NOTE: `claims` remembers those of good tokens only.
        """
        try:
            payload = ring.verify(token)
        except InvalidToken:
            # SECURITY: made-up tokens cost a look at the file, less than those of a known key.
            if not ring.may_be_ours(token):
                raise
            self._refresh()
            if self._ring is ring:
                raise
            return self.claims(token)
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

    def __init__(self, keys: list[Key], refresh: Callable[[], None] = lambda: None) -> None:
        """Take the keys, oldest to newest, and what calls `use` where there are others by now."""
        self._keys = keys
        self._refresh = refresh
        self._kinds: dict[str, Signed[Any]] = {}

    def use(self, keys: list[Key]) -> None:
        """Sign and verify tokens of every type by other keys."""
        self._keys = keys
        for kind, signed in self._kinds.items():
            signed.use(KeyRing(keys, kind))

    def signed(self, kind: str, claims: type[Claims], *, remembered: int = 0) -> Signed[Claims]:
        """Declare a type of token, such as `device+jwt`, by its claims.

        Raises ValueError for a type that is declared already.
        """
        if kind in self._kinds:
            raise ValueError(f"the token type {kind} is declared already: choose another")
        ring = KeyRing(self._keys, kind)
        signed = Signed(ring, claims, self._refresh, remembered=remembered)
        self._kinds[kind] = signed
        return signed
