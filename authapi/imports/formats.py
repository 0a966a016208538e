"""The formats of `authapi import`: which module reads each, and what its files look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from authapi.imports.records import Imported, Row


@dataclass(frozen=True, slots=True)
class Format:
    """A format. `read` makes a user of a row, or None of a row that is none, and raises Fault.

    `key` names the array of users in a JSON object. `statement` and `tables` say how a SQLite file
    is read: which of its tables may be the users', and the one with their passwords.
    """

    read: Callable[[Row], Imported | None]
    key: str | None = None
    statement: str = "table"
    tables: tuple[tuple[str, ...], ...] = ()


# The modules of `authapi.imports`, and what is said of each in the help.
FORMATS = {
    "authapi": "what authapi export writes",
    "auth0": "Auth0: users as JSON Lines, with the hashes",
    "better-auth": "better-auth: SQLite, or its two tables joined as CSV or JSON Lines",
    "django": "Django: SQLite, CSV, or JSON of dumpdata",
    "flask-security": "Flask-Security: a table, with AUTHAPI_IMPORTED_PEPPER",
    "keycloak": "Keycloak: a realm's JSON with its users",
    "lucia": "Lucia 2 or 3: SQLite, CSV or JSON Lines",
    "passlib": "a table with hashes of passlib or libpass",
    "pocketbase": "PocketBase: its SQLite file, or CSV",
    "supabase": "Supabase: auth.users as CSV",
    "table": "a table with hashes of argon2 or bcrypt, as of fastapi-users",
    "werkzeug": "Flask with Werkzeug: a table",
}


def load(name: str) -> Format:
    """Return a format. Raises KeyError for an unknown name."""
    module = import_module(f"authapi.imports.from_{name.replace('-', '_')}")
    form: Format = module.FORMAT
    return form
