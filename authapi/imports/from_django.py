"""Users of Django: the table auth_user, or what `dumpdata auth.user` writes."""

from __future__ import annotations

from authapi.imports.formats import Format
from authapi.imports.hashes import django
from authapi.imports.records import Fault, Imported, Row


def read(row: Row) -> Imported | None:
    """Return the user of a row or of an object of dumpdata; None for an object of another model."""
    model, fields = row.text("model"), row.value("fields")
    number = row.id("id", "pk")
    if model is not None:
        if not isinstance(fields, dict):
            raise Fault("fields is no object.")
        row = Row(fields)
        if "password" not in fields or "email" not in fields:
            return None
    stored = row.text("password")
    return Imported(
        email=row.required_email(),
        username=row.text("username"),
        password_hash=django(stored) if stored else None,
        id=number,
        created_at=row.time("date_joined"),
        is_disabled=not row.flag("is_active", default=True),
    )


FORMAT = Format(read=read, tables=(("auth_user",),))
