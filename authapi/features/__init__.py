"""The features. Each is one module; `authapi.feature` says what it may declare."""

from __future__ import annotations

from types import ModuleType

DEFAULT = (
    "audit",
    "users",
    "limits",
    "lockout",
    "restore",
    "database_copy",
    "accounts",
    "devices",
    "sessions",
    "renewal",
    "replaced_sessions",
    "session_list",
    "sign_in",
    "registration",
    "login",
    "reauthentication",
    "password_change",
    "forward_auth",
)

# The commands: the feature that declares each, and its line in `authapi --help`.
# NOTE: the help must know them without the features, which import the service's libraries.
COMMANDS: dict[str, tuple[str | ModuleType, str]] = {
    "unlock": ("lockout", "let a user log in who was locked out"),
    "db copy": ("database_copy", "move from SQLite to PostgreSQL"),
}
