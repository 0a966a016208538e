"""The signing keys: what a key is, and the file that holds them."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from dataclasses import replace
from pathlib import Path

import msgspec

from authapi.errors import StartError
from authapi.files import synchronize
from authapi.secret_files import GROUP, read_secret
from authapi.settings import Settings, weak_key

ALGORITHM = "HS256"


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

    @classmethod
    def of(cls, secret: bytes) -> Key:
        """The key of these bytes, named by a digest of them."""
        encoded = base64.urlsafe_b64encode(secret).decode().rstrip("=")
        kid = hashlib.sha256(b"authapi kid" + secret).hexdigest()[:16]
        return cls(kty="oct", kid=kid, alg=ALGORITHM, k=encoded)


class KeySet(msgspec.Struct, frozen=True):
    """The key file: a JWK Set (RFC 7517, 5), oldest key first; the last one signs."""

    keys: list[Key]


def lacks_keys(settings: Settings) -> bool:
    """Whether `load_keys` is to make the key file."""
    return settings.has_key_file and not os.path.exists(settings.key_file)  # noqa: PTH110 - never raises


def load_keys(settings: Settings) -> list[Key]:
    """The keys of the settings, oldest first: the secret key, or the key file, made if need be.

    Raises StartError for a file that cannot be read, that others can read, or with bad keys.
    """
    if not settings.has_key_file:
        return [Key.of(with_secret_key(settings).secret_bytes)]
    path = Path(settings.key_file).absolute()
    try:
        _create_key_file(path)
        text = read_secret(path, "The key file", mended=GROUP)
    except OSError as error:
        raise StartError(
            f"The key file {path} cannot be used ({error.strerror}): let this user read and "
            "write it, or set another AUTHAPI_KEY_FILE."
        ) from error
    try:
        keys = msgspec.json.decode(text, type=KeySet).keys
        _check(keys)
    except ValueError as error:
        advice = "mend it, or move it away to have a new one made (which ends all sessions)"
        if b'"keys"' not in text and not weak_key(text):
            advice = "name a key that is text in AUTHAPI_SECRET_KEY_FILE"
        raise StartError(f"The key file {path} is not usable, {error}: {advice}.") from error
    return keys


def with_secret_key(settings: Settings) -> Settings:
    """The settings with the secret key that their AUTHAPI_SECRET_KEY_FILE holds, if it is set.

    Newlines at its end do not count. The file may belong to the database's owner, too: root, who
    runs a command for them, may be none of both. Raises StartError.
    """
    if not settings.secret_key_file:
        return settings
    path = Path(settings.secret_key_file).absolute()
    database = settings.database_path
    owners = [database.stat().st_uid] if database.exists() else []
    try:
        key = read_secret(path, "The secret key file", owners=owners).rstrip(b"\r\n")
    except OSError as error:
        raise StartError(
            f"The secret key file {path} cannot be read ({error.strerror}): let this user read it, "
            "or set another AUTHAPI_SECRET_KEY_FILE."
        ) from error
    fault = weak_key(key)
    if key.lstrip().startswith(b"{"):
        fault = "holds a JWK Set: name it in AUTHAPI_KEY_FILE"
    if fault:
        raise StartError(f"The secret key file {path} {fault}.")
    return replace(settings, secret_key=key.decode(errors="surrogateescape"), secret_key_file="")


def _check(keys: list[Key]) -> None:
    """Raise ValueError, which says what is wrong with which key."""
    if not keys:
        raise ValueError("holds no key")
    for key in keys:
        if fault := _fault(key):
            raise ValueError(f"holds a key ({key.kid!r}) that {fault}")
    if len({key.kid for key in keys}) < len(keys):
        raise ValueError("holds two keys of one kid")


def _fault(key: Key) -> str | None:
    """What makes a key unfit, or None. PyJWT looks at neither `use` nor `key_ops`."""
    if (key.kty, key.alg) != ("oct", ALGORITHM):
        return f"is no {ALGORITHM} key (kty oct)"
    if key.use != "sig" or not {"sign", "verify"} <= set(key.key_ops):
        return "is not for signing"
    try:
        return weak_key(key.secret)
    except ValueError:
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
    synchronize(path.parent)
