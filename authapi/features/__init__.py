"""The features. Each is one module; `authapi.feature` says what it may declare."""

from __future__ import annotations

DEFAULT = (
    "audit",
    "users",
    "limits",
    "lockout",
    "accounts",
    "devices",
    "sessions",
    "renewal",
    "session_list",
    "sign_in",
    "registration",
    "login",
    "reauthentication",
    "password_change",
    "forward_auth",
)
