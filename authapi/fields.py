"""Values of HTTP header fields: one function reads each kind (RFC 9110, 5.6).

NOTE: `str.strip()` takes what Unicode calls white space too, U+0085 and U+00A0 among it. HTTP's
white space is the space and the tab.
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
    """The elements of a list, in order. A field of several lines arrives as one list."""
    return [element.strip(WHITE_SPACE) for element in value.split(",")]


def unquoted(text: str) -> str:
    """The content of a quoted string, or a text without quotes as it is. Raises ValueError."""
    if '"' not in text:
        return text
    if not re.fullmatch(_QUOTED_STRING, text):
        raise ValueError("a quote that does not close")
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def media_type(value: str) -> tuple[str, dict[str, str] | None]:
    """The media type of a `Content-Type`, in lower case, and its parameters by name.

    None stands for parameters that cannot be read, that come twice, or that another value follows,
    as where the field has several lines (RFC 9110, 5.6.6 and 8.3.1).
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
    """The token of an `Authorization: Bearer`, or None for credentials of another kind.

    The scheme has any case, and spaces follow it (RFC 9110, 11.1 and 11.4). A token has no white
    space and no comma, so a field of several lines holds none (RFC 6750, 2.1): it is empty then.
    """
    scheme, _, credentials = authorization.strip(WHITE_SPACE).partition(" ")
    if scheme.lower() != "bearer":
        return None
    found = _BEARER_TOKEN.fullmatch(credentials)
    return found[1] if found else ""
