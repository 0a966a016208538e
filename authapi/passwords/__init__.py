"""Passwords: hashing, verification with a decoy, and the rehash.

In this package, `hashing` is argon2 and `hash_lane` the threads that run it, `foreign_hashes` and
`key_derivation` verify the hashes of other systems, and `stored_hashes` is how each is written.
`policy` says which new passwords are refused: listed ones (`blocked`), and those that `patterns`
can guess. `normalization` makes the form of a password that is hashed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from authapi.machine import PROCESS_MIB, memory_limit
from authapi.passwords.hash_lane import Lane, Room
from authapi.passwords.hashing import MOST_MEMORY_KIB, MOST_SECONDS, Hasher
from authapi.passwords.normalization import nfc
from authapi.passwords.policy import MAX_DECOMPOSED, PasswordPolicy
from authapi.passwords.stored_hashes import Cost, Stored
from authapi.settings import PasswordSettings, Settings, WorkerSettings

if TYPE_CHECKING:
    from authapi.passwords.foreign_hashes import Foreign
    from authapi.passwords.key_derivation import Kdf
    from authapi.principal import User

MOST_SECONDS_OF_IMPORTED = 2  # of CPU time

logger = logging.getLogger("authapi.passwords")


class _Bounds(msgspec.Struct, frozen=True):
    """The most that a verification may take: seconds of CPU time, and bytes of memory."""

    seconds: float
    memory: int


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of a verification.

    `new_hash` replaces a stored hash whose cost is outdated. A stored hash is not `usable` if it
    cannot be read, or would take too much memory or time.
    """

    correct: bool
    new_hash: str | None = None
    usable: bool = True

    @property
    def reason(self) -> str:
        """Return why the password is refused, as a `reason` of `LoginFailed`."""
        return "wrong_password" if self.usable else "unusable_hash"


class Passwords:
    """Hashes and verifies passwords with argon2id (RFC 9106) at the cost in the settings."""

    def __init__(self, settings: Settings) -> None:
        """Take the cost, the lane's size and the policy from the settings."""
        argon2, workers = settings.of(PasswordSettings), settings.of(WorkerSettings)
        cost = Cost(argon2.argon2_memory_kib, argon2.argon2_time_cost, argon2.argon2_lanes)
        self._hasher = Hasher(cost)
        self._decoy = self._hasher.decoy()
        self._pepper = argon2.imported_pepper.encode(errors="surrogateescape")
        self.lane = Lane(workers.hash_slots, workers.hash_places, workers.hash_nice)
        slots = workers.workers * workers.hash_slots
        needed = (workers.workers * PROCESS_MIB << 20) + slots * cost.memory_kib * 1_024
        most = MOST_MEMORY_KIB * 1_024
        limit = memory_limit()
        spare = max(0, limit - needed) // workers.workers if limit else most
        self._at_login = _Bounds(MOST_SECONDS, limit or most + needed)
        self._at_import = _Bounds(MOST_SECONDS_OF_IMPORTED, spare)
        self._room = Room(spare)
        policy = PasswordPolicy(settings)
        self.fault, self.is_made_of = policy.fault, policy.is_made_of

    def rule_for(self, user: User) -> Callable[[str], str | None]:
        """Return the rule for a user's new password, which must not be made of the names."""
        return partial(self.fault, names=(user.username, user.email))

    def hash(self, password: str) -> str:
        """Return the encoded hash. Raises Overloaded."""
        return str(self.lane.run(self._hasher.hash, _canonical(password)))

    def verify(self, stored: str | None, password: str, *, rehash: bool = True) -> Verdict:
        """Check a password against an encoded hash of any kind and cost. Raises Overloaded.

        With `rehash`, a correct password returns a new hash where the stored one is of another
        kind or cost.

        SECURITY: without a usable hash (no such user, or a hash that cannot be read) a decoy is
        verified, on the same lane and at the same cost, so that the time does not tell whether the
        user exists (OWASP Authentication).
        """
        return self.lane.run(self._verify, stored, password, rehash)

    def import_fault(self, stored: str) -> str | None:
        """Return why a hash cannot be imported, as the end of "a hash that …", or None.

        SECURITY: it may take less time than at a login, so that a login on a busier machine does
        not refuse what was imported.
        """
        try:
            self._read(stored, self._at_import)
        except ValueError as error:
            return str(error)
        return None

    def can_verify(self, stored: str) -> bool:
        """Return whether a login can verify a hash, which takes no more than it may."""
        try:
            self._read(stored, self._at_login)
        except ValueError:
            return False
        return True

    def _verify(self, text: str | None, password: str, rehash: bool) -> Verdict:  # noqa: FBT001
        known = self._usable(text) if text is not None else None
        correct = self._matches(known or self._decoy, password)
        if known is None:
            return Verdict(correct=False, usable=text is None)
        is_current = isinstance(known, Stored) and self._hasher.is_current(known)
        if not correct or not rehash or is_current:
            return Verdict(correct)
        return Verdict(correct=True, new_hash=str(self._hasher.hash(_canonical(password))))

    def _matches(self, known: Stored | Foreign, password: str) -> bool:
        inner = known if isinstance(known, Stored) else known.inner
        with self._room.taken(self._memory_beside(inner)):
            if isinstance(known, Stored):
                return self._hasher.matches(known, _canonical(password))
            forms = known.forms(password, self._pepper)
            if isinstance(inner, Stored):
                return any(self._hasher.matches(inner, form) for form in forms)
            return any(inner.matches(form) for form in forms)

    def _memory_beside(self, known: Stored | Kdf) -> int:
        """Return the bytes that a verification takes, if they are not those of the slot."""
        if not isinstance(known, Stored):
            return known.memory
        is_own = known.cost.memory_kib <= self._hasher.cost.memory_kib
        return 0 if is_own else known.cost.memory_kib * 1_024

    def _usable(self, text: str) -> Stored | Foreign | None:
        """Return the stored hash; None if it cannot be read or would take too much."""
        try:
            return self._read(text, self._at_login)
        except ValueError as error:
            logger.warning("a stored password hash %s: its user cannot log in", error)
            return None

    def _read(self, text: str, bounds: _Bounds) -> Stored | Foreign:
        """Return a hash. Raises ValueError, whose text completes "a hash that …"."""
        if text.startswith("$argon2"):
            stored = Stored.parse(text)
            self._require_affordable(stored, bounds)
            return stored
        from authapi.passwords.foreign_hashes import (  # noqa: PLC0415 - few services meet one
            PEPPERED,
            Foreign,
        )

        foreign = Foreign.parse(text)
        if foreign.prehash == PEPPERED and not self._pepper:
            raise ValueError("needs the setting AUTHAPI_IMPORTED_PEPPER")
        self._require_affordable(foreign.inner, bounds)
        return foreign

    def _require_affordable(self, known: Stored | Kdf, bounds: _Bounds) -> None:
        """Raise ValueError for a hash that takes too much CPU time or memory here."""
        if isinstance(known, Stored):
            excess = self._hasher.excess(known.cost, bounds.seconds)
        else:
            from authapi.passwords.foreign_hashes import seconds  # noqa: PLC0415 - as above

            taken = seconds(known)
            excess = f"{taken:.0f} seconds of CPU time" if taken > bounds.seconds else ""
        memory = self._memory_beside(known)
        if memory > bounds.memory:
            excess = f"{memory >> 20} MiB of memory"
        if excess:
            raise ValueError(f"takes {excess}")


def _canonical(password: str) -> bytes:
    if len(password) <= MAX_DECOMPOSED:  # a longer one is no password: it is wrong in any form
        password = nfc(password)
    # SECURITY: a lone surrogate has no UTF-8: it matches no hash, and fails as a wrong password.
    return password.encode(errors="surrogatepass")
