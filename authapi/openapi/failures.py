"""The failures of an operation: which there may be, by rule, and their answers.

Each combination of failures that one status can stand for has one flat schema. Generators of
clients lose schemas that refine another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from inspect import cleandoc
from typing import Any, NotRequired, get_args, get_origin

from authapi import errors
from authapi.answers import SignedInAnswer
from authapi.body_tokens import HEADER, TokenNotAllowed
from authapi.errors import Failure
from authapi.middleware import SAFE_METHODS
from authapi.openapi.schemas import PREFIX, schema_of
from authapi.operations import Operation
from authapi.principal import Need, fresh, strong, verified
from authapi.wire import JSON, PROBLEM

ALWAYS = (
    errors.BadRequest,
    errors.HTTPSRequired,
    errors.RequestTimeout,
    errors.PayloadTooLarge,
    errors.URITooLong,
    errors.HeadersTooLarge,
    errors.InternalError,
    errors.NotImplementedHere,
    errors.Unavailable,
)
OF_SESSIONS = (errors.NotAuthenticated, errors.InvalidToken)
OF_BODIES = (
    errors.MalformedJSON,
    errors.LengthRequired,
    errors.UnsupportedMediaType,
    errors.ValidationFailed,
)
OF_NEEDS: dict[Need, tuple[type[Failure], ...]] = {
    fresh: (errors.FreshLoginRequired,),
    strong: (errors.FreshLoginRequired, errors.StrongLoginRequired),
    verified: (errors.EmailNotVerified,),
}

_STATUSES = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 409: "Conflict"}
_STATUSES |= {503: "ServiceUnavailable"}
_ALWAYS = {each.error for each in ALWAYS}
_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "http-date"}


def failures_of(method: str, resource: object, operation: Operation) -> set[type[Failure]]:
    """Return the failures that an operation may answer."""
    found: set[type[Failure]] = {*ALWAYS, *operation.raises}
    if method not in SAFE_METHODS:
        found.update((errors.CrossSiteRequest, TokenNotAllowed))
        if getattr(resource, "hashes", False) is True:
            found.add(errors.Overloaded)
    if getattr(resource, "public", False) is not True:
        found.update(OF_SESSIONS)
    if operation.body:
        found.update(OF_BODIES)
    for need in (*getattr(resource, "needs", ()), *operation.needs):
        found.update(OF_NEEDS.get(need, ()))
    return found


def signs_in(operation: Operation) -> bool:
    """Return whether an operation hands out a token, which clients may ask for in the body."""
    return operation.answers is not None and issubclass(operation.answers, SignedInAnswer)


class FailureResponses:
    """The answers of failures that a document refers to, each combination once."""

    def __init__(self) -> None:
        """Start without any."""
        self._found: dict[str, dict[str, type[Failure]]] = {}

    def references(self, failures: Iterable[type[Failure]]) -> dict[str, Any]:
        """Return the reference to the answer of each status, in the order of the statuses."""
        by_status: dict[int, dict[str, type[Failure]]] = {}
        for each in sorted(failures, key=_order):
            by_status.setdefault(each.status, {}).setdefault(each.error, each)
        references = {}
        for status, found in by_status.items():
            name = _name(status, found)
            self._found[name] = found
            references[str(status)] = {"$ref": f"#/components/responses/{name}"}
        return references

    def components(self) -> dict[str, Any]:
        """Return the answers by name."""
        return {name: _response(name, [*self._found[name].values()]) for name in self._names()}

    def schemas(self) -> dict[str, Any]:
        """Return the schemas of the answers by name, and what they refer to."""
        fields = dict(
            each
            for found in self._found.values()
            for kind in found.values()
            for each in kind.field_types
        )
        own = {name: _schema([*self._found[name].values()]) for name in self._names()}
        return {"Fault": _FAULT, "Problem": _problem(fields), **own}

    def _names(self) -> list[str]:
        return sorted(
            self._found, key=lambda name: (next(iter(self._found[name].values())).status, name)
        )


def when(failure: type[Failure]) -> str:
    """Return when a failure is answered: the first sentences of its class, or its message."""
    text = cleandoc(failure.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    text = re.sub(r"^(Raised|Answered) (when |for |where |)", "", text) or failure.message
    return text[0].upper() + text[1:]


def _order(failure: type[Failure]) -> tuple[int, str, int, str]:
    """Return what failures are sorted by: a class comes before those that refine it."""
    return failure.status, failure.error, len(failure.__mro__), failure.__name__


def _name(status: int, found: Iterable[str]) -> str:
    """Return the name of a combination: its only failure, or the status and what is special."""
    names = list(found)
    if len(names) == 1:
        return _camel(names[0])
    special = [_camel(name) for name in names if name not in _ALWAYS]
    return _STATUSES.get(status, f"Status{status}") + "".join(special)


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _response(name: str, failures: list[type[Failure]]) -> dict[str, Any]:
    lines = [f"- `{each.error}`: {when(each)}" for each in failures]
    names = {header for each in failures for header in _headers(each)}
    headers = {header: {"$ref": f"#/components/headers/{header}"} for header in sorted(names)}
    return {
        "description": "\n".join(lines),
        "headers": headers,
        "content": {
            JSON: {"schema": {"$ref": f"{PREFIX}{name}"}},
            PROBLEM: {"schema": {"$ref": f"{PREFIX}Problem"}},
        },
    }


def _headers(failure: type[Failure]) -> Iterable[str]:
    """Yield the names of the headers that a failure's answer may have."""
    yield from ("X-Request-ID", "Set-Cookie", HEADER)
    yield from getattr(failure, "header_names", ())
    if failure.challenge:
        yield "WWW-Authenticate"
    if failure.retry_after is not None:
        yield "Retry-After"


def _schema(failures: list[type[Failure]]) -> dict[str, Any]:
    """Return the schema of the envelope of any of these failures, which have one status."""
    fields = [dict(each.field_types) for each in failures]
    all_fields = {name: kind for each in fields for name, kind in each.items()}
    always = [
        name
        for name in all_fields
        if all(name in each and get_origin(each[name]) is not NotRequired for each in fields)
    ]
    return {
        "type": "object",
        "properties": {
            "code": {"type": "string", "enum": [str(failures[0].status)]},
            "message": _TEXT,
            "timestamp": _TIME,
            "error": {"type": "string", "enum": [each.error for each in failures]},
            **{name: _of_field(kind) for name, kind in all_fields.items()},
        },
        "required": ["code", "message", "timestamp", "error", *always],
    }


def _problem(fields: dict[str, object]) -> dict[str, Any]:
    """Return the schema of RFC 9457's problem details, for any failure."""
    return {
        "type": "object",
        "description": "A failure as RFC 9457 has it, for clients that prefer this media type.",
        "properties": {
            "type": {"type": "string", "enum": ["about:blank"]},
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "error": _TEXT,
            **{name: _of_field(kind) for name, kind in fields.items()},
        },
        "required": ["type", "title", "status", "detail", "error"],
    }


def _of_field(kind: object) -> dict[str, Any]:
    return schema_of(get_args(kind)[0] if get_origin(kind) is NotRequired else kind)


_FAULT = {
    "type": "object",
    "description": "What is wrong with a field.",
    "properties": {"field": _TEXT, "message": _TEXT},
    "required": ["field", "message"],
}
