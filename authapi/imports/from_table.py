"""A table of users with hashes of argon2 or bcrypt, such as that of fastapi-users."""

from __future__ import annotations

from collections.abc import Callable

from authapi.imports.formats import Format
from authapi.imports.hashes import plain
from authapi.imports.records import Imported, Row

HASHES = ("password_hash", "hashed_password", "passwordHash", "pw_hash", "password")


def reader(convert: Callable[[str], str | None]) -> Callable[[Row], Imported]:
    """Return what reads a row of a table of users, given what reads the hash."""

    def read(row: Row) -> Imported:
        stored = row.text(*HASHES)
        created_at = row.time(
            "created_at", "createdAt", "date_joined", "created", "create_datetime"
        )
        is_verified = row.flag("is_verified", "email_verified", "verified", default=False)
        return Imported(
            email=row.required_email("email", "email_address"),
            username=row.text("username", "user_name"),
            password_hash=convert(stored) if stored else None,
            id=row.id(),
            created_at=created_at,
            email_verified_at=row.time("email_verified_at", "confirmed_at")
            or (created_at if is_verified else None),
            is_disabled=not row.flag("is_active", "active", "enabled", default=True),
        )

    return read


FORMAT = Format(read=reader(plain))
