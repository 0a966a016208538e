"""Password hashes as text: `$argon2id$v=19$m=47104,t=1,p=1$SALT$TAG`."""

from __future__ import annotations

import base64
import re

import msgspec

LONGEST = 1_024  # characters of a stored hash
SHORTEST_SALT, SHORTEST_TAG = 8, 4  # bytes (RFC 9106, 3.1)
LEAST_MEMORY_KIB = 8  # for each lane (RFC 9106, 3.1)

_NUMBER = "([1-9][0-9]{0,9})"
_STORED = re.compile(
    rf"\$(argon2id|argon2i|argon2d)(?:\$v=(16|19))?\$m={_NUMBER},t={_NUMBER},p={_NUMBER}"
    r"\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)


class Cost(msgspec.Struct, frozen=True):
    """The cost of one hash: m, t and p of RFC 9106, 3.1."""

    memory_kib: int
    passes: int
    lanes: int

    @property
    def work(self) -> int:
        """Return the memory times the passes, in KiB. The CPU time is proportional to it."""
        return self.memory_kib * self.passes


class Stored(msgspec.Struct, frozen=True):
    """A stored hash. The salt and the tag are in unpadded base64."""

    kind: str
    version: int
    cost: Cost
    salt: bytes
    tag: bytes

    @classmethod
    def parse(cls, text: str) -> Stored:
        """Parse a hash as strictly as the reference implementation. Raises ValueError.

        SECURITY: it refuses what argon2 would refuse at once, so that callers spend the usual time.
        """
        found = _STORED.fullmatch(text) if len(text) <= LONGEST else None
        if found is None:
            raise ValueError("is no argon2 hash")
        kind, version, memory, passes, lanes, salt, tag = found.groups()
        cost = Cost(int(memory), int(passes), int(lanes))
        stored = cls(kind, int(version or 16), cost, from_base64(salt), from_base64(tag))
        if (
            len(stored.salt) < SHORTEST_SALT
            or len(stored.tag) < SHORTEST_TAG
            or cost.memory_kib < LEAST_MEMORY_KIB * cost.lanes
        ):
            raise ValueError("has less than argon2 takes")
        return stored

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        cost = f"m={self.cost.memory_kib},t={self.cost.passes},p={self.cost.lanes}"
        salt, tag = to_base64(self.salt), to_base64(self.tag)
        return f"${self.kind}$v={self.version}${cost}${salt}${tag}"


def to_base64(data: bytes) -> str:
    """Return the unpadded base64 of bytes."""
    return base64.b64encode(data).decode().rstrip("=")


def from_base64(text: str) -> bytes:
    """Return the bytes of unpadded base64. Raises ValueError for any other spelling of them."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise ValueError("is not in base64") from error
    if to_base64(data) != text:  # unused bits are set
        raise ValueError("is not in canonical base64")
    return data
