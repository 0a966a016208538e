"""Users of Lucia 2 and 3, with the passwords of the table of keys, or of a column of the users."""

from __future__ import annotations

from authapi.imports.formats import Format
from authapi.imports.hashes import salt_and_key
from authapi.imports.records import Imported, Row

NEW_SALT = 32  # characters; the older salts have 16


def read(row: Row) -> Imported:
    """Return the user of a row. A key is named by the provider and the name, as `email:…`."""
    stored = row.text("hashed_password", "password_hash", "password")
    provider, _, name = (row.text("key_id") or "").partition(":")
    key = {provider: name or None}
    return Imported(
        email=row.text("email") or key.get("email") or row.required_email(),
        username=row.text("username") or key.get("username"),
        password_hash=_hash(stored) if stored else None,
        created_at=row.time("created_at", "createdAt"),
    )


def _hash(stored: str) -> str:
    """Return the hash. Version 2 begins with `s2:`; a short salt without it is of version 1."""
    text = stored.removeprefix("s2:")
    is_older = text == stored and len(text.partition(":")[0]) < NEW_SALT
    return salt_and_key(text, r=8 if is_older else 16)


FORMAT = Format(
    read=read,
    statement="lucia",
    tables=(("user", "auth_user", "users"), ("user_key", "auth_key", "user_keys", "")),
)
