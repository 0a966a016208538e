"""The wire: the envelope, HTTP-dates, the cookie, rendering a failure.

`docs/contract.md` is the same for people.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import falcon
import msgspec
from falcon.util import mediatypes

from authapi.cookies import Cookie, session_cookie
from authapi.errors import Failure
from authapi.fields import bearer_token
from authapi.headers import AnswerHeaders
from authapi.principal import User
from authapi.settings import Settings
from authapi.tokens import Claims, Tokens

LONGEST_ACCEPT = 1_024  # characters; parsing takes its time
JSON = "application/json"
PROBLEM = "application/problem+json"


@lru_cache(maxsize=1_024)
def http_date(seconds: int) -> str:
    """Give seconds since the epoch as `Tue, 16 Aug 2022 10:21:29 GMT` (RFC 9110, 5.6.7)."""
    return formatdate(seconds, usegmt=True)


class Presented(msgspec.Struct):
    """The distinct tokens that a request brings, and the claims of those that are ours.

    The claims are those of good signatures. A token may have expired, and its session ended.
    """

    cookie_tokens: list[str]
    bearer: str | None
    of_cookies: list[Claims]
    of_bearer: Claims | None

    @property
    def claims(self) -> list[Claims]:
        """Return the claims of all tokens."""
        return [*self.of_cookies, self.of_bearer] if self.of_bearer else self.of_cookies


class Wire:
    """Reads requests and writes answers, as the settings say and at the clock's time."""

    def __init__(self, settings: Settings, clock: Callable[[], float], tokens: Tokens) -> None:
        """Take the session cookie's name and attributes from the settings."""
        self._clock = clock
        self._tokens = tokens
        self._encode = msgspec.json.Encoder().encode
        self.session_cookie = session_cookie(settings)
        self.headers = AnswerHeaders(settings)

    # Answers

    def answer(self, resp: falcon.Response, status: int, message: str, **fields: object) -> None:
        """Put a success into the response: the envelope with `fields`, `user` among them."""
        resp.status = status
        resp.content_type = JSON
        resp.data = self._encode(
            {"code": status, "message": message, "timestamp": self._timestamp(), **fields}
        )

    def answer_user(self, resp: falcon.Response, status: int, message: str, user: User) -> None:
        """Put a success that shows a user into the response."""
        shown = {
            "id": user.id,
            "username": user.username,
            "email": user.email,
            "created_at": http_date(user.created_at),
            "updated_at": http_date(user.updated_at),
        }
        self.answer(resp, status, message, user=shown)

    def render(self, failure: Failure, accept: str) -> tuple[str, bytes]:
        """The media type and body of a failure: the envelope, or RFC 9457 problem details."""
        if prefers_problem(accept):
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
        accept = req.get_header("Accept", default="")
        resp.status = failure.status
        resp.content_type, resp.data = self.render(failure, accept)
        resp.set_headers(failure.headers)

    def whole(
        self, failure: Failure, *, accept: str, origin: str | None, request_id: str
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        """The status line, headers and body of a failure that Falcon does not answer."""
        media_type, body = self.render(failure, accept)
        headers = [
            ("Content-Type", media_type),
            *failure.headers.items(),
            *self.headers.of(origin),
            ("X-Request-ID", request_id),
        ]
        return f"{failure.status} {HTTPStatus(failure.status).phrase}", headers, body

    def _timestamp(self) -> str:
        return http_date(int(self._clock()))

    # Cookies and tokens

    def set_token(self, resp: falcon.Response, token: str, max_age: int) -> None:
        """Have the answer set the session cookie, for so many seconds."""
        self.set_cookie(resp, self.session_cookie, token, max_age)

    def delete_token(self, resp: falcon.Response) -> None:
        """Have the answer delete the session cookie."""
        self.set_cookie(resp, self.session_cookie, "", 0)

    def delete_brought(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Have the answer delete the session cookie, where the request brought one; set none.

        SECURITY: a bearer token alone says nothing of the cookie that its sender may have.
        """
        self.keep_token(resp)
        if self.presented(req).cookie_tokens:
            self.delete_token(resp)

    def keep_token(self, resp: falcon.Response) -> None:
        """Have the answer neither set nor delete the session cookie, whatever was asked for."""
        getattr(resp.context, "authapi_cookies", {}).pop(self.session_cookie, None)

    @staticmethod
    def set_cookie(resp: falcon.Response, cookie: Cookie, value: str, max_age: int) -> None:
        """Have the answer set a cookie, for so many seconds. The last call for a cookie counts."""
        if not hasattr(resp.context, "authapi_cookies"):
            resp.context.authapi_cookies = {}
        resp.context.authapi_cookies[cookie] = value, max_age

    def write_cookies(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Write the cookies that `set_cookie` was called for into the response."""
        cookies = getattr(resp.context, "authapi_cookies", None)
        if cookies:
            for cookie, (value, max_age) in cookies.items():
                for line in self.cookie_lines(req, cookie, value, max_age):
                    resp.append_header("Set-Cookie", line)
            cookies.clear()

    def cookie_lines(
        self, req: falcon.Request, cookie: Cookie, value: str, max_age: int
    ) -> list[str]:
        """Return the values of `Set-Cookie` that set or delete a cookie in an answer.

        A browser that brings several cookies has them for several domains. Those for other domains
        expire, and so does one whose domain is not known when the cookie is deleted. None expires
        where one of them holds no token of ours: it is another service's.
        """
        everywhere = False
        if cookie.other_domains:
            presented = self.presented(req)
            brought = len(presented.cookie_tokens)
            strays = brought > 1 or (brought == 1 and not max_age)
            everywhere = strays and len(presented.of_cookies) == brought
        return cookie.lines(value, max_age, everywhere=everywhere)

    def presented(self, req: falcon.Request) -> Presented:
        """Return the tokens that a request brings. They are read once."""
        presented: Presented | None = getattr(req.context, "authapi_presented", None)
        if presented is None:
            presented = req.context.authapi_presented = self._presented(req)
        return presented

    def _presented(self, req: falcon.Request) -> Presented:
        cookies, signed = self.session_cookie.values(req.env), self._tokens.signed
        if len(cookies) > 1:
            cookies = list(dict.fromkeys(cookies))
        authorization = req.env.get("HTTP_AUTHORIZATION")
        bearer = bearer_token(authorization) if authorization else None
        of_cookies = list(filter(None, map(signed, cookies)))
        return Presented(cookies, bearer, of_cookies, None if bearer is None else signed(bearer))


def prefers_problem(accept: str) -> bool:
    """Whether an `Accept` header prefers problem details to plain JSON."""
    accept = accept.lower()  # RFC 9110, 8.3.1
    if PROBLEM not in accept or len(accept) > LONGEST_ACCEPT:
        return False
    try:
        return mediatypes.best_match((JSON, PROBLEM), accept) == PROBLEM
    except ValueError:  # no media types
        return False
