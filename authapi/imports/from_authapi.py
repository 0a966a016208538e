"""Users of authapi: the JSON Lines of `authapi export`."""

from __future__ import annotations

from authapi.imports.formats import Format
from authapi.imports.records import Imported, Row


def read(row: Row) -> Imported:
    """Return the user of an object, with all that makes the same row of it again."""
    return Imported(
        email=row.required_email(),
        username=row.text("username"),
        password_hash=row.text("password_hash"),
        id=row.number("id"),
        created_at=row.time("created_at"),
        updated_at=row.time("updated_at"),
        email_verified_at=row.time("email_verified_at"),
        disabled_at=row.time("disabled_at"),
        password_version=row.number("password_version") or 1,
        credentials_version=row.number("credentials_version") or 1,
        roles=row.text("roles") or "",
        is_own=True,
    )


FORMAT = Format(read=read)
