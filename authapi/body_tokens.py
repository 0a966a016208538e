"""Tokens in the body, for clients that keep a session's token themselves and use no cookie.

Such a client asks for it with the header `Authapi-Token: body`. The answer to a sign-in then has
the token in its body, and sets no cookie. A newer token of a bearer's session comes in a header of
the same name. `docs/features/tokens.md` is the same for people.
"""

from __future__ import annotations

from typing import NamedTuple

import falcon

from authapi.errors import Failure

HEADER = "Authapi-Token"  # of a request: where the token goes; of an answer: the token


class TokenNotAllowed(Failure):
    """Raised when a page asks for a token in the body, and its origin is not an allowed one."""

    status, error, message = (
        403,
        "token_not_allowed",
        "Pages of this origin get no token: use the cookie.",
    )


class BodyToken(NamedTuple):
    """A session's token for the body of an answer, good until `expires_at`."""

    token: str
    expires_at: int


def refuses_cookies(req: falcon.Request) -> bool:
    """Return whether a client says that it keeps the token itself."""
    return bool(req.env.get("HTTP_AUTHAPI_TOKEN") == "body")


def offer(resp: falcon.Response, token: str, expires_at: int) -> None:
    """Offer a token for the body of an answer. If the body does not take it, the cookie is set."""
    resp.context.authapi_body_token = BodyToken(token, expires_at)


def take(resp: falcon.Response) -> BodyToken | None:
    """Return the token that is offered for the body of an answer, or None.

    An answer whose body takes it sets no cookie.
    """
    offered: BodyToken | None = getattr(resp.context, "authapi_body_token", None)
    resp.context.authapi_has_token = offered is not None
    return offered


def has_token(resp: falcon.Response) -> bool:
    """Return whether the body of an answer has the token."""
    return bool(getattr(resp.context, "authapi_has_token", False))
