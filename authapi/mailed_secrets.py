"""Mailed secrets: the links and codes of one-time tokens, derived from the root key."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count

import msgspec

from authapi.keys.root import Root

LONGEST = 7 * 86_400  # seconds that a token may count
CODES = 1_000_000
_FAIR = (1 << 32) // CODES * CODES


class Purpose(msgspec.Struct, frozen=True):
    """A use of tokens, and for how many seconds each counts after it was sent.

    A change of the user's credentials ends a token, unless it `outlives_changes`. A newer token
    of a user ends the older ones of this purpose, unless it `keeps_older`.
    """

    name: str
    lifetime: int
    outlives_changes: bool = False
    keeps_older: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a lifetime that is longer than LONGEST."""
        if self.lifetime > LONGEST:
            raise ValueError(f"a token may count for {LONGEST} seconds: shorten {self.name}")


@dataclass(frozen=True, slots=True)
class Begun:
    """A token that waits for its mail. `cookie` is for the browser that it is bound to, or ""."""

    id: int
    cookie: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Secrets:
    """The secret of a mail's link, and its code of six digits."""

    link: str = field(repr=False)
    code: str = field(repr=False)


class MailedSecrets:
    """Derives the secrets of a token from its row. Each call returns the same."""

    def __init__(self, root: Root) -> None:
        """Take the root keys."""
        self._root = root

    def derive(self, purpose: str, token_id: int, kid: str, nonce: str) -> Secrets:
        """Return the secrets of a token. Raises LookupError for a root key that is not there.

        SECURITY: numbers above the largest multiple of CODES are passed over, so that all codes are
        equally likely.
        """
        parts = (purpose, token_id, nonce)
        secret = self._root.derive(kid, "mailed link", *parts)
        for number in count():
            drawn = int.from_bytes(self._root.derive(kid, "mailed code", *parts, number, length=4))
            if drawn < _FAIR:
                break
        link = urlsafe_b64encode(secret).rstrip(b"=").decode()
        return Secrets(link, f"{drawn % CODES:06}")

    def code_hash(self, kid: str, token_id: int, code: str) -> str:
        """Return the keyed hash of a code. Without a key, all codes can be hashed in a second."""
        return self._root.derive(kid, "hash of a mailed code", token_id, code).hex()


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret of 256 bits, in hexadecimal."""
    return sha256(secret.encode(errors="surrogatepass")).hexdigest()


def parted(cookie: str) -> tuple[int, str]:
    """Return the id and the secret that a cookie holds, or 0 and no secret."""
    number, _, secret = cookie.partition(".")
    is_number = number.isascii() and number.isdecimal() and len(number) < 19
    return (int(number), secret) if is_number and secret else (0, "")
