"""Outbox: looks after what waits to be sent, also while nothing sends it.

Endpoints: none. Table: outbox.
"""

from __future__ import annotations

import falcon

from authapi.core import Core
from authapi.features.users import UserDeleted
from authapi.jobs import pruning
from authapi.outbox import Outbox
from authapi.personal_data import PersonalData
from authapi.principal import User
from authapi.times import timestamp

REQUIRES = ("users",)

CHANNELS = ("mail",)
PRUNED_EVERY = 3_600  # seconds


def _prune(core: Core, at_most: int) -> int:
    """Delete old dead jobs, and jobs that expired long ago because their channel is off."""
    outbox = core.of(Outbox)
    pruned = outbox.prune(at_most)
    for channel in CHANNELS:
        pruned += outbox.prune_expired(channel, at_most - pruned)
    return pruned


def _kept(core: Core, user: User) -> list[dict[str, object]]:
    """Return the mails about a user that wait or that could not be sent."""
    return [
        {"id": job_id, "kind": kind, "address": address, "created_at": timestamp(created_at)}
        for job_id, kind, address, created_at in core.of(Outbox).of_user(user.id)
    ]


PERSONAL_DATA = (PersonalData("mails_waiting", ("outbox",), _kept),)
JOBS = (pruning("outbox", PRUNED_EVERY, _prune),)


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Delete the dead jobs about a user who is deleted."""
    outbox = core.of(Outbox)
    core.events.subscribe(lambda event: outbox.forget_dead(event.user_id), UserDeleted)
