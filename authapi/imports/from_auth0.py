"""Users of Auth0, as JSON Lines or a JSON array; its support adds the hashes."""

from __future__ import annotations

from authapi.imports.formats import Format
from authapi.imports.hashes import plain
from authapi.imports.records import Fault, Imported, Row


def read(row: Row) -> Imported:
    """Return the user of an object. A user without a hash has no password."""
    created_at = row.time("created_at")
    is_verified = row.flag("email_verified", default=False)
    return Imported(
        email=row.required_email("email", "Email"),
        username=row.text("username"),
        password_hash=_hash(row),
        created_at=created_at,
        email_verified_at=created_at if is_verified else None,
        is_disabled=row.flag("blocked", default=False),
    )


def _hash(row: Row) -> str | None:
    stored = row.text("passwordHash", "password_hash")
    if stored:
        return plain(stored)
    custom = row.value("custom_password_hash")
    if custom is None:
        return None
    outer = Row(custom if isinstance(custom, dict) else {})
    inner = outer.value("hash")
    text = Row(inner if isinstance(inner, dict) else {}).text("value")
    if outer.text("algorithm") not in {"bcrypt", "argon2"} or not text:
        raise Fault("custom_password_hash is neither of bcrypt nor of argon2.", "unusable_hash")
    return plain(text)


FORMAT = Format(read=read)
