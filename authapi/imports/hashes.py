"""The spellings of password hashes in other systems, and the text that each is stored as."""

from __future__ import annotations

import base64
import binascii
import re

from authapi.imports.records import Fault
from authapi.passwords.foreign_hashes import PEPPERED, Foreign
from authapi.passwords.key_derivation import Kdf, Pbkdf2, Scrypt, parse
from authapi.passwords.stored_hashes import Stored

_NUMBER = "([1-9][0-9]{0,9})"
_WERKZEUG_SCRYPT = re.compile(rf"scrypt:{_NUMBER}:{_NUMBER}:{_NUMBER}\$([^$]+)\$([0-9a-f]+)")
_WERKZEUG_PBKDF2 = re.compile(rf"pbkdf2:(sha1|sha256|sha512):{_NUMBER}\$([^$]+)\$([0-9a-f]+)")
_DJANGO_PBKDF2 = re.compile(rf"pbkdf2_(sha1|sha256)\${_NUMBER}\$([^$]+)\$([A-Za-z0-9+/=]+)")
_DJANGO_SCRYPT = re.compile(rf"scrypt\${_NUMBER}\$([^$]+)\${_NUMBER}\${_NUMBER}\$([A-Za-z0-9+/=]+)")
_PASSLIB = re.compile(rf"\$pbkdf2(-sha256|-sha512)?\${_NUMBER}\$([A-Za-z0-9./]*)\$([A-Za-z0-9./]+)")
_SALT_AND_KEY = re.compile(r"([0-9A-Za-z]{16,64}):([0-9a-f]{128})")

REFUSED = (
    (re.compile(r"\$[56]\$"), "is of sha-crypt, which this service does not verify"),
    (re.compile(r"\$1\$"), "is of md5-crypt, which this service does not verify"),
    (re.compile(r"\$fbscrypt\$"), "is of Firebase, which this service does not verify"),
    (
        re.compile(r"(md5|sha1|sha256|unsalted_md5|unsalted_sha1|pbkdf2:md5|pbkdf2:sha224)\b"),
        "is of a kind that is too weak, so this service does not verify it",
    ),
    (re.compile(""), "is of no kind that this service verifies"),
)


def plain(text: str) -> str:
    """Return a hash of argon2, bcrypt, scrypt or PBKDF2 as PHC strings have it. Raises Fault."""
    return stored(_plain(text))


def stored(kdf: Kdf | Stored) -> str:
    """Return the text of a hash of the password as it was typed."""
    return str(Foreign("raw", "", kdf))


def werkzeug(text: str) -> str:
    """Return a hash of Werkzeug, or a plain one. Raises Fault."""
    if found := _WERKZEUG_SCRYPT.fullmatch(text):
        n, r, p = map(int, found.groups()[:3])
        return stored(_scrypt(n, r, p, found[4].encode(), _hexadecimal(found[5])))
    if found := _WERKZEUG_PBKDF2.fullmatch(text):
        return stored(Pbkdf2(found[1], int(found[2]), found[3].encode(), _hexadecimal(found[4])))
    return plain(text)


def django(text: str) -> str | None:
    """Return a hash of one of Django's hashers; None for an unusable password. Raises Fault."""
    if text.startswith("!"):
        return None
    if found := _DJANGO_PBKDF2.fullmatch(text):
        digest, passes, salt, tag = found.groups()
        return stored(Pbkdf2(digest, int(passes), salt.encode(), decoded(tag)))
    if found := _DJANGO_SCRYPT.fullmatch(text):
        n, salt, r, p, tag = found.groups()
        return stored(_scrypt(int(n), int(r), int(p), salt.encode(), decoded(tag)))
    scheme, _, rest = text.partition("$")
    if scheme == "argon2":
        return plain(f"${rest}")
    if scheme == "bcrypt":
        return plain(rest)
    if scheme == "bcrypt_sha256":
        return _prepared("raw", "sha256-hex", rest)
    raise _fault(text)


def peppered(text: str) -> str:
    """Return a hash of a keyed digest of the password, as Flask-Security makes. Raises Fault."""
    return _prepared("nfkd", PEPPERED, text)


def salt_and_key(text: str, r: int) -> str:
    """Return a hash of better-auth or Lucia, `SALT:KEY`, whose salt is its text. Raises Fault."""
    found = _SALT_AND_KEY.fullmatch(text)
    if not found:
        return plain(text)  # an application may hash otherwise
    kdf = Scrypt(14, r, 1, found[1].encode(), bytes.fromhex(found[2]))
    return str(Foreign("nfkc", "", kdf))


def decoded(text: str) -> bytes:
    """Return the bytes of padded or unpadded base64. Raises Fault."""
    try:
        return base64.b64decode(
            text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True
        )
    except binascii.Error as error:
        raise Fault("The password hash has broken base64.", "unusable_hash") from error


def _prepared(norm: str, prehash: str, text: str) -> str:
    """Return a plain hash of a prepared password. Raises Fault."""
    return str(Foreign(norm, prehash, _plain(text)))


def _plain(text: str) -> Kdf | Stored:
    if found := _PASSLIB.fullmatch(text):
        return _passlib(found)
    try:
        return Stored.parse(text) if text.startswith("$argon2") else parse(text)
    except ValueError as error:
        raise _fault(text) from error


def _passlib(found: re.Match[str]) -> Pbkdf2:
    digest = (found[1] or "-sha1").removeprefix("-")
    salt, tag = (decoded(found[part].replace(".", "+")) for part in (3, 4))
    return Pbkdf2(digest, int(found[2]), salt, tag)


def _scrypt(n: int, r: int, p: int, salt: bytes, tag: bytes) -> Scrypt:
    if n & (n - 1):
        raise Fault(
            "The password hash has an N of scrypt that is no power of two.", "unusable_hash"
        )
    return Scrypt(n.bit_length() - 1, r, p, salt, tag)


def _hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise Fault("The password hash has a broken digest.", "unusable_hash") from error


def _fault(text: str) -> Fault:
    """Return the fault of a hash that is not supported. SECURITY: it does not show the hash."""
    said = next(said for pattern, said in REFUSED if pattern.match(text))
    return Fault(f"The password hash {said}.", "unusable_hash")
