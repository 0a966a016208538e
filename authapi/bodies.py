"""Request bodies: whether a request has one, and reading it as strict JSON."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any, cast

import falcon
import msgspec

from authapi.errors import (
    BadRequest,
    LengthRequired,
    MalformedJSON,
    PayloadTooLarge,
    UnsupportedMediaType,
)
from authapi.fields import media_type
from authapi.validation import Body, Rules, validated

BODY_LIMIT = 65_536  # bytes
DEEPEST = 100  # levels of objects and lists in a body, the outermost included

_JSON = "application/json"
_UNKNOWN_LENGTH = -1  # the body ends where the server's input ends


def has_body(req: falcon.Request) -> bool:
    """Return whether a request has a body, whatever its media type.

    SECURITY: one that says `Transfer-Encoding` has, also where none of it arrives: some servers
    pass a body that was cut off on as an empty one. Raises LengthRequired or BadRequest.
    """
    length = _length(req)
    if length == _UNKNOWN_LENGTH:
        return _is_coded(req) or bool(_content(req))
    return length > 0


def has_json(req: falcon.Request) -> bool:
    """Return whether a request has a body that is declared as JSON."""
    return media_type(req.content_type or "")[0] == _JSON and has_body(req)


def read_body(req: falcon.Request, body: type[Body], rules: Rules | None = None) -> Body:
    """Return the request's JSON object as a `body`.

    `rules` returns the faults of the fields that it is given: see `validated`. Raises
    UnsupportedMediaType, LengthRequired, BadRequest, PayloadTooLarge, MalformedJSON, or
    ValidationFailed.
    """
    return validated(_document(req), body, rules)


def _length(req: falcon.Request) -> int:
    """Return the body's length in bytes, or _UNKNOWN_LENGTH. Raises LengthRequired.

    Servers that pass a chunked body on as it arrives give no length, and say
    `wsgi.input_terminated` where reading ends with the body. So may servers of HTTP/2, where a body
    needs neither `Content-Length` nor `Transfer-Encoding`.

    SECURITY: a body whose end the server cannot tell is refused, and never taken for none: a wrong
    password in it must not count as no password.
    """
    length = req.content_length
    if req.env.get("wsgi.input_terminated") and (_is_coded(req) or length is None):
        return _UNKNOWN_LENGTH
    if length is None and _is_coded(req):
        raise LengthRequired
    return length or 0


def _is_coded(req: falcon.Request) -> bool:
    return "HTTP_TRANSFER_ENCODING" in req.env


def _content(req: falcon.Request) -> bytes:
    """Return the body, or its first BODY_LIMIT + 1 bytes. Raises BadRequest where it is cut off.

    The server's input can be read once, so the request's context keeps what was read.
    """
    try:
        content: bytes = req.context.authapi_content
    except AttributeError:
        content = req.context.authapi_content = _received(req, _length(req))
    return content


def _received(req: falcon.Request, length: int) -> bytes:
    wanted = BODY_LIMIT + 1
    if length != _UNKNOWN_LENGTH:
        wanted = min(length, wanted)
    received = bytearray()
    try:
        while len(received) < wanted:
            piece = req.stream.read(wanted - len(received))
            if not piece:
                break
            received += piece
    except Exception as error:  # for malformed chunks each server raises classes of its own
        raise BadRequest from error
    if length != _UNKNOWN_LENGTH and len(received) < wanted:
        raise BadRequest
    return bytes(received)


def _document(req: falcon.Request) -> dict[str, object]:
    """Return the body as a JSON object.

    It is read strictly: UTF-8, no duplicate keys, no NaN, no lone surrogates.
    """
    _require_json(req)
    if _length(req) > BODY_LIMIT:
        raise PayloadTooLarge
    text = _content(req)
    if len(text) > BODY_LIMIT:
        raise PayloadTooLarge
    try:
        # NOTE: msgspec is the strict parser, but takes the last of duplicate keys.
        document = msgspec.json.decode(text)
        _require_object(document)
        json.loads(text, object_pairs_hook=_require_unique)
    except (ValueError, RecursionError) as error:
        raise MalformedJSON(str(error).removeprefix("JSON is malformed: ")) from error
    return cast("dict[str, object]", document)


def _require_json(req: falcon.Request) -> None:
    """Raise UnsupportedMediaType unless the body is declared as `application/json`, exactly once.

    SECURITY: HTML forms can send other types to any site, without a preflight.
    """
    kind, parameters = media_type(req.content_type or "")
    charset = (parameters or {}).pop("charset", "utf-8").lower()
    if kind != _JSON or parameters != {} or charset != "utf-8":
        raise UnsupportedMediaType


def _require_object(document: object) -> None:
    """Raise ValueError unless it is an object of at most DEEPEST levels.

    NOTE: the parsers' own limits vary with Python.
    """
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - it is the client's mistake
    level: list[Any] = [document]
    for _ in range(DEEPEST):
        values = chain.from_iterable(one.values() if type(one) is dict else one for one in level)
        level = [value for value in values if type(value) is dict or type(value) is list]
        if not level:
            return
    raise ValueError("nested too deep")


def _require_unique(pairs: list[tuple[str, object]]) -> None:
    """Raise ValueError where an object has a key twice."""
    if len(pairs) > 1 and len(dict(pairs)) < len(pairs):
        raise ValueError("duplicate keys")
