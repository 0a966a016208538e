"""The wire: how successes and failures become HTTP answers.

`docs/contract.md` is the same for people.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus

import falcon
import msgspec
from falcon.util import mediatypes

from authapi.answers import Answer, ShownUser, SignedInAnswer, UserAnswer, http_date
from authapi.body_tokens import take
from authapi.errors import Failure
from authapi.headers import AnswerHeaders
from authapi.principal import User
from authapi.settings import Settings

LONGEST_ACCEPT = 1_024  # characters; parsing takes its time
JSON = "application/json"
PROBLEM = "application/problem+json"


class Wire:
    """Writes answers, with the headers that the settings ask for and the clock's time."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        """Take the settings that say which headers answers have."""
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode
        self.headers = AnswerHeaders(settings)
        self.shows_email_verified = False  # a feature may turn it on in `setup`

    def answer(self, resp: falcon.Response, answer: Answer) -> None:
        """Put a success into the response, with its status and the time."""
        answer.timestamp = self._timestamp()
        resp.status = answer.code
        resp.content_type = JSON
        resp.data = self._encode(answer)

    def answer_user(
        self,
        resp: falcon.Response,
        status: int,
        message: str,
        user: User,
        kind: Callable[..., UserAnswer] = UserAnswer,
    ) -> None:
        """Put a success that shows a user into the response."""
        shown = ShownUser(
            id=user.id,
            username=user.username,
            email=user.email,
            created_at=http_date(user.created_at),
            updated_at=http_date(user.updated_at),
        )
        if self.shows_email_verified:
            shown.email_verified = user.email_verified
        self.answer(resp, kind(code=status, message=message, user=shown))

    def answer_signed_in(
        self, resp: falcon.Response, status: int, message: str, user: User
    ) -> None:
        """Put a success that shows a user into the response, with the token if it has one."""
        kind: Callable[..., UserAnswer] = SignedInAnswer
        if given := take(resp):
            kind = partial(kind, token=given.token, expires_at=http_date(given.expires_at))
        self.answer_user(resp, status, message, user, kind)

    def render(self, failure: Failure, accept: str) -> tuple[str, bytes]:
        """Return the media type and the body of a failure: our envelope, or RFC 9457's."""
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
        """Return the status line, headers and body of a failure that Falcon does not answer."""
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


def prefers_problem(accept: str) -> bool:
    """Return whether an `Accept` header prefers problem details to plain JSON."""
    accept = accept.lower()  # RFC 9110, 8.3.1
    if PROBLEM not in accept or len(accept) > LONGEST_ACCEPT:
        return False
    try:
        return mediatypes.best_match((JSON, PROBLEM), accept) == PROBLEM
    except ValueError:  # no media types
        return False
