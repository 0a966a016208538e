"""The keys: their files, the secret key, and the check for weak ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from authapi.settings.database import DatabaseSettings
from authapi.settings.group import SettingError, SettingsGroup, setting

if TYPE_CHECKING:
    from authapi.settings import Settings

LEAST_LENGTH = 32  # bytes
LEAST_DIFFERENT = 8
LEAST_OWN = 16  # bytes: 128 bits, where each of them is random

_KNOWN_KEYS = frozenset(
    {
        b"a-string-secret-at-least-256-bits-long",  # jwt.io's example
        bytes.fromhex(  # RFC 7515, A.1.1
            "0323354b2b0fa5bc837e0665777ba68f5ab328e6f054c928a90f84b2d2502ebf"
            "d3fb5a92d20647ef968ab4c377623d223d2e2172052e4f08c0cd9af567d080a3"
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class KeySettings(SettingsGroup):
    """A key in the environment, or a file of keys."""

    secret_key: str = setting(
        "",
        "The key that signs tokens, at least 32 bytes, instead of a key file.",
        secret=True,
    )
    secret_key_file: str = setting(
        "",
        "A file with the key that signs tokens, as text, instead of AUTHAPI_SECRET_KEY.",
    )
    key_file: str = setting(
        "",
        "The file of signing keys, a JWK Set that only its owner can read. Default: the "
        "database's path and .key.",
    )

    root_key_file: str = setting(
        "",
        "The file of the root key, a JWK Set that only its owner can read. Default: the "
        "database's path and .root, or, with a secret key, no file.",
    )

    def completed(self, settings: Settings) -> Self:
        """Return the group with the paths of the files filled in. Raises SettingError."""
        if settings.of(DatabaseSettings).is_postgresql:
            self._check("")
            self._require_shared()
            return self
        path = settings.of(DatabaseSettings).database_path
        self._check(f"{path}.key")
        root = f"{path}.root" if self.has_key_file else ""
        return replace(
            self,
            key_file=self.key_file or f"{path}.key",
            root_key_file=self.root_key_file or root,
        )

    @property
    def has_key_file(self) -> bool:
        """Return whether the keys are in a key file, which the service makes itself."""
        return not self.secret_key and not self.secret_key_file

    @property
    def secret_bytes(self) -> bytes:
        """Return the secret key's bytes, also those of the environment that are not UTF-8."""
        return self.secret_key.encode(errors="surrogateescape")

    def _require_shared(self) -> None:
        """Raise SettingError where each node would make keys of its own."""
        if self.has_key_file and not self.key_file:
            raise SettingError(
                "With a PostgreSQL server all nodes need the same key: set AUTHAPI_SECRET_KEY or "
                "AUTHAPI_SECRET_KEY_FILE, or AUTHAPI_KEY_FILE and AUTHAPI_ROOT_KEY_FILE."
            )
        if self.has_key_file and not self.root_key_file:
            raise SettingError(
                "With a PostgreSQL server all nodes need the same root key: set "
                "AUTHAPI_ROOT_KEY_FILE beside AUTHAPI_KEY_FILE."
            )

    def _check(self, default: str) -> None:
        named = {
            "AUTHAPI_SECRET_KEY": self.secret_key,
            "AUTHAPI_SECRET_KEY_FILE": self.secret_key_file,
            "AUTHAPI_KEY_FILE": self.key_file not in {"", default},
        }
        both = [name for name, value in named.items() if value]
        if len(both) > 1:
            raise SettingError(f"{both[0]} and {both[1]} are both set: unset one of them.")
        if not self.secret_key:
            return
        if fault := weak_key(self.secret_bytes):
            raise SettingError(
                f"AUTHAPI_SECRET_KEY {fault}: make one with "
                "python3 -c 'import secrets; print(secrets.token_hex(32))'."
            )


def weak_key(key: bytes) -> str | None:
    """Return what makes a signing key unfit, or None.

    A key is as long as the hash or longer (RFC 7518, 3.2). It can be guessed where it is in print,
    has few different bytes, is a repeated word, or where little is left without repeats and runs.
    """
    if len(key) < LEAST_LENGTH:
        return f"has {len(key)} bytes and needs at least {LEAST_LENGTH}"
    if (
        key in _KNOWN_KEYS
        or len(set(key)) < LEAST_DIFFERENT
        or _is_repeated(key)
        or _own_bytes(key) < LEAST_OWN
    ):
        return "can be guessed"
    return None


def _is_repeated(key: bytes) -> bool:
    """Return whether 8 bytes or more of a key begin again before its end: `secret-1secret-1`."""
    return any(key[start:] == key[:-start] for start in range(1, len(key) - 7))


def _own_bytes(key: bytes) -> int:
    """Return how many bytes of a key follow from nothing before them.

    A byte follows where it ends three bytes that stood together before (`changeme-changeme`), or
    goes on with a run (`abcdef`, `8642`, `aaaa`). Of 32 random hexadecimal digits some 28 follow
    from nothing.
    """
    return sum(
        key[end - 3 : end] not in key[: end - 1]
        and key[end - 1] - key[end - 2] != key[end - 2] - key[end - 3]
        for end in range(3, len(key) + 1)
    )
