"""The signing keys: what a key is, and the file that holds them."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import stat
from pathlib import Path

import msgspec

from authapi.errors import StartError
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
    return not settings.secret_key and not os.path.exists(settings.key_file)  # noqa: PTH110 - never raises


def load_keys(settings: Settings) -> list[Key]:
    """The keys of the settings, oldest first: the secret key, or the key file, made if need be.

    Raises StartError for a file that cannot be read, that others can read, or with bad keys.
    """
    if settings.secret_key:
        return [Key.of(settings.secret_bytes)]
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
        keys = msgspec.json.decode(text, type=KeySet).keys
        _check(keys)
    except ValueError as error:
        raise StartError(
            f"The key file {path} is not usable, {error}: "
            "mend it, or move it away to have a new one made (which ends all sessions)."
        ) from error
    return keys


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
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read_private(path: Path) -> bytes:
    """The text of a file that only its owner can read. Raises StartError for any other."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise StartError(f"The key file {path} is no file: set another AUTHAPI_KEY_FILE.")
        if found.st_uid not in {0, os.geteuid()}:
            raise StartError(f"The key file {path} belongs to another user: chown it to this one.")
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o077:
            raise StartError(
                f"The key file {path} can be read by others (mode {mode:04o}): chmod 600 it."
            )
        return file.read()
