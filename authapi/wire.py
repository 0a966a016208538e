"""The wire: the envelope, HTTP-dates, the cookie, rendering a failure.

`docs/contract.md` is the same for people.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

import falcon
import msgspec
from falcon.util import mediatypes

from authapi.errors import Failure, InvalidToken, NotAuthenticated
from authapi.headers import AnswerHeaders
from authapi.settings import Settings

LONGEST_ACCEPT = 1_024  # characters; parsing takes its time
JSON = "application/json"
PROBLEM = "application/problem+json"


class UserRecord(Protocol):
    """What the envelope shows of a user; times are seconds since the epoch."""

    @property
    def id(self) -> int:
        """Never anyone else's, even after the user is deleted."""

    @property
    def username(self) -> str:
        """As typed."""

    @property
    def email(self) -> str:
        """As typed."""

    @property
    def created_at(self) -> int:
        """When the account was made."""

    @property
    def updated_at(self) -> int:
        """When its names or state last changed."""


@lru_cache(maxsize=1_024)
def http_date(seconds: int) -> str:
    """Give seconds since the epoch as `Tue, 16 Aug 2022 10:21:29 GMT` (RFC 9110, 5.6.7)."""
    return formatdate(seconds, usegmt=True)


class Wire:
    """Reads requests and writes answers, as the settings say and at the clock's time."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        """Take the cookie's name and attributes from the settings."""
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode
        self._cookie = settings.cookie_name
        self._cookie_attributes = _cookie_attributes(settings, settings.cookie_domain)
        self._device = "__Host-device" if settings.https else "device"
        self._device_attributes = _cookie_attributes(settings)
        self.headers = AnswerHeaders(settings)

    # Answers

    def answer(self, resp: falcon.Response, status: int, message: str, **fields: object) -> None:
        """Put a success into the response: the envelope with `fields`, `user` among them."""
        resp.status = status
        resp.content_type = JSON
        resp.data = self._encode(
            {"code": status, "message": message, "timestamp": self._timestamp(), **fields}
        )

    def answer_user(
        self, resp: falcon.Response, status: int, message: str, user: UserRecord
    ) -> None:
        """Put a success that shows a user into the response."""
        shown = {
            "id": user.id,
            "username": user.username,
            "email": user.email,
            "created_at": http_date(user.created_at),
            "updated_at": http_date(user.updated_at),
        }
        self.answer(resp, status, message, user=shown)

    def render(self, failure: Failure, *, problem: bool = False) -> tuple[str, bytes]:
        """The media type and body of a failure: the envelope, or RFC 9457 problem details."""
        if problem:
            title = HTTPStatus(failure.status).phrase
            body = {
                "type": "about:blank",
                "title": title,
                "status": failure.status,
                "detail": failure.message,
                "error": failure.error,
                **failure.fields,
            }
            return PROBLEM, self._encode(body)
        body = {
            "code": str(failure.status),
            "message": failure.message,
            "timestamp": self._timestamp(),
            "error": failure.error,
            **failure.fields,
        }
        return JSON, self._encode(body)

    def fail(self, req: falcon.Request, resp: falcon.Response, failure: Failure) -> None:
        """Put a failure into the response, as the client prefers it."""
        problem = prefers_problem(req.get_header("Accept", default=""))
        resp.status = failure.status
        resp.content_type, resp.data = self.render(failure, problem=problem)
        resp.set_headers(failure.headers)
        if isinstance(failure, InvalidToken):
            self.delete_token(resp)

    def whole(
        self, failure: Failure, *, accept: str, origin: str | None, request_id: str
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        """The status line, headers and body of a failure that Falcon does not answer."""
        media_type, body = self.render(failure, problem=prefers_problem(accept))
        headers = [
            ("Content-Type", media_type),
            *failure.headers.items(),
            *self.headers.of(origin),
            ("X-Request-ID", request_id),
        ]
        if isinstance(failure, InvalidToken):
            headers.append(("Set-Cookie", self.cookie("", 0)))
        return f"{failure.status} {HTTPStatus(failure.status).phrase}", headers, body

    def _timestamp(self) -> str:
        return http_date(int(self._clock()))

    # The token

    def set_token(self, resp: falcon.Response, token: str, max_age: int) -> None:
        """Have the answer set the session cookie, for so many seconds; the last one counts."""
        _set_cookie(resp, self._cookie, self.cookie(token, max_age))

    def delete_token(self, resp: falcon.Response) -> None:
        """Have the answer delete the session cookie."""
        _set_cookie(resp, self._cookie, self.cookie("", 0))

    def cookie(self, token: str, max_age: int) -> str:
        """The value of `Set-Cookie`; an empty token and an age of 0 delete the cookie.

        NOTE: Falcon's set_cookie drops a max_age of 0, its unset_cookie drops Secure, and without
        that a browser keeps a `__Host-` cookie.
        """
        return f"{self._cookie}={token}; Max-Age={max_age}; {self._cookie_attributes}"

    def set_device(self, resp: falcon.Response, token: str, max_age: int) -> None:
        """Have the answer set the device cookie, for so many seconds and this host alone."""
        cookie = f"{self._device}={token}; Max-Age={max_age}; {self._device_attributes}"
        _set_cookie(resp, self._device, cookie)

    @staticmethod
    def write_cookies(resp: falcon.Response) -> None:
        """Write what `set_token`, `delete_token` or `set_device` asked for into the response."""
        cookies = getattr(resp.context, "authapi_cookies", None)
        if cookies:
            for cookie in cookies.values():
                resp.append_header("Set-Cookie", cookie)
            cookies.clear()

    def device_token(self, req: falcon.Request) -> str | None:
        """The device token that a request carries, if it carries one."""
        tokens = req.get_cookie_values(self._device) or []
        return tokens[0] if len(tokens) == 1 else None

    def token(self, req: falcon.Request) -> str:
        """The token that a request carries, in the cookie or as `Authorization: Bearer`.

        Raises NotAuthenticated where there is none, InvalidToken for more than one (RFC 6750, 2).
        """
        tokens = self.tokens(req)
        if not tokens:
            raise NotAuthenticated
        if len(tokens) > 1:
            raise InvalidToken
        return tokens[0]

    def tokens(self, req: falcon.Request) -> list[str]:
        """All tokens that a request carries."""
        tokens = req.get_cookie_values(self._cookie) or []
        authorization = req.env.get("HTTP_AUTHORIZATION")
        if authorization:
            scheme, _, credentials = authorization.partition(" ")
            if scheme.lower() == "bearer":
                return [*tokens, credentials.strip()]
        return tokens


def prefers_problem(accept: str) -> bool:
    """Whether an `Accept` header prefers problem details to plain JSON."""
    accept = accept.lower()  # RFC 9110, 8.3.1
    if PROBLEM not in accept or len(accept) > LONGEST_ACCEPT:
        return False
    try:
        return mediatypes.best_match((JSON, PROBLEM), accept) == PROBLEM
    except ValueError:  # no media types
        return False


def _set_cookie(resp: falcon.Response, name: str, cookie: str) -> None:
    if not hasattr(resp.context, "authapi_cookies"):
        resp.context.authapi_cookies = {}
    resp.context.authapi_cookies[name] = cookie


def _cookie_attributes(settings: Settings, domain: str = "") -> str:
    attributes = ["Path=/", "HttpOnly", "SameSite=Lax"]
    if settings.https:
        attributes.append("Secure")
    if domain:
        attributes.append(f"Domain={domain}")
    return "; ".join(attributes)
