"""The API document: OpenAPI 3.1, made of what the routes of an application declare.

It is made when somebody first asks for it. No request but that one runs any of this.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
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


def document(app: AuthAPI, prefix: str = "", others: Iterable[AuthAPI] = ()) -> dict[str, Any]:
    """Return the OpenAPI document of the routes that an application has.

    `prefix` is the path below which the application is mounted. An application's own routes are in
    it if their responders are declared with `@operation`. `others` are applications with other
    settings, whose routes and answers are in it too.
    """
    schemas, responses = Schemas(), FailureResponses()
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, str] = {}
    for (template, method), found in sorted(_alternatives([app, *others]).items(), key=_order):
        tag, text = _tag(found[0].resource)
        tags[tag] = text
        made = described(app.core, found, schemas, responses)
        paths.setdefault(_path(template), {})[method.lower()] = {"tags": [tag], **made}
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


_Found = dict[tuple[str, str], list[Routed]]


def _alternatives(apps: Iterable[AuthAPI]) -> _Found:
    """Return the operations of each template and method: several where settings choose one."""
    found: _Found = {}
    for app in apps:
        for each in operations(app):
            known = found.setdefault((each.template, each.method), [])
            if each.operation not in [one.operation for one in known]:
                known.append(each)
    return found


def _order(item: tuple[tuple[str, str], object]) -> tuple[str, int]:
    (template, method), _ = item
    return template, METHODS.index(method)


def _path(template: str) -> str:
    """Return a template as OpenAPI writes it: without Falcon's converters."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", template)


def _tag(resource: object) -> tuple[str, str]:
    """Return the feature that a resource belongs to, and what that is for."""
    name = type(resource).__module__
    text = (sys.modules[name].__doc__ or "") if name.startswith("authapi.") else ""
    return name.rpartition(".")[2], text.partition("\n")[0]
