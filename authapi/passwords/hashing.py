"""argon2: hashes, and the memory that they are computed in. No other module imports it."""

from __future__ import annotations

import ctypes
import hmac
import logging
import mmap
import secrets
import threading
import time
from contextlib import suppress
from functools import cached_property
from typing import Any, cast

from argon2.low_level import Type, core, error_to_str, ffi
from msgspec.structs import replace

from authapi.passwords.stored_hashes import Cost, Stored

SALT_LENGTH = 16  # bytes
TAG_LENGTH = 32  # bytes
VERSION = 19
HUGE_PAGE = 2_097_152  # bytes

_OK = 0  # ARGON2_OK
_EXHAUSTED = (-22, -33)  # ARGON2_MEMORY_ALLOCATION_ERROR, ARGON2_THREAD_FAIL

# SECURITY: a stored hash states its own cost. An imported one may take no more than this, or than a
# hash at the cost of the settings. The defaults of all libraries take less.
MOST_MEMORY_KIB = 1_048_576
MOST_SECONDS = 5  # of CPU time
MEASURED_KIB = 47_104  # memory of the hash that is timed, or less if the settings say so

# NOTE: these are ctypes callbacks, because cffi's need memory that is writable and executable,
# which hardened hosts refuse (systemd's MemoryDenyWriteExecute=, SELinux's execmem). libffi 3.4
# does not.
_Allocate = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t)
_Free = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t)

_KINDS = {"argon2d": Type.D, "argon2i": Type.I, "argon2id": Type.ID}

logger = logging.getLogger("authapi.hashing")


class Hasher:
    """Makes argon2id hashes at one cost, and checks hashes of any. Each thread keeps its memory."""

    def __init__(self, cost: Cost) -> None:
        """Take the cost of new hashes."""
        self.cost = cost
        self._threads = threading.local()
        self._has_warned = False

    def hash(self, password: bytes) -> Stored:
        """Return a new hash of a password. Raises MemoryError."""
        blank = self.decoy()
        return replace(blank, tag=self._tag(blank, password))

    def matches(self, stored: Stored, password: bytes) -> bool:
        """Return whether a hash of any kind and cost is this password's. Raises MemoryError."""
        return hmac.compare_digest(self._tag(stored, password), stored.tag)

    def decoy(self) -> Stored:
        """Return a hash of no password, to spend the same time on unknown users."""
        salt, tag = secrets.token_bytes(SALT_LENGTH), secrets.token_bytes(TAG_LENGTH)
        return Stored("argon2id", VERSION, self.cost, salt, tag)

    def excess(self, cost: Cost, most_seconds: float = MOST_SECONDS) -> str:
        """Return which cost of a stored hash exceeds the bounds, or an empty text."""
        if cost.memory_kib > max(self.cost.memory_kib, MOST_MEMORY_KIB):
            return f"{cost.memory_kib >> 10} MiB of memory"
        if cost.work <= self.cost.work:
            return ""
        seconds = cost.work * self._seconds_per_kib
        return f"{seconds:.0f} seconds of CPU time" if seconds > most_seconds else ""

    @cached_property
    def _seconds_per_kib(self) -> float:
        """Return the CPU time of each KiB in each pass on this machine, measured at first use.

        NOTE: it is the faster of two hashes, because the first may wait for memory.
        """
        cost = Cost(min(self.cost.memory_kib, MEASURED_KIB), 1, 1)
        blank, times = replace(self.decoy(), cost=cost), []
        for _ in range(2):
            began = time.thread_time()
            self._tag(blank, b"")
            times.append(time.thread_time() - began)
        return min(times) / cost.work

    def is_current(self, stored: Stored) -> bool:
        """Return whether `hash` would make a hash of the same kind, version, cost and lengths."""
        blank = Stored("argon2id", VERSION, self.cost, stored.salt, stored.tag)
        return stored == blank and (len(stored.salt), len(stored.tag)) == (SALT_LENGTH, TAG_LENGTH)

    def _tag(self, stored: Stored, password: bytes) -> bytes:
        """Return the tag of a password with a hash's parameters and salt.

        Raises MemoryError if the system has no memory or thread left.

        SECURITY: a hash of another cost than the settings' gets one thread for all its lanes.
        argon2 starts new threads for each quarter of each pass, which can take a hundred times as
        long as the hash itself. The tag is the same.
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
                "threads": cost.lanes if cost == self.cost else 1,
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
        """Return the calling thread's arena, or None if the system refuses one."""
        with suppress(AttributeError):
            return cast("Arena", self._threads.arena)
        try:
            self._threads.arena = arena = Arena(self.cost.memory_kib)
        except (MemoryError, OSError) as error:  # argon2 may still allocate the memory itself
            self._warn(error)
            return None
        return arena

    def _warn(self, error: Exception) -> None:
        """Log once that hashing is slow."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "each password hash takes about twice the CPU time: the system refuses the memory, "
                "or the callbacks, that keep memory from one hash to the next (%r)",
                error,
            )


class Arena:
    """The memory of one hash at a time, which is kept for the next.

    NOTE: otherwise each hash allocates 46 MiB, which the system clears page by page. That takes
    half of the time of a hash. argon2 wipes the memory after each.
    """

    def __init__(self, memory_kib: int) -> None:
        """Reserve the memory, which the system provides at the first write.

        Raises OSError, or MemoryError if the system forbids callbacks.
        """
        self._map = mmap.mmap(
            -1, memory_kib * 1_024 + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
        if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux
            with suppress(OSError):  # the kernel has none
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
