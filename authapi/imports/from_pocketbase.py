"""Users of PocketBase: the collection users in its SQLite file."""

from __future__ import annotations

from authapi.imports.formats import Format
from authapi.imports.hashes import plain
from authapi.imports.records import Imported, Row


def read(row: Row) -> Imported:
    """Return the user of a row. Releases before 0.23 call the hash passwordHash."""
    stored = row.text("passwordHash", "password")
    created_at = row.time("created")
    is_verified = row.flag("verified", default=False)
    return Imported(
        email=row.required_email(),
        username=row.text("username"),
        password_hash=plain(stored) if stored else None,
        created_at=created_at,
        email_verified_at=created_at if is_verified else None,
    )


FORMAT = Format(read=read, tables=(("users", "_pb_users_auth_"),))
