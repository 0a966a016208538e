"""Values of HTTP header fields: one function reads each kind (RFC 9110, 5.6).

NOTE: `str.strip()` takes what Unicode calls white space too, U+0085 and U+00A0 among it. HTTP's
white space is the space and the tab.
"""

from __future__ import annotations

import re

WHITE_SPACE = " \t"  # RFC 9110, 5.6.3

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def elements(value: str) -> list[str]:
    """The elements of a list, in order. A field of several lines arrives as one list."""
    return [element.strip(WHITE_SPACE) for element in value.split(",")]


def unquoted(text: str) -> str:
    """The content of a quoted string, or a text without quotes as it is. Raises ValueError."""
    if '"' not in text:
        return text
    match = _QUOTED.fullmatch(text)
    if not match:
        raise ValueError("a quote that does not close")
    return re.sub(r"\\(.)", r"\1", match[1])
