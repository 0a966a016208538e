"""The API document: OpenAPI 3.1, made of what the routes of an application declare.

It is made when somebody first asks for it. No request but that one runs any of this.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from authapi.openapi.failures import FailureResponses
from authapi.openapi.operations import Routed, described
from authapi.openapi.parts import HEADERS, INFO, security_schemes
from authapi.openapi.schemas import Schemas
from authapi.operations import operation_of
from authapi.session_tokens import SessionTokens

if TYPE_CHECKING:
    from authapi.app import AuthAPI

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def document(app: AuthAPI, prefix: str = "") -> dict[str, Any]:
    """Return the OpenAPI document of the routes that an application has.

    `prefix` is the path below which the application is mounted. An application's own routes are in
    it if their responders are declared with `@operation`.
    """
    found = sorted(operations(app), key=lambda each: (each.template, METHODS.index(each.method)))
    schemas, responses = Schemas(), FailureResponses()
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, str] = {}
    for each in found:
        tag, text = _tag(each.resource)
        tags[tag] = text
        made = described(app.core, each, schemas, responses)
        paths.setdefault(_path(each.template), {})[each.method.lower()] = {"tags": [tag], **made}
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "servers": [{"url": prefix or "/"}],
        "tags": [{"name": name, "description": tags[name]} for name in sorted(tags)],
        "paths": paths,
        "components": {
            "schemas": schemas.components() | responses.schemas(),
            "responses": responses.components(),
            "headers": HEADERS,
            "securitySchemes": security_schemes(app.core.of(SessionTokens).cookie.name),
        },
    }


def encoded(made: dict[str, Any]) -> bytes:
    """Return a document as JSON."""
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode()


def operations(app: AuthAPI) -> Iterator[Routed]:
    """Yield each operation that the routes of an application declare."""
    for template, (resource, suffix) in app.resources.items():
        for method in METHODS:
            name = "_".join(filter(None, ("on", method.lower(), suffix)))
            operation = operation_of(getattr(resource, name, None))
            if operation:
                yield Routed(template, method, resource, operation)


def _path(template: str) -> str:
    """Return a template as OpenAPI writes it: without Falcon's converters."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", template)


def _tag(resource: object) -> tuple[str, str]:
    """Return the feature that a resource belongs to, and what that is for."""
    name = type(resource).__module__
    text = (sys.modules[name].__doc__ or "") if name.startswith("authapi.") else ""
    return name.rpartition(".")[2], text.partition("\n")[0]
