"""The parts of the API document that are the same for every operation."""

from __future__ import annotations

from typing import Any

from authapi.body_tokens import HEADER
from authapi.principal import Need, fresh, strong, verified

INFO = {
    "title": "authapi",
    "summary": "Registration, login and sessions.",
    "description": """\
Every answer with a body is one JSON object with a `code`, a `message` for a person and a
`timestamp`. A failure also has an `error`, which is a stable name. Its `code` is a text, and that
of a success is a number. Fields and routes may be added.

A registration or a login opens a session. Its token is in a cookie, and may be sent as a bearer
token instead. A session that is in use is renewed from time to time: then the answer, also that of
a failure, sets the cookie again.

`HEAD` works wherever `GET` does, and `OPTIONS` lists the methods of a path. Another path is 404
`not_found`, another method 405 `method_not_allowed`.""",
    "version": "1",
}

SECURITY: list[dict[str, list[str]]] = [{"session": []}, {"bearer": []}]

NEEDS: dict[Need, str] = {
    fresh: "The user must have given a proof, such as the password, within 5 minutes.",
    strong: "A user with a second factor must have given it within 5 minutes.",
    verified: "The user must have verified the email.",
}


def _header(text: str, kind: str = "string", *, required: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {"description": text, "schema": {"type": kind}}
    return {**made, "required": True} if required else made


HEADERS = {
    HEADER: _header("The newer token of a session whose token came as a bearer token."),
    "Location": _header("The login page, with the way back as `return_to`."),
    "RateLimit": _header(
        "The limit, the tries that are left and the seconds until one comes back."
    ),
    "RateLimit-Policy": _header("The limit, its tries and its seconds."),
    "Retry-After": _header("The seconds until another try makes sense.", "integer", required=True),
    "Set-Cookie": _header(
        "The session cookie: set if the session was renewed, deleted if it is bad."
    ),
    "WWW-Authenticate": _header("How to authenticate: `Bearer`.", required=True),
    "X-Request-ID": _header("The id of the request, which is in the log too.", required=True),
}


def security_schemes(cookie_name: str) -> dict[str, Any]:
    """Return the ways in which a request may carry the token of its session."""
    return {
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie_name,
            "description": "The session cookie, which a registration or a login sets.",
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The token of the session cookie, for clients that can read it.",
        },
    }
