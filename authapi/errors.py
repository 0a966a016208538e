"""The failures that a client can be answered with, and the one that stops the start.

A failure is raised where it is known and rendered in one place (`wire`).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

LONGEST_FIELD = 80  # characters of a field's name in an answer
MOST_FAULTS = 20  # faults in an answer


class StartError(Exception):
    """What stops the start. Its text is one sentence that says what to do."""


class Failure(Exception):
    """An answer with a status of 400 or above."""

    status: int
    error: str  # a stable name
    message: str  # a sentence for a person
    challenge: str | None = None  # how to authenticate, RFC 9110, 11.6.1
    retry_after: int | None = None  # seconds
    notice: str = ""  # the kind of log line that tells an operator of it, if there is one

    @property
    def headers(self) -> dict[str, str]:
        """What the answer's headers hold besides those of every answer."""
        headers = {}
        if self.challenge:
            headers["WWW-Authenticate"] = self.challenge
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return headers

    @property
    def fields(self) -> dict[str, object]:
        """What the envelope holds besides `code`, `message`, `timestamp` and `error`."""
        return {}


class BadRequest(Failure):
    """A message that is not HTTP, or not unmistakably so."""

    status, error, message = 400, "bad_request", "Bad request."


class MalformedJSON(Failure):
    """A body that is not one strict JSON object."""

    status, error, message = 400, "malformed_json", "Malformed JSON."

    def __init__(self, reason: str = "") -> None:
        """Take what is wrong, and where, in a parser's words."""
        super().__init__(reason)
        self.reason = reason

    @property
    def fields(self) -> dict[str, object]:
        """What is wrong."""
        return {"reason": self.reason} if self.reason else {}


class NotAuthenticated(Failure):
    """No token where one is needed."""

    status, error, message = 401, "not_authenticated", "You need to be authenticated."
    challenge = "Bearer"


class InvalidToken(Failure):
    """Tokens that open no session, or not clearly one. The answer deletes a cookie that is bad."""

    status, error, message = 401, "invalid_token", "Invalid token or it has expired."
    challenge = 'Bearer error="invalid_token"'

    def __init__(self, *, forged: bool = False) -> None:
        """Take whether a token was none of ours, although it came as one."""
        super().__init__()
        self.notice = f"{self.error} forged" if forged else ""


class CrossSiteRequest(Failure):
    """A request from another site that would change something."""

    status, error, message = 403, "cross_site_request", "Requests from other sites are refused."


class HTTPSRequired(Failure):
    """A request that came to the proxy by plain http, where the public URL is https.

    There is no redirect: the client has already sent its secrets in the clear (ASVS 4.1.2).
    """

    status, error, message = 403, "https_required", "Requests must come over https."


class FreshLoginRequired(Failure):
    """A session whose password was given too long ago for what it asks."""

    status, error, message = 403, "fresh_login_required", "Give your password again first."


class NotFound(Failure):
    """A path that nothing is at."""

    status, error = 404, "not_found"

    def __init__(self, path: str) -> None:
        """Take the path as received, percent-encoded."""
        super().__init__(path)
        self.message = f'Path "{path}" not found.'


class MethodNotAllowed(Failure):
    """A method that the path does not answer."""

    status, error, message = 405, "method_not_allowed", "Method not allowed."


class RequestTimeout(Failure):
    """A request that did not arrive whole within the deadline."""

    status, error, message = 408, "request_timeout", "The request took too long to arrive."


class LengthRequired(Failure):
    """A body whose length the server cannot tell."""

    status, error, message = 411, "length_required", "The request needs a Content-Length."


class PayloadTooLarge(Failure):
    """A body over the limit."""

    status, error, message = 413, "payload_too_large", "The body is too large."


class URITooLong(Failure):
    """A request target over the limit."""

    status, error, message = 414, "uri_too_long", "The URL is too long."


class UnsupportedMediaType(Failure):
    """A body that is not declared as application/json."""

    status, error, message = 415, "unsupported_media_type", "Json data allowed."


class ValidationFailed(Failure):
    """Fields missing, unknown, of the wrong type or against their rule.

    SECURITY: the answer names MOST_FAULTS of them at most, and cuts long names, so that it is never
    a multiple of the body.
    """

    status, error, message = 422, "validation_failed", "Validation failed."

    def __init__(self, faults: Mapping[str, str]) -> None:
        """Take the faults, most important first: a message for each field."""
        super().__init__()
        self._errors = [
            {"field": _shortened(field), "message": message}
            for field, message in islice(faults.items(), MOST_FAULTS)
        ]
        self._omitted = len(faults) - len(self._errors)

    @property
    def fields(self) -> dict[str, object]:
        """The first faults as `errors`, and in `errors_omitted` how many more there are, if any."""
        fields: dict[str, object] = {"errors": self._errors}
        if self._omitted:
            fields["errors_omitted"] = self._omitted
        return fields


def _shortened(field: str) -> str:
    return field if len(field) <= LONGEST_FIELD else f"{field[: LONGEST_FIELD - 1]}…"


class HeadersTooLarge(Failure):
    """Headers over the limit."""

    status, error, message = 431, "headers_too_large", "The headers are too large."


class InternalError(Failure):
    """Our own fault. Nothing of the cause leaves the server."""

    status, error, message = 500, "internal_error", "Internal server error."


class NotImplementedHere(Failure):
    """A transfer coding that we do not speak."""

    status, error, message = 501, "not_implemented", "Not implemented."


class Overloaded(Failure):
    """The password hashers are full. Turned away at once, without waiting."""

    status, error, message = 503, "overloaded", "Too busy to check passwords. Try again soon."
    retry_after = 1
    notice = error


class Unavailable(Failure):
    """The database cannot be read or written at the moment."""

    status, error, message = 503, "unavailable", "Temporarily unavailable. Try again soon."
    retry_after = 1
