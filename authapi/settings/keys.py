"""The signing keys: where they come from, and which are too weak."""

from __future__ import annotations

from dataclasses import dataclass

from authapi.setting import SettingError, setting
from authapi.settings.server import ServerSettings

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
class KeySettings(ServerSettings):
    """A key in the environment, or a file of keys."""

    secret_key: str = setting(
        "",
        "The key that signs tokens, at least 32 bytes, in place of a key file.",
        secret=True,
    )
    key_file: str = setting(
        "",
        "The file of signing keys, a JWK Set that only its owner can read. Made at the first "
        "start. Default: the database's path and .key.",
    )

    def __post_init__(self) -> None:
        """Check the key, and fill in the file's path."""
        super().__post_init__()
        self._fill(key_file=self.key_file or f"{self.database_path}.key")
        self._check_key()

    @property
    def secret_bytes(self) -> bytes:
        """The secret key's bytes, also those of the environment that are not UTF-8."""
        return self.secret_key.encode(errors="surrogateescape")

    def _check_key(self) -> None:
        if not self.secret_key:
            return
        if self.key_file != f"{self.database_path}.key":
            raise SettingError(
                "AUTHAPI_SECRET_KEY and AUTHAPI_KEY_FILE are both set: unset one of them."
            )
        if fault := weak_key(self.secret_bytes):
            raise SettingError(
                f"AUTHAPI_SECRET_KEY {fault}: make one with "
                "python3 -c 'import secrets; print(secrets.token_hex(32))'."
            )


def weak_key(key: bytes) -> str | None:
    """What makes a signing key unfit, or None (RFC 7518, 3.2: as long as the hash or longer)."""
    if len(key) < 32:
        return f"has {len(key)} bytes and needs at least 32"
    if len(set(key)) < 8 or key in (key + key)[1:-1] or key in _KNOWN_KEYS:
        return "can be guessed"
    return None
