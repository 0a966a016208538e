"""The audit log: what happened to accounts and sessions, kept for 90 days.

Endpoint: GET /user/activity. Table: audit_log.
"""

from __future__ import annotations

from typing import Annotated

import falcon
import msgspec
from msgspec import Meta
from msgspec.structs import asdict

from authapi.answers import Answer, http_date
from authapi.core import Core
from authapi.errors import ValidationFailed
from authapi.events import Event, Restored
from authapi.jobs import pruning
from authapi.operations import operation
from authapi.personal_data import PersonalData
from authapi.principal import User, principal_of
from authapi.times import timestamp

REQUIRES: tuple[str, ...] = ()

RETENTION = 90 * 86_400  # seconds; a trigger holds to the same
PRUNED_EVERY = 60  # seconds
NOBODYS = 10_000  # rows that name no user
SKIPPED_AT_RESTORE = 1_000_000_000  # ids
MOST_SHOWN = 100
SHOWN = 50
LARGEST_ID = 2**63 - 1


class Entry(msgspec.Struct, frozen=True):
    """A row of the log; `created_at` is seconds since the epoch."""

    id: int
    created_at: int
    event: str
    session_id: str | None
    ip: str
    user_agent: str
    request_id: str
    detail: str | None


class AuditRepository:
    """The audit_log table: rows are added, and deleted by age.

    SECURITY: rows that name no user are deleted by number too, for anybody can cause them, by
    logins with made-up names. They are deleted by a job and not as a new one is added, so that the
    time of a login does not tell whether its name is a user's.
    """

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._statements = core.database.statements("audit")

    def insert(self, event: Event, now: int) -> None:
        """Add an event, inside a transaction."""
        caller = event.caller
        self._statements.insert(
            id=self._first_free(event) if isinstance(event, Restored) else None,
            created_at=now,
            event=event.name,
            detail=event.detail,
            user_id=event.user_id,
            session_id=event.session_id,
            ip=caller.ip,
            user_agent=caller.user_agent,
            request_id=caller.request_id,
        )

    def prune(self, now: float, at_most: int) -> int:
        """Delete so many rows at most that are too many or old enough; return how many."""
        deleted = int(self._statements.prune_nobodys(kept=NOBODYS, at_most=at_most))
        return deleted + self.prune_older(RETENTION, now, at_most=at_most - deleted)

    def prune_older(self, age: int, now: float, *, at_most: int) -> int:
        """Delete so many rows at most that are as old as `age` seconds; return how many.

        NOTE: a trigger counts the age from the newest row, which may be older than `now`.
        """
        newest = min(int(now), self._statements.newest_time())
        return int(self._statements.prune(until=newest - age, at_most=at_most))

    def newest_id(self) -> int:
        """Return the id of the newest entry, or 0."""
        return int(self._statements.newest_id())

    def has(self, event: Event) -> bool:
        """Return whether an event of this kind, user and request was logged."""
        request_id = event.caller.request_id
        return bool(
            self._statements.has(user_id=event.user_id, event=event.name, request_id=request_id)
        )

    def _first_free(self, restored: Restored) -> int:
        """Return an id that no entry of the lost database had: copies of the log go by ids."""
        return max(self.newest_id(), restored.newest_entry_id) + SKIPPED_AT_RESTORE

    def of_user(self, user_id: int, *, before: int, at_most: int) -> list[Entry]:
        """Return a user's entries with an id less than `before`, newest first."""
        rows = self._statements.of_user(user_id=user_id, before=before, at_most=at_most)
        return [Entry(*row) for row in rows]


class ShownEntry(msgspec.Struct):
    """An entry in an answer. The time is an HTTP-date."""

    id: int
    time: str
    event: Annotated[str, Meta(description="The event's name, such as `logged_in`.")]
    session_id: Annotated[
        str | None, Meta(description="The public id of the session that it happened to, or in.")
    ]
    ip: str
    user_agent: str
    request_id: str


class ActivityAnswer(Answer, kw_only=True):
    """An answer that shows what happened to a user."""

    activity: list[ShownEntry]


class Page(msgspec.Struct):
    """The part of the activity that is asked for."""

    before: Annotated[
        int,
        Meta(ge=1, le=LARGEST_ID, description="The id of the last entry of the previous page."),
    ] = LARGEST_ID
    limit: Annotated[int, Meta(ge=1, le=MOST_SHOWN, description="Entries of a page.")] = SHOWN


class ActivityResource:
    """The activity of the current user: the entries that name them."""

    def __init__(self, core: Core, log: AuditRepository) -> None:
        """Take the core and the log."""
        self._core = core
        self._log = log

    @operation(
        "List what happened to the current user.",
        name="listActivity",
        answers=ActivityAnswer,
        raises=(ValidationFailed,),
        query=Page,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer a page of it, newest first."""
        before, limit = _page(req)
        entries = self._log.of_user(principal_of(req).user.id, before=before, at_most=limit)
        shown = [
            ShownEntry(
                id=entry.id,
                time=http_date(entry.created_at),
                event=entry.event,
                session_id=entry.session_id,
                ip=entry.ip,
                user_agent=entry.user_agent,
                request_id=entry.request_id,
            )
            for entry in entries
        ]
        self._core.wire.answer(resp, ActivityAnswer(message="Activity.", activity=shown))


def _page(req: falcon.Request) -> tuple[int, int]:
    """Return the `before` and `limit` of a request. Raises ValidationFailed."""
    faults = {}
    page = {"before": LARGEST_ID, "limit": SHOWN}
    highest = {"before": LARGEST_ID, "limit": MOST_SHOWN}
    for name in page:
        texts = req.get_param_as_list(name) or []
        if not texts:
            continue
        text = texts[0]
        fits = len(texts) == 1 and text.isascii() and text.isdecimal() and len(text) <= 19
        if fits and 1 <= int(text) <= highest[name]:
            page[name] = int(text)
        else:
            faults[name] = f"Must be a whole number from 1 to {highest[name]}."
    if faults:
        raise ValidationFailed(faults)
    return page["before"], page["limit"]


def _prune(core: Core, at_most: int) -> int:
    return core.of(AuditRepository).prune(core.clock(), at_most)


def _kept(core: Core, user: User) -> list[dict[str, object]]:
    """Return all entries of a user, newest first, with the detail that operators see."""
    log, before, kept = core.of(AuditRepository), LARGEST_ID, list[dict[str, object]]()
    while entries := log.of_user(user.id, before=before, at_most=MOST_SHOWN):
        kept += [asdict(entry) | {"created_at": timestamp(entry.created_at)} for entry in entries]
        before = entries[-1].id
    return kept


PERSONAL_DATA = (PersonalData("activity", ("audit_log",), _kept),)

JOBS = (pruning("audit", PRUNED_EVERY, _prune),)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route, and keep every event from now on."""
    log = core.of(AuditRepository)
    core.events.subscribe(lambda event: log.insert(event, int(core.clock())))
    app.add_route("/user/activity", ActivityResource(core, log))
