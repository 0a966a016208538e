"""Parsing of HTTP header values, one function for each kind (RFC 9110, 5.6).

NOTE: `str.strip()` also removes Unicode's white space, such as U+0085 and U+00A0. HTTP's white
space is the space and the tab.
"""

from __future__ import annotations

import re

WHITE_SPACE = " \t"  # RFC 9110, 5.6.3

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # a token: RFC 9110, 5.6.2
_QUOTED_STRING = r'"(?:[^"\\]|\\.)*"'
_MEDIA_TYPE = re.compile(f"{_WORD}/{_WORD}")
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*(?:({_WORD})=({_WORD}|{_QUOTED_STRING}))?")
_BEARER_TOKEN = re.compile(r" *([A-Za-z0-9._~+/-]+=*)")


def elements(value: str) -> list[str]:
    """Return the elements of a list, in order. Several lines of a field arrive as one list."""
    return [element.strip(WHITE_SPACE) for element in value.split(",")]


def unquoted(text: str) -> str:
    """Return the content of a quoted string, or a text without quotes unchanged.

    Raises ValueError for an unclosed quote.
    """
    if '"' not in text:
        return text
    if not re.fullmatch(_QUOTED_STRING, text):
        raise ValueError("a quote that does not close")
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def media_type(value: str) -> tuple[str, dict[str, str] | None]:
    """Return the media type of a `Content-Type` in lower case, and its parameters by name.

    The parameters are None if they cannot be read, if one comes twice, or if another value follows,
    as when the field has several lines (RFC 9110, 5.6.6 and 8.3.1).
    """
    value = value.strip(WHITE_SPACE)
    found = _MEDIA_TYPE.match(value)
    if not found:
        return "", None
    parameters: dict[str, str] = {}
    end = found.end()
    while parameter := _PARAMETER.match(value, end):
        end = parameter.end()
        name = (parameter[1] or "").lower()
        if name in parameters:
            return found[0].lower(), None
        if name:
            parameters[name] = unquoted(parameter[2])
    return found[0].lower(), None if value[end:] else parameters


def bearer_token(authorization: str) -> str | None:
    """Return the token of an `Authorization: Bearer`, or None for other kinds of credentials.

    The scheme may have any case, and spaces follow it (RFC 9110, 11.1 and 11.4). A token has no
    white space and no comma (RFC 6750, 2.1). Anything else, such as a field of several lines, gives
    an empty text.
    """
    scheme, _, credentials = authorization.strip(WHITE_SPACE).partition(" ")
    if scheme.lower() != "bearer":
        return None
    found = _BEARER_TOKEN.fullmatch(credentials)
    return found[1] if found else ""
