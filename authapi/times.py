"""Times as text, for what commands show and for a user's personal data."""

from __future__ import annotations

import time


def timestamp(seconds: float | None) -> str | None:
    """Return a time as ISO 8601 in UTC: `2026-11-26T05:55:00Z`."""
    if seconds is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
