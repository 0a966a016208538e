"""Key derivation functions of other systems' password hashes: scrypt, PBKDF2 and bcrypt.

No other module imports bcrypt, which is an optional library.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from authapi.passwords.stored_hashes import from_base64, to_base64

SHORTEST_TAG = 16  # bytes
DIGESTS = {"sha1": 20, "sha256": 32, "sha512": 64}  # bytes
BCRYPT_READS = 72  # bytes of a password

_NUMBER = "([1-9][0-9]{0,9})"
_DATA = r"\$([A-Za-z0-9+/]*)\$([A-Za-z0-9+/]+)"
_SCRYPT = re.compile(rf"\$scrypt\$ln={_NUMBER},r={_NUMBER},p={_NUMBER}{_DATA}")
_PBKDF2 = re.compile(rf"\$pbkdf2-(sha1|sha256|sha512)\$i={_NUMBER}{_DATA}")
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$([./A-Za-z0-9]{22})([./A-Za-z0-9]{31})")
_BCRYPT_DIGITS = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class MissingLibrary(ValueError):
    """Raised for a hash that needs bcrypt, where bcrypt is not installed."""

    def __init__(self) -> None:
        """Say what to install."""
        super().__init__("needs bcrypt: install the extra authapi-server[import]")


@dataclass(frozen=True, slots=True)
class Scrypt:
    """A hash of scrypt (RFC 7914). `log_n` is the logarithm of N."""

    log_n: int
    r: int
    p: int
    salt: bytes
    tag: bytes

    @property
    def memory(self) -> int:
        """Return the bytes of memory that one verification takes."""
        return 128 * self.r * ((1 << self.log_n) + self.p + 2)

    @property
    def work(self) -> int:
        """Return N times r times p."""
        return (1 << self.log_n) * self.r * self.p

    def cheap(self) -> Scrypt:
        """Return a hash that takes about ten milliseconds."""
        return Scrypt(12, 8, 1, bytes(16), bytes(32))

    def matches(self, password: bytes) -> bool:
        """Return whether this is a password's hash. Raises MemoryError."""
        try:
            tag = hashlib.scrypt(
                password,
                salt=self.salt,
                n=1 << self.log_n,
                r=self.r,
                p=self.p,
                maxmem=self.memory + 65_536,
                dklen=len(self.tag),
            )
        except ValueError as error:  # OpenSSL's word for memory that it does not get
            raise MemoryError(str(error)) from error
        return hmac.compare_digest(tag, self.tag)

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        salt, tag = to_base64(self.salt), to_base64(self.tag)
        return f"$scrypt$ln={self.log_n},r={self.r},p={self.p}${salt}${tag}"


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    """A hash of PBKDF2 (RFC 8018) with an HMAC of sha1, sha256 or sha512."""

    digest: str
    iterations: int
    salt: bytes
    tag: bytes

    memory = 0  # bytes

    @property
    def work(self) -> int:
        """Return how many times the digest is iterated."""
        return self.iterations * -(-len(self.tag) // DIGESTS[self.digest])

    def cheap(self) -> Pbkdf2:
        """Return a hash that takes some milliseconds."""
        return Pbkdf2(self.digest, 10_000, bytes(16), bytes(16))

    def matches(self, password: bytes) -> bool:
        """Return whether this is a password's hash."""
        tag = hashlib.pbkdf2_hmac(self.digest, password, self.salt, self.iterations, len(self.tag))
        return hmac.compare_digest(tag, self.tag)

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        salt, tag = to_base64(self.salt), to_base64(self.tag)
        return f"$pbkdf2-{self.digest}$i={self.iterations}${salt}${tag}"


@dataclass(frozen=True, slots=True)
class Bcrypt:
    """A hash of bcrypt, with its salt and tag in bcrypt's own base64."""

    rounds: int
    salt: str
    tag: str

    memory = 0  # bytes, but for 4 KiB

    @property
    def work(self) -> int:
        """Return the iterations of the key schedule."""
        return 1 << self.rounds

    def cheap(self) -> Bcrypt:
        """Return a hash that takes some milliseconds."""
        return Bcrypt(6, "." * 22, "." * 31)

    def matches(self, password: bytes) -> bool:
        """Return whether this is a password's hash. Raises MissingLibrary.

        NOTE: all implementations read 72 bytes, and bcrypt 5 refuses more.
        """
        try:
            import bcrypt  # noqa: PLC0415 - an optional library
        except ImportError as error:
            raise MissingLibrary from error
        made = bcrypt.hashpw(password[:BCRYPT_READS], str(self)[:29].encode())
        return hmac.compare_digest(made[-31:], self.tag.encode())

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return f"$2b${self.rounds:02}${self.salt}{self.tag}"


Kdf = Scrypt | Pbkdf2 | Bcrypt


def parse(text: str) -> Kdf:
    """Return the hash that a text spells. Raises ValueError, with what is wrong with it."""
    if found := _SCRYPT.fullmatch(text):
        log_n, r, p = map(int, found.groups()[:3])
        if log_n > 24 or log_n >= 16 * r or r * p >= 1 << 30:
            raise ValueError("has parameters that scrypt does not take")
        return Scrypt(log_n, r, p, from_base64(found[4]), _tag(found[5]))
    if found := _PBKDF2.fullmatch(text):
        return Pbkdf2(found[1], int(found[2]), from_base64(found[3]), _tag(found[4]))
    if found := _BCRYPT.fullmatch(text):
        return Bcrypt(int(found[1]), _cut(found[2], 4), _cut(found[3], 2))
    raise ValueError("is of no kind that this service verifies")


def _tag(text: str) -> bytes:
    tag = from_base64(text)
    if not SHORTEST_TAG <= len(tag) <= 512:
        raise ValueError(f"has a digest of {len(tag)} bytes")
    return tag


def _cut(text: str, unused: int) -> str:
    """Return base64 whose last character has no unused bits set, as old libraries set them."""
    last = _BCRYPT_DIGITS.index(text[-1])
    return text[:-1] + _BCRYPT_DIGITS[last >> unused << unused]
