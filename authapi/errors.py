"""Failures: the base class and those of the core; and the errors that end a command or a start.

A failure is raised where it is noticed, and `wire` renders it. Features declare their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NotRequired, TypedDict

LONGEST_FIELD, _CUT = 80, 79  # characters of a field's name in an answer
MOST_FAULTS = 20  # faults in an answer


class OperatorError(Exception):
    """Raised where a start or a command cannot go on. Its text is one sentence for the operator.

    `error` is a stable name for programs.
    """

    error = "failed"
    exit_status = 1


class StartError(OperatorError):
    """Raised when the service cannot start. Its text is one sentence that says what to do."""

    error = "cannot_start"


class Failure(Exception):
    """An answer with a status of 400 or above, or a redirect, as an exception."""

    status: int
    error: str  # a stable name
    message: str  # a sentence for a person
    challenge: str | None = None  # how to authenticate, RFC 9110, 11.6.1
    retry_after: int | None = None  # seconds
    notice: str = ""  # the kind of the log line for the operator; empty: there is none
    field_types: tuple[tuple[str, object], ...] = ()  # for the API document: those of `fields`

    def __str__(self) -> str:
        """Return the message."""
        return self.message

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that the answer has besides those of every answer."""
        headers = {"WWW-Authenticate": self.challenge} if self.challenge else {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return headers

    @property
    def fields(self) -> dict[str, object]:
        """Return what the envelope has besides `code`, `message`, `timestamp` and `error`."""
        return {}


class BadRequest(Failure):
    """Raised when a message is not HTTP, or could be read in two ways."""

    status, error, message = 400, "bad_request", "Bad request."


class MalformedJSON(Failure):
    """Raised when a body is not one strict JSON object."""

    status, error, message = 400, "malformed_json", "Malformed JSON."
    field_types = (("reason", NotRequired[str]),)

    def __init__(self, reason: str = "") -> None:
        """Take a parser's sentence about the fault and its place."""
        super().__init__(reason)
        self.reason = reason

    @property
    def fields(self) -> dict[str, object]:
        """Return the `reason`."""
        return {"reason": self.reason} if self.reason else {}


class NotAuthenticated(Failure):
    """Raised when a request brings no token and the resource is protected."""

    status, error, message = 401, "not_authenticated", "You need to be authenticated."
    challenge = "Bearer"


class InvalidToken(Failure):
    """Raised when the tokens of a request are those of no live session, or of several.

    The answer deletes a cookie that is bad.
    """

    status, error, message = 401, "invalid_token", "Invalid token or it has expired."
    challenge = 'Bearer error="invalid_token"'

    def __init__(self, *, forged: bool = False) -> None:
        """Take whether a token that came as ours was not signed by us."""
        super().__init__()
        self.notice = f"{self.error} forged" if forged else ""


class CrossSiteRequest(Failure):
    """Raised when a request from another site would change something."""

    status, error, message = 403, "cross_site_request", "Requests from other sites are refused."


class HTTPSRequired(Failure):
    """Raised when a request came to the proxy by http and the public URL is https.

    There is no redirect: the client has already sent its secrets in the clear (ASVS 4.1.2).
    """

    status, error, message = 403, "https_required", "Requests must come over https."


class FreshLoginRequired(Failure):
    """Raised when a resource needs a fresh session and the last proof was given too long ago."""

    status, error, message = 403, "fresh_login_required", "Give your password again first."


class StrongLoginRequired(Failure):
    """Raised when a resource needs a second factor that was given too long ago, or never."""

    status, error, message = 403, "strong_login_required", "Give your second factor again first."


class EmailNotVerified(Failure):
    """Raised when a resource needs a user whose address is proved."""

    status, error, message = 403, "email_not_verified", "Verify your email first."


class NotFound(Failure):
    """Raised when there is nothing at a path."""

    status, error = 404, "not_found"

    def __init__(self, path: str) -> None:
        """Take the path as received, percent-encoded."""
        super().__init__(path)
        self.message = f'Path "{path}" not found.'


class MethodNotAllowed(Failure):
    """Raised when a path does not answer the method."""

    status, error, message = 405, "method_not_allowed", "Method not allowed."


class RequestTimeout(Failure):
    """Raised when a request did not arrive completely within the deadline."""

    status, error, message = 408, "request_timeout", "The request took too long to arrive."


class LengthRequired(Failure):
    """Raised when the server cannot tell the length of the body."""

    status, error, message = 411, "length_required", "The request needs a Content-Length."


class PayloadTooLarge(Failure):
    """Raised when the body is over the limit."""

    status, error, message = 413, "payload_too_large", "The body is too large."


class URITooLong(Failure):
    """Raised when the request target is over the limit."""

    status, error, message = 414, "uri_too_long", "The URL is too long."


class UnsupportedMediaType(Failure):
    """Raised when the body is not declared as application/json."""

    status, error, message = 415, "unsupported_media_type", "Json data allowed."


class Fault(TypedDict):
    """What is wrong with a field."""

    field: str
    message: str


class ValidationFailed(Failure):
    """Raised when fields of a body are missing, unknown, of another type or against a rule.

    SECURITY: the answer names at most MOST_FAULTS fields and cuts long names, so that it cannot be
    many times as large as the body.
    """

    status, error, message = 422, "validation_failed", "Validation failed."
    field_types = (("errors", list[Fault]), ("errors_omitted", NotRequired[int]))

    def __init__(self, faults: Mapping[str, str]) -> None:
        """Take the faults, most important first: a message for each field."""
        super().__init__()
        self._errors = [
            Fault(field=name if len(name) <= LONGEST_FIELD else f"{name[:_CUT]}…", message=message)
            for name, message in islice(faults.items(), MOST_FAULTS)
        ]
        self._omitted = len(faults) - len(self._errors)

    @property
    def fields(self) -> dict[str, object]:
        """Return the first faults as `errors`, and the number of others as `errors_omitted`."""
        more = {"errors_omitted": self._omitted} if self._omitted else {}
        return {"errors": self._errors, **more}


class HeadersTooLarge(Failure):
    """Raised when the headers are over the limit."""

    status, error, message = 431, "headers_too_large", "The headers are too large."


class InternalError(Failure):
    """Answered for an exception that nobody expected. Nothing of the cause leaves the server."""

    status, error, message = 500, "internal_error", "Internal server error."


class NotImplementedHere(Failure):
    """Raised when the body has a transfer coding other than chunked."""

    status, error, message = 501, "not_implemented", "Not implemented."


class Overloaded(Failure):
    """Raised when as many requests hash, or wait to hash, as may at once."""

    status, error, message = 503, "overloaded", "Too busy to check passwords. Try again soon."
    retry_after = 1
    notice = error


class Unavailable(Failure):
    """Raised when the database cannot be read or written at the moment."""

    status, error, message = 503, "unavailable", "Temporarily unavailable. Try again soon."
    retry_after = 1
