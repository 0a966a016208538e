"""Operations: what a responder declares of itself, and what is done before it runs.

The API document is made of the declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import wraps
from typing import Any, TypeVar

import falcon
import msgspec

from authapi.answers import Answer
from authapi.bodies import read_body
from authapi.cookies import Cookie
from authapi.errors import Failure
from authapi.principal import Need, principal_of
from authapi.validation import Faults, Fields

Responder = TypeVar("Responder", bound=Callable[..., None])


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of a resource. Decorate the responder with it: `@operation("Log in.", …)`.

    `name` is unique, as a verb in camel case: generated clients call their functions by it.
    `answers` is None for an answer that is not an `Answer`; then `media_type` says what it is.

    `raises` lists the failures of this method alone. Leave out those that follow from the other
    declarations: NotAuthenticated if the resource is not public, MalformedJSON if there is a body.

    The responder receives the checked body as `body`. With `body_if` the body is optional: if that
    function returns False for a request, nothing is read and `body` is None. `rules` is a method of
    the resource. It receives the request and the fields whose types are right, and returns the
    faults of those that break a rule. Each of `needs` is checked before the body is read.

    The API document alone reads the rest: what the `headers` of a success and the parameters of the
    `path` are, by name; the fields of the `query`, which the responder reads itself; and the
    `request_cookies` that a client may send besides the session's.
    """

    summary: str
    _: KW_ONLY
    name: str = ""
    answers: type[Answer] | None = Answer
    media_type: str = "application/json"
    status: int = 200
    raises: tuple[type[Failure], ...] = ()
    needs: tuple[Need, ...] = ()
    body: type[msgspec.Struct] | None = None
    body_if: Callable[[falcon.Request], bool] | None = None
    rules: Callable[[Any, falcon.Request, Fields], Faults] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    path: Mapping[str, str] = field(default_factory=dict)
    query: type[msgspec.Struct] | None = None
    request_cookies: tuple[Cookie, ...] = ()

    def __call__(self, responder: Responder) -> Responder:
        """Declare a responder."""
        vars(responder)["operation"] = self
        return responder

    def body_of(self, req: falcon.Request, resource: object) -> msgspec.Struct | None:
        """Return the body of a request, or None. Raises what `read_body` raises."""
        if self.body is None or (self.body_if and not self.body_if(req)):
            return None
        rules = self.rules
        check = (lambda fields: rules(resource, req, fields)) if rules else None
        return read_body(req, self.body, check)


operation = Operation


def operation_of(responder: object) -> Operation | None:
    """Return what a responder declares, or None."""
    declared = getattr(responder, "operation", None)
    return declared if isinstance(declared, Operation) else None


def prepared(responder: Callable[..., Any], clock: Callable[[], float]) -> Callable[..., Any]:
    """Return a resource's responder with what comes before it: its needs, and its body.

    One without needs and without a body is returned as it is. Raises TypeError for needs in a
    public resource, which nobody could meet.
    """
    declared = operation_of(responder)
    if declared is None or not (declared.needs or declared.body):
        return responder
    resource = getattr(responder, "__self__", None)
    if declared.needs and getattr(resource, "public", False) is True:
        raise TypeError(f"{type(resource).__name__} cannot be public and have needs")

    @wraps(responder)
    def respond(req: falcon.Request, resp: falcon.Response, **params: object) -> None:
        for need in declared.needs:
            need(principal_of(req), clock())
        if declared.body:
            params["body"] = declared.body_of(req, resource)
        responder(req, resp, **params)

    return respond
