"""Metrics of sessions and backups: sessions that are opened, renewed and ended; the last backup.

Endpoints: none. Table: none of its own.
"""

from __future__ import annotations

import falcon

from authapi.core import Core
from authapi.events import Event
from authapi.features.registration import Registered
from authapi.features.renewal import SessionRenewed
from authapi.features.sessions import LoggedIn, LoggedOut, SessionRevoked
from authapi.jobs import Job, Jobs

REQUIRES = ("registration", "renewal", "sessions")

BACKUP = "backed_up"  # the event of `authapi db backup`, whose module a server does not load
LOOK_EVERY = 60  # seconds

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


def _look_for_backups(core: Core) -> Job:
    """Return the job that reads when the last backup was made."""
    newest_time_of = core.database.statements("audit").newest_time_of
    latest = core.metrics.latest(
        "authapi_last_backup_timestamp_seconds", "Time of the last `authapi db backup`."
    )

    def run(_: Core) -> bool:
        latest.set(newest_time_of(event=BACKUP))
        return False

    return Job("last_backup", LOOK_EVERY, run)


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Subscribe to the events of sessions, and look for backups, where metrics are collected."""
    if core.metrics.collects:
        for kind, word in COUNTED.items():
            _count(core, kind, word)
        core.of(Jobs).add(_look_for_backups(core))
