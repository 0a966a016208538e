"""The only module that knows JWT: the key ring, issuing a token, reading one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import secrets
import stat
from functools import lru_cache
from pathlib import Path

import jwt
import msgspec

from authapi.errors import InvalidToken, StartError
from authapi.settings import Settings, weak_key

ALGORITHM = "HS256"
TYPE = "session+jwt"  # explicit typing, RFC 8725, 3.11
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


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A symmetric JWK (RFC 7517; RFC 7518, 6.4): `k` is the secret in base64url."""

    kty: str
    kid: str
    alg: str
    k: str
    use: str = "sig"
    key_ops: tuple[str, ...] = ("sign", "verify")

    def __repr__(self) -> str:
        """Show which key it is, and never the key."""
        return f"Key(kid={self.kid!r})"

    @property
    def secret(self) -> bytes:
        """The bytes that sign. Raises ValueError where `k` is not base64url."""
        return base64.b64decode(self.k + "=" * (-len(self.k) % 4), altchars=b"-_", validate=True)

    @property
    def header(self) -> dict[str, str]:
        """The header of every token that this key signs, whole."""
        return {"alg": self.alg, "kid": self.kid, "typ": TYPE}

    @classmethod
    def of(cls, secret: bytes) -> Key:
        """The key of these bytes, named by a digest of them."""
        encoded = base64.urlsafe_b64encode(secret).decode().rstrip("=")
        kid = hashlib.sha256(b"authapi kid" + secret).hexdigest()[:16]
        return cls(kty="oct", kid=kid, alg=ALGORITHM, k=encoded)


class KeySet(msgspec.Struct, frozen=True):
    """The key file: a JWK Set (RFC 7517, 5), oldest key first; the last one signs."""

    keys: list[Key]


class KeyRing:
    """The signing keys, oldest to newest: the newest signs, all verify."""

    def __init__(self, keys: list[Key]) -> None:
        """Take the keys. Raises ValueError, which says what is wrong with which."""
        if not keys:
            raise ValueError("holds no key")
        for key in keys:
            if fault := _fault(key):
                raise ValueError(f"holds a key ({key.kid!r}) that {fault}")
        self._by_kid = {key.kid: key for key in keys}
        if len(self._by_kid) < len(keys):
            raise ValueError("holds two keys of one kid")
        self._secrets = {key.kid: key.secret for key in keys}
        self._newest = keys[-1]
        self.verify = lru_cache(maxsize=REMEMBERED)(self._verify)

    def sign(self, payload: bytes) -> str:
        """The compact JWS of a payload, by the newest key."""
        key = self._newest
        return _JWS.encode(payload, self._secrets[key.kid], key.alg, headers={**key.header})

    def _verify(self, token: str) -> bytes:
        """The payload of a token that one of the keys signed. Raises InvalidToken.

        NOTE: `verify` remembers good signatures. Expiry and the session are checked at every read.
        """
        if len(token) > LONGEST or not _COMPACT.fullmatch(token):
            raise InvalidToken
        try:
            # SECURITY: unverified, only to find the key; and it must be the very header that the
            # key's tokens have, so there is no `alg`, `jwk`, `jku`, `crit` or `typ` to play with.
            header = _JWS.get_unverified_header(token)
            key = self._by_kid.get(header.get("kid", ""))
            if key is None or header != key.header:
                raise InvalidToken
            return bytes(_JWS.decode(token, self._secrets[key.kid], algorithms=[key.alg]))
        except jwt.PyJWTError as error:
            raise InvalidToken from error

    @classmethod
    def load(cls, settings: Settings) -> KeyRing:
        """The ring of the settings: the one secret key, or the key file, made if there is none.

        Raises StartError for a file that cannot be read, that others can read, or with bad keys.
        """
        if settings.secret_key:
            return cls([Key.of(settings.secret_key.encode())])
        path = Path(settings.key_file).absolute()
        try:
            _create_key_file(path)
            text = _read_private(path)
        except OSError as error:
            raise StartError(
                f"The key file {path} cannot be used ({error.strerror}): let this user read and "
                "write it, or set another AUTHAPI_KEY_FILE."
            ) from error
        try:
            return cls(msgspec.json.decode(text, type=KeySet).keys)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
            raise StartError(
                f"The key file {path} is not usable, {error}: "
                "mend it, or move it away to have a new one made (which ends all sessions)."
            ) from error


class Tokens:
    """Issues the token of a session, and reads one that a client sent."""

    def __init__(self, ring: KeyRing) -> None:
        """Take the keys."""
        self._ring = ring
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(Claims)

    def issue(
        self, *, user_id: int, username: str, session_id: str, issued_at: int, expires_at: int
    ) -> str:
        """The token of a session, good until `expires_at` (seconds since the epoch)."""
        claims = Claims(
            id=user_id,
            username=username,
            sub=str(user_id),
            iat=issued_at,
            exp=expires_at,
            sid=session_id,
        )
        return self._ring.sign(self._encoder.encode(claims))

    def read(self, token: str, now: float) -> Claims:
        """The claims of a token of ours that has not expired. Raises InvalidToken.

        Whether its session lives is for the session's row to say.
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
        if claims.exp <= now:
            raise InvalidToken
        return claims


def _fault(key: Key) -> str | None:
    """What makes a key unfit, or None. PyJWT looks at neither `use` nor `key_ops`."""
    if (key.kty, key.alg) != ("oct", ALGORITHM):
        return f"is no {ALGORITHM} key (kty oct)"
    if key.use != "sig" or not {"sign", "verify"} <= set(key.key_ops):
        return "is not for signing"
    try:
        return weak_key(key.secret)
    except (ValueError, binascii.Error):
        return "is not base64url"


def _create_key_file(path: Path) -> None:
    """Make a key file with one key of 32 random bytes, unless there is a file already.

    The file appears whole or not at all: of two first starts at once, one makes it.
    """
    if path.exists():
        return
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(KeySet(keys=[Key.of(secrets.token_bytes(32))])))
            file.flush()
            os.fsync(descriptor)
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read_private(path: Path) -> bytes:
    """The text of a file that only its owner can read. Raises StartError for any other."""
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise StartError(
                f"The key file {path} can be read by others (mode {mode:04o}): chmod 600 it."
            )
        return file.read()
