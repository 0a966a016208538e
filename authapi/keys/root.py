"""The root key, from which the secrets are derived that must outlive the signing keys.

A secret that the service has to know again, such as the one in a mailed link, is derived and not
stored. So a copy of the database alone does not hold it.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import msgspec

from authapi.keys import Key
from authapi.keys.files import KeyFile, KeySet, SymmetricKey
from authapi.settings import KeySettings, Settings

_SALT = b"authapi root key"
_DIGEST_LENGTH = 32  # bytes


class RootKey(SymmetricKey, frozen=True, kw_only=True):
    """A key from which others are derived."""

    key_ops: tuple[str, ...] = ("deriveBits",)

    def fault(self) -> str | None:
        """Return what makes the key unfit, or None."""
        return super().fault() or (
            None if "deriveBits" in self.key_ops else "is not for deriving others (deriveBits)"
        )


_ROOT_KEY_FILE = KeyFile(
    name="The root key file",
    setting="AUTHAPI_ROOT_KEY_FILE",
    advice="restore it from a backup, or move it away to have a new one made "
    "(nothing that was derived from the old one counts then)",
    kind=RootKey,
    decoder=msgspec.json.Decoder(KeySet[RootKey]),
)


class Root:
    """Derives secrets from the root keys, oldest to newest."""

    def __init__(self, keys: list[RootKey]) -> None:
        """Take the keys, oldest to newest."""
        self._keys = {key.kid: hkdf_extract(_SALT, key.secret) for key in keys}
        self.newest = keys[-1].kid
        self.kids = list(self._keys)

    def derive(self, kid: str, purpose: str, *parts: str | bytes | int, length: int = 32) -> bytes:
        """Return the `length` bytes of a purpose and its parts (HKDF-SHA-256, RFC 5869).

        `kid` names the root key. For a new secret it is `newest`, which must be stored with it. Two
        different lists of parts give different bytes, `1` and `"1"` too. Raises LookupError for a
        root key that is not in the file.
        """
        info = b"".join(map(_encoded, (purpose, *parts)))
        return hkdf_expand(self._keys[kid], info, length)


def load_root(settings: Settings, keys: list[Key]) -> Root:
    """Return the root of the settings; make the root key file if there is none.

    Where the signing key is a secret key, the root key is derived from it, unless the settings name
    a root key file. Raises StartError for a file that cannot be read, that others can read, or with
    bad keys.
    """
    file = settings.of(KeySettings).root_key_file
    if file:
        return Root(_ROOT_KEY_FILE.load(Path(file).absolute()))
    secret = hkdf_expand(hkdf_extract(_SALT, keys[-1].secret), b"of a secret key", 32)
    return Root([RootKey.of(secret)])


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    """Return the pseudorandom key of a secret (RFC 5869, 2.2)."""
    return hmac.digest(salt, secret, hashlib.sha256)


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """Return `length` bytes from a pseudorandom key (RFC 5869, 2.3).

    Raises ValueError where they are more than 8,160.
    """
    derived = block = b""
    for number in range(1, -(-length // _DIGEST_LENGTH) + 1):
        block = hmac.digest(key, block + info + bytes([number]), hashlib.sha256)
        derived += block
    return derived[:length]


def _encoded(part: str | bytes | int) -> bytes:
    """Return a part with its type and length: no two lists of parts are encoded alike."""
    if isinstance(part, bytes):
        kind, content = b"b", part
    elif isinstance(part, str):
        kind, content = b"s", part.encode(errors="surrogatepass")
    else:
        kind, content = b"i", str(int(part)).encode()
    return kind + len(content).to_bytes(8) + content
