"""The only module that knows argon2: the hash lane, the policy, the decoy, the rehash."""

from __future__ import annotations

import base64
import importlib.util
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import (
    HashingError,
    InvalidHashError,
    VerificationError,
)
from argon2.low_level import error_to_str

from authapi.errors import Overloaded
from authapi.settings import Settings

MAX_LENGTH = 1_024  # code points, after NFC
MAX_DECOMPOSED = 4 * MAX_LENGTH  # code points, before: none has more than four parts (UAX 15)
HASH_LENGTH = 32  # bytes
SALT_LENGTH = 16  # bytes

_OUT_OF_MEMORY = error_to_str(-22)  # ARGON2_MEMORY_ALLOCATION_ERROR


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a verification; `new_hash` is set where the stored hash is due for one."""

    correct: bool
    new_hash: str | None = None


class Lane:
    """Lets `slots` in at once and `queue` more wait; turns everyone else away without waiting.

    NOTE: slots and queue together stay below the server's threads, so that requests which hash
    nothing always find a thread.
    """

    def __init__(self, slots: int, queue: int) -> None:
        """Take the number of places."""
        self._places = threading.Semaphore(slots + queue)
        self._slots = threading.Semaphore(slots)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a slot during the block. Raises Overloaded at once where all places are taken."""
        if not self._places.acquire(blocking=False):
            raise Overloaded
        try:
            with self._slots, _memory_watched():
                yield
        finally:
            self._places.release()


@contextmanager
def _memory_watched() -> Iterator[None]:
    """Turn a lack of memory into Overloaded: it says nothing about the password."""
    try:
        yield
    except (VerificationError, HashingError) as error:
        if str(error) != _OUT_OF_MEMORY:
            raise
        raise Overloaded from error


class Passwords:
    """Hashes and verifies passwords with argon2id (RFC 9106) at the cost in the settings."""

    def __init__(self, settings: Settings) -> None:
        """Take the cost, the lane's size and the policy from the settings."""
        self._hasher = PasswordHasher(
            time_cost=settings.argon2_time_cost,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_lanes,
            hash_len=HASH_LENGTH,
            salt_len=SALT_LENGTH,
        )
        self._decoy = _decoy(settings)
        self._lane = Lane(settings.hash_slots, settings.hash_queue)
        self._min_length = settings.password_min_length

    def fault(self, password: str) -> str | None:
        """What makes a new password unfit, or None (NIST SP 800-63B-4, 3.1.1.2)."""
        length = len(password)
        if length <= MAX_DECOMPOSED:
            length = len(unicodedata.normalize("NFC", password))
        if length < self._min_length:
            return f"Must have at least {self._min_length} characters."
        if length > MAX_LENGTH:
            return f"Must have at most {MAX_LENGTH} characters."
        if "\0" in password or any("\ud800" <= character <= "\udfff" for character in password):
            return "Must not hold NUL or a lone surrogate."
        if password.casefold() in _common_passwords():
            return "Is one of the most common passwords."
        return None

    def hash(self, password: str) -> str:
        """The encoded hash. Raises Overloaded."""
        with self._lane.entered():
            return self._hasher.hash(_canonical(password))

    def verify(self, stored: str | None, password: str, *, rehash: bool = True) -> Verdict:
        """Check a password against an encoded hash of any argon2 cost. Raises Overloaded.

        `rehash` says whether a hash of another cost than ours is to be replaced.

        SECURITY: without a hash (no such user) a decoy is verified, on the same lane and at the
        same cost, so that the time tells nothing (OWASP Authentication).
        """
        with self._lane.entered():
            text = _canonical(password)
            try:
                self._hasher.verify(stored or self._decoy, text)
            except (VerificationError, InvalidHashError) as error:
                if str(error) == _OUT_OF_MEMORY:
                    raise
                return Verdict(correct=False)
            if stored is None or not rehash or not self._hasher.check_needs_rehash(stored):
                return Verdict(correct=stored is not None)
            return Verdict(correct=True, new_hash=self._hasher.hash(text))


def _canonical(password: str) -> bytes:
    # SECURITY: normalising takes quadratic time, so what is too long for a password stays as it is.
    if len(password) <= MAX_DECOMPOSED:
        password = unicodedata.normalize("NFC", password)
    # SECURITY: a lone surrogate has no UTF-8, so it matches no hash, and fails like any wrong word.
    return password.encode(errors="surrogatepass")


def _decoy(settings: Settings) -> str:
    """A well-formed hash at the current cost, of no password."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(length)).decode().rstrip("=")
        for length in (SALT_LENGTH, HASH_LENGTH)
    )
    cost = f"m={settings.argon2_memory_kib},t={settings.argon2_time_cost},p={settings.argon2_lanes}"
    return f"$argon2id$v=19${cost}${salt}${digest}"


@cache
def _common_passwords() -> frozenset[str]:
    """The most common passwords of 8 characters and more, from zxcvbn's frequency list.

    The list's module is run by itself and dropped: that keeps 5 MiB, and importing zxcvbn 13.
    """
    package = importlib.util.find_spec("zxcvbn")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("zxcvbn")
    path = Path(package.origin).with_name("frequency_lists.py")
    spec = importlib.util.spec_from_file_location("authapi_frequency_lists", path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("zxcvbn.frequency_lists")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return frozenset(word for word in module.FREQUENCY_LISTS["passwords"] if len(word) >= 8)
