"""One operation of the API document: its parameters, body, answers and security."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from authapi.body_tokens import HEADER
from authapi.core import Core
from authapi.errors import Failure, NotAuthenticated
from authapi.openapi.failures import FailureResponses, failures_of, signs_in
from authapi.openapi.parts import NEEDS, SECURITY
from authapi.openapi.schemas import Schemas, parameters_of
from authapi.operations import Operation
from authapi.wire import JSON

_TEXT = {"type": "string"}
_REQUEST_ID = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
_TOKEN = {
    "name": HEADER,
    "in": "header",
    "description": "`body` if the client keeps the token itself: it is in the body of the answer, "
    "and no cookie is set. Any other value counts as none.",
    "schema": _TEXT,
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of an answer that the client has.",
    "schema": _TEXT,
}


@dataclass(frozen=True, slots=True)
class Routed:
    """A method of a route, the resource that answers it, and what that declares of it."""

    template: str
    method: str
    resource: object
    operation: Operation


def described(
    core: Core, alternatives: Sequence[Routed], schemas: Schemas, responses: FailureResponses
) -> dict[str, Any]:
    """Return an operation, and note the components that it refers to.

    Where settings choose one of several, it has the answers of all, and the rest of the first.
    """
    resource, operation = alternatives[0].resource, alternatives[0].operation
    failures = set[type[Failure]]().union(
        *(failures_of(each.method, each.resource, each.operation) for each in alternatives)
    )
    is_public = getattr(resource, "public", False) is True
    made: dict[str, Any] = {"summary": operation.summary}
    if operation.name:
        made["operationId"] = operation.name
    if text := _needs(resource, operation):
        made["description"] = text
    if parameters := _parameters(core, alternatives[0].template, operation):
        made["parameters"] = parameters
    if operation.body:
        content = {JSON: {"schema": schemas.reference(operation.body)}}
        made["requestBody"] = {"required": operation.body_if is None, "content": content}
    renews = not is_public and getattr(resource, "renews", True) is True
    made["responses"] = {}
    for each in alternatives:
        made["responses"] |= _success(each.operation, schemas, renews=renews)
    made["responses"] |= responses.references(failures)
    made["security"] = _security(failures, is_public=is_public)
    return made


def _needs(resource: object, operation: Operation) -> str:
    needs = (*getattr(resource, "needs", ()), *operation.needs)
    return " ".join(NEEDS[need] for need in needs if need in NEEDS)


def _security(failures: set[type[Failure]], *, is_public: bool) -> list[dict[str, list[str]]]:
    """Return the schemes, any of which will do; an empty one where there need be no session."""
    if not is_public:
        return SECURITY
    return [{}, *SECURITY] if NotAuthenticated in failures else []


def _parameters(core: Core, template: str, operation: Operation) -> list[dict[str, Any]]:
    found = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": operation.path.get(name, ""),
            "schema": {**_TEXT, "minLength": 1},
        }
        for name in re.findall(r"\{(\w+)", template)
    ]
    if operation.query:
        found += parameters_of(operation.query)
    found += [
        {
            "name": core.cookies.name_of(cookie),
            "in": "cookie",
            "description": f"The {cookie.name} cookie, if the client has one.",
            "schema": _TEXT,
        }
        for cookie in operation.request_cookies
    ]
    if signs_in(operation):
        found.append(_TOKEN)
    return [*found, _IF_NONE_MATCH] if "ETag" in operation.headers else found


def _success(operation: Operation, schemas: Schemas, *, renews: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object" if operation.media_type == JSON else "string"}
    if operation.answers:
        schema = schemas.reference(operation.answers)
    headers: dict[str, Any] = dict(_REQUEST_ID)
    if renews:
        for name in (HEADER, "Set-Cookie"):
            headers[name] = {"$ref": f"#/components/headers/{name}"}
    headers |= {
        name: {"description": text, "schema": _TEXT} for name, text in operation.headers.items()
    }
    success = {
        "description": operation.summary,
        "headers": headers,
        "content": {operation.media_type: {"schema": schema}},
    }
    made: dict[str, Any] = {str(operation.status): success}
    if "ETag" in operation.headers:
        text = "The client has this answer already."
        made["304"] = {"description": text, "headers": {**_REQUEST_ID, "ETag": headers["ETag"]}}
    return made
