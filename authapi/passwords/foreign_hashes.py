"""Password hashes of other systems: how they are stored, verified and bounded.

The text of such a hash says how the password is prepared, and then how it is hashed:

$norm=nfkc$scrypt$ln=14,r=16,p=1$SALT$TAG    of the password in NFKC
$pbkdf2-sha256$i=600000$SALT$TAG             of the password as it was typed
$pre=sha256-hex$2b$12$…                      of the hexadecimal SHA-256 of the password
$norm=nfkd,pre=hmac-sha512$argon2id$v=19$…   of a digest with the pepper of the settings
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from authapi.passwords import key_derivation
from authapi.passwords.key_derivation import Kdf
from authapi.passwords.normalization import Form, nfc, normalized
from authapi.passwords.stored_hashes import LONGEST, Stored

LONGEST_PASSWORD = 4_096  # code points; a longer one is no password

FORMS: dict[str, Form | None] = {"raw": None, "nfkc": "NFKC", "nfkd": "NFKD"}
PEPPERED = "hmac-sha512"
PREHASHES = ("sha256-hex", PEPPERED)

_PREPARED = re.compile(rf"\$(?:norm=({'|'.join(FORMS)}))?,?(?:pre=({'|'.join(PREHASHES)}))?(?=\$)")


@dataclass(frozen=True, slots=True)
class Foreign:
    """A hash of another system: how its password is prepared, and how that is hashed."""

    norm: str
    prehash: str
    inner: Kdf | Stored

    @classmethod
    def parse(cls, text: str) -> Foreign:
        """Parse a hash. Raises ValueError, whose text completes "a hash that …"."""
        if len(text) > LONGEST:
            raise ValueError("is longer than any")
        prepared = _PREPARED.match(text)
        norm, prehash = prepared.groups() if prepared else (None, None)
        rest = text[prepared.end() :] if prepared else text
        is_argon2 = rest.startswith("$argon2")
        inner = Stored.parse(rest) if is_argon2 else key_derivation.parse(rest)
        return cls(norm or "raw", prehash or "", inner)

    def forms(self, password: str, pepper: bytes) -> Iterator[bytes]:
        """Yield the bytes that may have been hashed for a password, the likeliest first.

        NOTE: a password is typed as the system composes it, which may differ from the system on
        which the hash was made. So it is tried as it is, and in NFC, after the prescribed form.
        """
        if len(password) > LONGEST_PASSWORD:
            return
        form = FORMS[self.norm]
        tried = [normalized(form, password)] if form else []
        for text in dict.fromkeys([*tried, password, nfc(password)]):
            # SECURITY: a lone surrogate has no UTF-8: it matches no hash.
            yield self._prepared(text.encode(errors="surrogatepass"), pepper)

    def _prepared(self, password: bytes, pepper: bytes) -> bytes:
        if self.prehash == "sha256-hex":
            return hashlib.sha256(password).hexdigest().encode()
        if self.prehash == PEPPERED:
            return base64.b64encode(hmac.digest(pepper, password, "sha512"))
        return password

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        named = (
            [f"norm={self.norm}"] if self.norm != "raw" or isinstance(self.inner, Stored) else []
        )
        named += [f"pre={self.prehash}"] if self.prehash else []
        return f"${','.join(named)}{self.inner}" if named else str(self.inner)


def seconds(kdf: Kdf) -> float:
    """Return the CPU time of a verification on this machine, by a measurement at first use."""
    return kdf.work * _seconds_of_a_unit(kdf.cheap())


@cache
def _seconds_of_a_unit(cheap: Kdf) -> float:
    """Return the CPU time of a unit of work: of the faster of two cheap hashes."""
    times = []
    for _ in range(2):
        began = time.thread_time()
        cheap.matches(b"a password")
        times.append(time.thread_time() - began)
    return min(times) / cheap.work
