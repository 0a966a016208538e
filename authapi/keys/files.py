"""Files of symmetric keys, as JWK Sets (RFC 7517): made at the first start, and replaced whole."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Self, TypeVar

import msgspec

from authapi.errors import StartError
from authapi.keys.file_changes import only_writer, replace
from authapi.secret_files import GROUP, read_secret, synchronize
from authapi.settings import weak_key

NEW_KEY_LENGTH = 32  # bytes


class SymmetricKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A symmetric JWK (RFC 7517; RFC 7518, 6.4): `k` is the secret in base64url.

    `iat` is the second since the epoch in which it was made or began to sign.
    """

    kty: str
    kid: str
    k: str
    iat: int | msgspec.UnsetType = msgspec.UNSET  # OpenID Federation 1.0, 8.7.2

    def __repr__(self) -> str:
        """Show which key it is, and never the key."""
        return f"{type(self).__name__}(kid={self.kid!r})"

    @property
    def secret(self) -> bytes:
        """Return the secret bytes. Raises ValueError where `k` is not base64url."""
        return base64.b64decode(self.k + "=" * (-len(self.k) % 4), altchars=b"-_", validate=True)

    @classmethod
    def new(cls, now: float) -> Self:
        """Return a new random key, made in a second since the epoch."""
        return msgspec.structs.replace(cls.of(secrets.token_bytes(NEW_KEY_LENGTH)), iat=int(now))

    @classmethod
    def of(cls, secret: bytes) -> Self:
        """Return the key of these bytes, named by a digest of them."""
        encoded = base64.urlsafe_b64encode(secret).decode().rstrip("=")
        kid = hashlib.sha256(b"authapi kid" + secret).hexdigest()[:16]
        return cls(kty="oct", kid=kid, k=encoded)

    def fault(self) -> str | None:
        """Return what makes the key unfit, or None."""
        if self.kty != "oct":
            return "is not symmetric (kty oct)"
        try:
            return weak_key(self.secret)
        except ValueError:
            return "is not base64url"


AnyKey = TypeVar("AnyKey", bound=SymmetricKey)
Used = TypeVar("Used")


class KeySet(msgspec.Struct, Generic[AnyKey], frozen=True, omit_defaults=True):
    """The file's content: a JWK Set (RFC 7517, 5), oldest key first.

    NOTE: the `iat` of each key is beside the keys, by kid: releases up to 0.1 refuse a key that has
    a member which they do not know, and an update must leave the way back open.
    """

    keys: list[AnyKey]
    iat: dict[str, int] = {}

    @classmethod
    def of(cls, keys: list[AnyKey]) -> Self:
        """Return the content of a file with these keys."""
        times = {key.kid: key.iat for key in keys if isinstance(key.iat, int)}
        return cls(
            keys=[msgspec.structs.replace(key, iat=msgspec.UNSET) for key in keys], iat=times
        )

    def dated(self) -> list[AnyKey]:
        """Return the keys, each with its `iat`."""
        times = self.iat
        return [msgspec.structs.replace(key, iat=times.get(key.kid, key.iat)) for key in self.keys]


class KeyFile(msgspec.Struct, Generic[AnyKey], frozen=True):
    """A file of keys of one kind. The name, setting and advice are parts of error messages.

    `newest` returns what makes a key unfit to be the last one of the file, or None.
    """

    name: str
    setting: str
    advice: str
    kind: type[AnyKey]
    decoder: msgspec.json.Decoder[KeySet[AnyKey]]
    newest: Callable[[AnyKey], str | None] = lambda _: None

    def load(self, path: Path) -> list[AnyKey]:
        """Return the keys of the file, oldest first; make the file if there is none.

        Raises StartError for a file that cannot be read, that others can read, or with bad keys.
        """
        self._using(path, lambda: self._create(path))
        return self.read(path)

    def read(self, path: Path) -> list[AnyKey]:
        """Return the keys of an existing file, oldest first. Raises StartError, as `load` does."""
        text = self._using(path, lambda: read_secret(path, self.name, mended=GROUP))
        try:
            keys = self.decoder.decode(text).dated()
            self._check(keys)
        except ValueError as error:
            advice = self.advice
            if b'"keys"' not in text and not weak_key(text):
                advice = "name a key that is text in AUTHAPI_SECRET_KEY_FILE"
            raise StartError(f"{self.name} {path} is not usable, {error}: {advice}.") from error
        return keys

    def change(self, path: Path, change: Callable[[list[AnyKey]], list[AnyKey]]) -> list[AnyKey]:
        """Replace the keys by what a function returns of them, in one process after another.

        Return the keys. After a crash the file holds the older or the newer ones. Raises StartError
        for a file that cannot be read or replaced, and what the function raises.
        """

        def replaced() -> list[AnyKey]:
            with only_writer(real):
                keys = change(self.read(real))
                self._check(keys)
                replace(real, msgspec.json.encode(KeySet.of(keys)))
                return keys

        real = path.resolve()  # the name may be a link, which stays
        return self._using(path, replaced)

    def _using(self, path: Path, use: Callable[[], Used]) -> Used:
        """Return what a function returns. Raises StartError for its OSError."""
        try:
            return use()
        except OSError as error:
            raise StartError(
                f"{self.name} {path} cannot be used ({error.strerror}): let this user read and "
                f"write it, or set another {self.setting}."
            ) from error

    def _create(self, path: Path) -> None:
        """Create the file, with one random key, unless it exists.

        It appears whole or not at all. Of two first starts at once, one creates it.
        """
        if path.exists():
            return
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                key = self.kind.new(time.time())
                file.write(msgspec.json.encode(KeySet.of([key])))
                file.flush()
                os.fsync(descriptor)
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        synchronize(path.parent)

    def _check(self, keys: list[AnyKey]) -> None:
        """Raise ValueError, which says what is wrong with which key."""
        if not keys:
            raise ValueError("holds no key")
        for key in keys:
            if fault := key.fault():
                raise ValueError(f"holds a key ({key.kid!r}) that {fault}")
        if fault := self.newest(keys[-1]):
            raise ValueError(f"holds a key ({keys[-1].kid!r}) that {fault}")
        if len({key.kid for key in keys}) < len(keys):
            raise ValueError("holds two keys of one kid")
