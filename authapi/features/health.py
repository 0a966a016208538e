"""Health: whether the process answers, and whether it can do its work.

Endpoints: GET /livez, GET /readyz. Table: none.
"""

from __future__ import annotations

from typing import NotRequired

import falcon

from authapi.answers import Answer
from authapi.core import Core
from authapi.errors import Failure
from authapi.operations import operation

REQUIRES: tuple[str, ...] = ()


class NotReady(Failure):
    """Answered while requests should go elsewhere, or while all of them would fail."""

    status, error, message = 503, "not_ready", "Not ready."
    field_types = (("reason", NotRequired[str]),)
    retry_after = 1

    def __init__(self, reason: str = "") -> None:
        """Take the name of the fault."""
        super().__init__(reason)
        self._reason = reason

    @property
    def fields(self) -> dict[str, object]:
        """Return the `reason`."""
        return {"reason": self._reason} if self._reason else {}


class HealthAnswer(Answer, kw_only=True):
    """An answer that says that all is well."""

    status: str = "ok"


class LivenessResource:
    """Tells that the server's loop answers. It looks at nothing: a slow disk needs no restart."""

    public = True
    quick = True
    observed = False

    def __init__(self, core: Core) -> None:
        """Take the wire."""
        self._wire = core.wire

    @operation("Show that the process answers.", name="getLiveness", answers=HealthAnswer)
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Answer that the process is alive."""
        self._wire.answer(resp, HealthAnswer(message="Alive."))


class ReadinessResource:
    """Tells whether requests should come here."""

    public = True
    quick = True
    observed = False

    def __init__(self, core: Core) -> None:
        """Take the wire, and what knows the faults."""
        self._wire, self._readiness = core.wire, core.readiness

    @operation(
        "Show whether the service is ready.",
        name="getReadiness",
        answers=HealthAnswer,
        raises=(NotReady,),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer that the service is ready, or 503 with the reason.

        NOTE: the failure is not raised, because each that is raised leaves a line in the log.
        """
        fault = self._readiness.fault()
        if fault:
            self._wire.fail(req, resp, NotReady(fault))
        else:
            self._wire.answer(resp, HealthAnswer(message="Ready."))


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes."""
    app.add_route("/livez", LivenessResource(core))
    app.add_route("/readyz", ReadinessResource(core))
