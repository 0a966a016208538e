"""Request ids: which names of a request, given by a trusted proxy, are kept."""

from __future__ import annotations

import re
from typing import Any

from authapi.middleware import REQUEST_ID, TRACE_ID

_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_TRACE = re.compile(
    r"([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)


def keep_ids(environ: dict[str, Any]) -> None:
    """Keep the id that a trusted proxy gives a request, or else the id of its trace.

    SECURITY: both are written to the log and to the answer, so nothing else than plain characters
    is kept. A peer that is not trusted is not asked.
    """
    given, trace_id = environ.get("HTTP_X_REQUEST_ID", ""), _trace_id(environ)
    if trace_id:
        environ[TRACE_ID] = trace_id
    if _ID.fullmatch(given):
        environ[REQUEST_ID] = given
    elif trace_id:
        environ[REQUEST_ID] = trace_id


def _trace_id(environ: dict[str, Any]) -> str:
    """Return the trace id of `traceparent` (W3C Trace Context, 3.2), or an empty text.

    Version 00 has four parts. Others may have more, and ff is none.
    """
    found = _TRACE.fullmatch(environ.get("HTTP_TRACEPARENT", ""))
    if found is None or found[1] == "ff" or (found[1] == "00" and found[3]):
        return ""
    return found[2]
