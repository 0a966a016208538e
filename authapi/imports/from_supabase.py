"""Users of Supabase: what `COPY auth.users TO … WITH CSV HEADER` writes."""

from __future__ import annotations

import time

from authapi.imports.formats import Format
from authapi.imports.hashes import plain
from authapi.imports.records import Imported, Row


def read(row: Row) -> Imported | None:
    """Return the user of a row; None for one who was deleted, or has never given an email."""
    if row.value("deleted_at") or row.flag("is_anonymous", default=False):
        return None
    stored = row.text("encrypted_password")
    return Imported(
        email=row.required_email(),
        password_hash=plain(stored) if stored else None,
        created_at=row.time("created_at"),
        email_verified_at=row.time("email_confirmed_at", "confirmed_at"),
        is_disabled=(row.time("banned_until") or 0) > time.time(),
    )


FORMAT = Format(read=read)
