"""Users of better-auth, with the passwords of the table account."""

from __future__ import annotations

from authapi.imports.formats import Format
from authapi.imports.hashes import salt_and_key
from authapi.imports.records import Imported, Row


def read(row: Row) -> Imported:
    """Return the user of a row of the tables user and account, joined."""
    stored = row.text("password")
    created_at = row.time("createdAt", "created_at")
    is_verified = row.flag("emailVerified", "email_verified", default=False)
    return Imported(
        email=row.required_email(),
        username=row.text("username"),
        password_hash=salt_and_key(stored, r=16) if stored else None,
        created_at=created_at,
        email_verified_at=created_at if is_verified else None,
        is_disabled=row.flag("banned", default=False),
    )


FORMAT = Format(
    read=read, statement="better-auth", tables=(("user", "users"), ("account", "accounts"))
)
