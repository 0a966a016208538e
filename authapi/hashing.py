"""The only module that knows argon2: hashes as they are stored, and the memory they are made in."""

from __future__ import annotations

import base64
import ctypes
import hmac
import logging
import mmap
import re
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

from argon2.low_level import Type, core, error_to_str, ffi

SALT_LENGTH = 16  # bytes
TAG_LENGTH = 32  # bytes
VERSION = 19
LONGEST = 1_024  # characters of a stored hash
HUGE_PAGE = 2_097_152  # bytes

SHORTEST_SALT, SHORTEST_TAG, LEAST_MEMORY_KIB = 8, 4, 8  # the last for each lane (RFC 9106, 3.1)

_OK = 0  # ARGON2_OK
_EXHAUSTED = (-22, -33)  # ARGON2_MEMORY_ALLOCATION_ERROR, ARGON2_THREAD_FAIL

# SECURITY: a stored hash from elsewhere says itself what it costs. This is as much as it may take,
# unless our own cost is higher: libsodium's "sensitive" and every default of a library fit.
MOST_MEMORY_KIB = 1_048_576
MOST_WORK_KIB = 4 * MOST_MEMORY_KIB  # memory times passes
MOST_LANES = 64

# NOTE: ctypes' callbacks, and not cffi's: those need memory that is written and executed, which a
# hardened host refuses (systemd's MemoryDenyWriteExecute=, SELinux's execmem); libffi 3.4 does not.
_Allocate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t)
_Free = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t)

_KINDS = {"argon2d": Type.D, "argon2i": Type.I, "argon2id": Type.ID}
_NUMBER = "([1-9][0-9]{0,9})"
_STORED = re.compile(
    rf"\$(argon2id|argon2i|argon2d)(?:\$v=(16|19))?\$m={_NUMBER},t={_NUMBER},p={_NUMBER}"
    r"\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
)

logger = logging.getLogger("authapi.hashing")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one hash takes (RFC 9106, 3.1: m, t, p)."""

    memory_kib: int
    passes: int
    lanes: int

    def allows(self, other: Cost) -> bool:
        """Whether another cost is no higher than this one, or than what any hash may take."""
        work, other_work = (cost.memory_kib * cost.passes for cost in (self, other))
        return (
            other.memory_kib <= max(self.memory_kib, MOST_MEMORY_KIB)
            and other_work <= max(work, MOST_WORK_KIB)
            and other.lanes <= max(self.lanes, MOST_LANES)
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """A hash as it is stored: `$argon2id$v=19$m=47104,t=1,p=1$SALT$TAG`, in base64 unpadded."""

    kind: str
    version: int
    cost: Cost
    salt: bytes
    tag: bytes

    @classmethod
    def parse(cls, text: str) -> Stored:
        """Read one, as strictly as the reference implementation. Raises ValueError.

        SECURITY: also for what argon2 would refuse to compute, in no time at all.
        """
        found = _STORED.fullmatch(text) if len(text) <= LONGEST else None
        if found is None:
            raise ValueError("no argon2 hash")
        kind, version, memory, passes, lanes, salt, tag = found.groups()
        cost = Cost(int(memory), int(passes), int(lanes))
        stored = cls(kind, int(version or 16), cost, _from_base64(salt), _from_base64(tag))
        if (
            len(stored.salt) < SHORTEST_SALT
            or len(stored.tag) < SHORTEST_TAG
            or cost.memory_kib < LEAST_MEMORY_KIB * cost.lanes
        ):
            raise ValueError("less than argon2 takes")
        return stored

    def __str__(self) -> str:
        """The text that `parse` reads."""
        cost = f"m={self.cost.memory_kib},t={self.cost.passes},p={self.cost.lanes}"
        salt, tag = _to_base64(self.salt), _to_base64(self.tag)
        return f"${self.kind}$v={self.version}${cost}${salt}${tag}"


def _to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


def _from_base64(text: str) -> bytes:
    data = base64.b64decode(text + "=" * (-len(text) % 4))
    if _to_base64(data) != text:  # bits that count for nothing
        raise ValueError("no canonical base64")
    return data


class Hasher:
    """Makes argon2id hashes at one cost and checks any, each thread in memory that it keeps."""

    def __init__(self, cost: Cost) -> None:
        """Take the cost of new hashes."""
        self.cost = cost
        self._threads = threading.local()
        self._has_warned = False

    def hash(self, password: bytes) -> Stored:
        """A new hash. Raises MemoryError."""
        blank = self.decoy()
        return replace(blank, tag=self._tag(blank, password))

    def matches(self, stored: Stored, password: bytes) -> bool:
        """Whether a hash, of any kind and cost, is this password's. Raises MemoryError."""
        return hmac.compare_digest(self._tag(stored, password), stored.tag)

    def decoy(self) -> Stored:
        """A hash of no password at our cost, to spend the time on."""
        salt, tag = secrets.token_bytes(SALT_LENGTH), secrets.token_bytes(TAG_LENGTH)
        return Stored("argon2id", VERSION, self.cost, salt, tag)

    def is_current(self, stored: Stored) -> bool:
        """Whether a hash is as `hash` would make it today."""
        blank = Stored("argon2id", VERSION, self.cost, stored.salt, stored.tag)
        return stored == blank and (len(stored.salt), len(stored.tag)) == (SALT_LENGTH, TAG_LENGTH)

    def _tag(self, stored: Stored, password: bytes) -> bytes:
        """The tag of a password under a hash's parameters and salt.

        Raises MemoryError where the system has no memory or no thread left for it.
        """
        cost, tag = stored.cost, ffi.new("uint8_t[]", len(stored.tag))
        arena = self._arena() if cost.memory_kib <= self.cost.memory_kib else None
        context = ffi.new(
            "argon2_context *",
            {
                "version": stored.version,
                "out": tag,
                "outlen": len(stored.tag),
                "pwd": ffi.from_buffer("uint8_t[]", password),
                "pwdlen": len(password),
                "salt": ffi.from_buffer("uint8_t[]", stored.salt),
                "saltlen": len(stored.salt),
                "t_cost": cost.passes,
                "m_cost": cost.memory_kib,
                "lanes": cost.lanes,
                "threads": cost.lanes,
                "allocate_cbk": arena.allocate if arena else ffi.NULL,
                "free_cbk": arena.free if arena else ffi.NULL,
            },
        )
        error = core(context, _KINDS[stored.kind].value)
        if error in _EXHAUSTED:
            raise MemoryError(error_to_str(error))
        if error != _OK:
            raise ValueError(error_to_str(error))
        return bytes(ffi.buffer(tag))

    def _arena(self) -> Arena | None:
        """The calling thread's arena; None where the system refuses one, now or always."""
        with suppress(AttributeError):
            return cast("Arena", self._threads.arena)
        try:
            self._threads.arena = arena = Arena(self.cost.memory_kib)
        except (MemoryError, OSError) as error:  # argon2 may still find the memory its own way
            self._warn(error)
            return None
        return arena

    def _warn(self, error: Exception) -> None:
        """Tell once that hashes are slow."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "each password hash takes about twice the CPU time: the system refuses the memory, "
                "or the callbacks, that keep memory from one hash to the next (%r)",
                error,
            )


class Arena:
    """The memory of one hash at a time, kept from one to the next.

    NOTE: else each hash takes its 46 MiB from the system, which clears them page by page, and gives
    them back: half of the time of a hash. argon2 itself wipes them after each.
    """

    def __init__(self, memory_kib: int) -> None:
        """Reserve the memory; the system hands it out when it is first written.

        Raises OSError, or MemoryError where the system forbids callbacks.
        """
        self._map = mmap.mmap(
            -1, memory_kib * 1_024 + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux
            with suppress(OSError):  # a kernel without them
                self._map.madvise(mmap.MADV_HUGEPAGE)
        address = int(ffi.cast("uintptr_t", ffi.from_buffer(self._map)))
        memory = -(-address // HUGE_PAGE) * HUGE_PAGE

        def allocate(place: Any, _size: int) -> int:  # noqa: ANN401 - ctypes'
            place[0] = memory
            return _OK

        self._callbacks = _Allocate(allocate), _Free(lambda _memory, _size: None)
        self.allocate, self.free = (
            ffi.cast(kind, ctypes.cast(callback, ctypes.c_void_p).value)
            for kind, callback in zip(
                ("allocate_fptr", "deallocate_fptr"), self._callbacks, strict=True
            )
        )
