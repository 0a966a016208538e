"""The signing keys: what a key is, and where the keys come from.

In this package, `signing_keys` follows the key file while a process runs, `root` is the root key,
and `files` and `file_changes` read and replace the files of both.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from authapi.errors import StartError
from authapi.keys.files import KeyFile, KeySet, SymmetricKey
from authapi.secret_files import read_secret
from authapi.settings import DatabaseSettings, KeySettings, Settings, weak_key

ALGORITHM = "HS256"


class Key(SymmetricKey, frozen=True, kw_only=True):
    """A key of tokens.

    A key whose `key_ops` lack `sign` is prepared: it only verifies, until it begins to sign.
    """

    alg: str = ""
    use: str = "sig"
    key_ops: tuple[str, ...] = ("sign", "verify")

    @classmethod
    def of(cls, secret: bytes) -> Key:
        """Return the key of these bytes, named by a digest of them."""
        return msgspec.structs.replace(super().of(secret), alg=ALGORITHM)

    @property
    def signs(self) -> bool:
        """Return whether it may sign. The newest such key of a file does."""
        return "sign" in self.key_ops

    def fault(self) -> str | None:
        """Return what makes the key unfit, or None. PyJWT looks at neither `use` nor `key_ops`."""
        if (self.kty, self.alg) != ("oct", ALGORITHM):
            return f"is no {ALGORITHM} key (kty oct)"
        if self.use != "sig" or "verify" not in self.key_ops:
            return "is not for signing"
        return super().fault()


_KEY_FILE = KeyFile(
    name="The key file",
    setting="AUTHAPI_KEY_FILE",
    advice="mend it, or move it away to have a new one made (which ends all sessions)",
    kind=Key,
    decoder=msgspec.json.Decoder(KeySet[Key]),
    newest=lambda key: None if key.signs else "only verifies, and is the last one",
)


def lacks_keys(settings: Settings) -> bool:
    """Return whether `load_keys` is to make the key file."""
    keys = settings.of(KeySettings)
    return keys.has_key_file and not os.path.exists(keys.key_file)  # noqa: PTH110 - never raises


def require_shared_keys(settings: Settings) -> None:
    """Raise StartError where a key file is missing that all nodes of a database must have."""
    keys = settings.of(KeySettings)
    if not settings.of(DatabaseSettings).is_postgresql or not keys.has_key_file:
        return
    for name, file in (("KEY", keys.key_file), ("ROOT_KEY", keys.root_key_file)):
        if not os.path.exists(file):  # noqa: PTH110 - never raises
            raise StartError(
                f"There is no AUTHAPI_{name}_FILE {file}: all nodes of a PostgreSQL database need "
                "the same one, so copy it here (docs/operations.md has how to make the first)."
            )


def key_path(settings: Settings) -> Path | None:
    """Return the path of the key file; None where the key is a secret key."""
    keys = settings.of(KeySettings)
    return Path(keys.key_file).absolute() if keys.has_key_file else None


def load_keys(settings: Settings) -> list[Key]:
    """Return the keys of the settings, oldest first: the secret key, or those of the key file.

    Raises StartError for a file that cannot be read, that others can read, or with bad keys.
    """
    path = key_path(settings)
    if path is None:
        return [Key.of(with_secret_key(settings).of(KeySettings).secret_bytes)]
    return _KEY_FILE.load(path)


def read_keys(path: Path) -> list[Key]:
    """Return the keys of an existing key file, oldest first. Raises StartError."""
    return _KEY_FILE.read(path)


def change_keys(path: Path, change: Callable[[list[Key]], list[Key]]) -> list[Key]:
    """Replace the keys of a key file by what a function returns of them; return those.

    Raises StartError, and what the function raises.
    """
    return _KEY_FILE.change(path, change)


def with_secret_key(settings: Settings) -> Settings:
    """Return the settings with the secret key that their AUTHAPI_SECRET_KEY_FILE holds, if set.

    Newlines at its end do not count. The file may also belong to the database's owner: a command
    that root runs for them may have neither as its user. Raises StartError.
    """
    file = settings.of(KeySettings).secret_key_file
    if not file:
        return settings
    path = Path(file).absolute()
    owners = settings.of(DatabaseSettings).owners
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
    return settings.replace(secret_key=key.decode(errors="surrogateescape"), secret_key_file="")
