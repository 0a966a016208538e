"""Metrics of sessions: how many are opened, renewed and ended.

Endpoints: none. Table: none.
"""

from __future__ import annotations

import falcon

from authapi.core import Core
from authapi.events import Event
from authapi.features.registration import Registered
from authapi.features.renewal import SessionRenewed
from authapi.features.sessions import LoggedIn, LoggedOut, SessionRevoked

REQUIRES = ("registration", "renewal", "sessions")

COUNTED: dict[type[Event], str] = {
    LoggedIn: "opened",
    Registered: "opened",
    SessionRenewed: "renewed",
    LoggedOut: "ended",
    SessionRevoked: "revoked",
}


def _count(core: Core, kind: type[Event], word: str) -> None:
    """Count events of a kind that are about a session, once they are committed."""
    counter = core.metrics.counter("authapi_sessions_total", "Changes of sessions.", event=word)

    def count(event: Event) -> None:
        if event.session_id is not None:
            core.database.after_commit(counter.add)

    core.events.subscribe(count, kind)


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Subscribe to the events of sessions, where metrics are collected."""
    if core.metrics.collects:
        for kind, word in COUNTED.items():
            _count(core, kind, word)
