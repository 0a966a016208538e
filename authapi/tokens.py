"""The only module that knows JWT: signing with the key ring, issuing a token, reading one."""

from __future__ import annotations

import re
from functools import lru_cache

import jwt
import msgspec

from authapi.errors import InvalidToken
from authapi.keys import ALGORITHM, Key

ISSUER = AUDIENCE = "authapi"
LONGEST = 4_096  # bytes of a token
REMEMBERED = 1_024  # tokens, of 1 KiB or less

_JWS = jwt.PyJWS(algorithms=[ALGORITHM])
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # no padding


class Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload: `id` and `username` as documented, and the registered claims.

    Times are seconds since the epoch; `sid` is the session's secret id, 256 bits in base64url.
    """

    id: int
    username: str
    sub: str
    iat: int
    exp: int
    sid: str
    iss: str = ISSUER
    aud: str = AUDIENCE


class DeviceClaims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of a device token: whose browser it is, which one, and until when.

    `ver` is the version of the password that was given there.
    """

    sub: str
    jti: str
    ver: int
    exp: int


class KeyRing:
    """The signing keys, oldest to newest: the newest signs, all verify.

    A ring signs tokens of one type (RFC 8725, 3.11), and takes no others.
    """

    def __init__(self, keys: list[Key], kind: str) -> None:
        """Take the keys, and the type of the tokens."""
        self._kind = kind
        self._newest = keys[-1]
        self._secrets = {key.kid: key.secret for key in keys}
        self._keys = {self._signed(key, b"").partition(".")[0]: key for key in keys}

    def sign(self, payload: bytes) -> str:
        """The compact JWS of a payload, by the newest key."""
        return self._signed(self._newest, payload)

    def knows(self, token: str) -> bool:
        """Return whether a token's first part is the header that one of the keys writes."""
        return token.partition(".")[0] in self._keys

    def verify(self, token: str) -> bytes:
        """The payload of a token that one of the keys signed. Raises InvalidToken.

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


class Tokens:
    """Issues the tokens of sessions and devices, and reads those that a client sent."""

    def __init__(self, keys: list[Key]) -> None:
        """Take the keys, oldest to newest."""
        self._ring = KeyRing(keys, "session+jwt")
        self._devices = KeyRing(keys, "device+jwt")
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Claims)
        self.issue = lru_cache(maxsize=REMEMBERED)(self._issue)
        self._claims = lru_cache(maxsize=REMEMBERED)(self._verified)

    def _issue(self, claims: Claims) -> str:
        """The token that carries these claims.

        NOTE: `issue` remembers them, for a client that goes on with an older token is answered with
        the same newer one each time.
        """
        return self._ring.sign(self._encoder.encode(claims))

    def read(self, token: str, now: float) -> Claims:
        """The claims of a token of ours that has not expired. Raises InvalidToken.

        Whether its session lives is for the session's row to say.
        """
        claims = self._claims(token)
        if claims.exp <= now:
            raise InvalidToken
        return claims

    def _verified(self, token: str) -> Claims:
        """The claims of a token of ours, expired or not. Raises InvalidToken.

        NOTE: `_claims` remembers those of good tokens. Expiry and the session are checked at every
        read.
        """
        payload = self._ring.verify(token)
        try:
            claims = self._decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidToken from error
        # SECURITY: only the very bytes that we write: no duplicate claims, no 1e9 for a time.
        if self._encoder.encode(claims) != payload:
            raise InvalidToken
        if (claims.iss, claims.aud, claims.sub) != (ISSUER, AUDIENCE, str(claims.id)):
            raise InvalidToken
        return claims

    def signed(self, token: str) -> Claims | None:
        """Return the claims of a session's token, expired or not; None where it is not ours."""
        try:
            return self._claims(token)
        except InvalidToken:
            return None

    def names_our_key(self, token: str) -> bool:
        """Return whether a token has the header of a session's token of ours."""
        return self._ring.knows(token)

    def issue_device(self, claims: DeviceClaims) -> str:
        """The token by which a browser is known again."""
        return self._devices.sign(self._encoder.encode(claims))

    def read_device(self, token: str, now: float) -> DeviceClaims:
        """The claims of a device token of ours that has not expired. Raises InvalidToken."""
        payload = self._devices.verify(token)
        try:
            claims = msgspec.json.decode(payload, type=DeviceClaims)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidToken from error
        if claims.exp <= now:
            raise InvalidToken
        return claims
