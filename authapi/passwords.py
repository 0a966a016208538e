"""Passwords: hashing, verification with a decoy, and the rehash."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from authapi.hash_lane import Lane
from authapi.hashing import Hasher
from authapi.normalization import nfc
from authapi.password_policy import MAX_DECOMPOSED, PasswordPolicy
from authapi.settings import PasswordSettings, Settings, WorkerSettings
from authapi.stored_hashes import Cost, Stored

logger = logging.getLogger("authapi.passwords")


@dataclass(frozen=True, slots=True)
class Verdict:
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
        self.lane = Lane(workers.hash_slots, workers.hash_places, workers.hash_nice)
        self.fault = PasswordPolicy(settings).fault

    def hash(self, password: str) -> str:
        """Return the encoded hash. Raises Overloaded."""
        return str(self.lane.run(self._hasher.hash, _canonical(password)))

    def verify(self, stored: str | None, password: str, *, rehash: bool = True) -> Verdict:
        """Check a password against an encoded hash of any argon2 cost. Raises Overloaded.

        With `rehash`, a correct password returns a new hash where the stored one has another cost.

        SECURITY: without a usable hash (no such user, or a hash that cannot be read) a decoy is
        verified, on the same lane and at the same cost, so that the time does not tell whether the
        user exists (OWASP Authentication).
        """
        return self.lane.run(self._verify, stored, _canonical(password), rehash)

    def _verify(self, text: str | None, password: bytes, rehash: bool) -> Verdict:  # noqa: FBT001
        known = self._usable(text) if text is not None else None
        correct = self._hasher.matches(known or self._decoy, password)
        if known is None:
            return Verdict(correct=False, usable=text is None)
        if not correct or not rehash or self._hasher.is_current(known):
            return Verdict(correct)
        return Verdict(correct=True, new_hash=str(self._hasher.hash(password)))

    def _usable(self, text: str) -> Stored | None:
        """Return the stored hash; None if it cannot be read or would take too much."""
        try:
            stored = Stored.parse(text)
        except ValueError:
            logger.warning("a stored password hash is not an argon2 hash: its user cannot log in")
            return None
        excess = self._hasher.excess(stored.cost)
        if excess:
            logger.warning("a stored password hash takes %s: its user cannot log in", excess)
            return None
        return stored


def _canonical(password: str) -> bytes:
    if len(password) <= MAX_DECOMPOSED:  # a longer one is no password: it is wrong in any form
        password = nfc(password)
    # SECURITY: a lone surrogate has no UTF-8: it matches no hash, and fails as a wrong password.
    return password.encode(errors="surrogatepass")
