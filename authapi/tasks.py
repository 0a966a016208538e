"""What waitress runs for a request: the environ of the application, and failures without it."""

from __future__ import annotations

import logging
from typing import Any

from waitress.task import ErrorTask, WSGITask

from authapi import errors
from authapi.middleware import IN_LOOP, new_request_id

logger = logging.getLogger("authapi.server")

_FAILURES: dict[int, type[errors.Failure]] = {
    400: errors.BadRequest,
    413: errors.PayloadTooLarge,
    431: errors.HeadersTooLarge,
    501: errors.NotImplementedHere,
}


class Task(WSGITask):
    """Has the application answer a request."""

    def get_environment(self) -> dict[str, Any]:
        """The environ, with the path as it is: waitress makes one slash of several before it.

        Raises BadRequest or HTTPSRequired, for what a trusted proxy says of the request.
        """
        environ: dict[str, Any] = super().get_environment()
        environ["PATH_INFO"] = self.request.path
        environ[IN_LOOP] = self.channel.server.is_loop()
        self.channel.server.forwarding.apply(environ)
        return environ

    def execute(self) -> None:
        """Have the application answer."""
        try:
            super().execute()
        except errors.Failure as failure:
            _fail(self, failure)

    def finish(self) -> None:
        """Send headers and body in one piece, where they were small enough to be kept back."""
        super().finish()
        self.channel.flush(do_close=False)


class FailureTask(ErrorTask):
    """Answers what never reached the application."""

    def execute(self) -> None:
        """Write the answer, and close when the client has read it."""
        error = self.request.error
        known = isinstance(error, errors.Failure)
        _fail(self, error if known else _FAILURES.get(error.code, errors.InternalError)())


def _fail(task: Any, failure: errors.Failure) -> None:  # noqa: ANN401 - one of waitress's
    """Answer in the envelope and with our headers, and close when the client has read it."""
    task.channel.lingers = True
    accept, request_id = task.request.headers.get("ACCEPT", ""), new_request_id()
    logger.debug("request %s: %s %s", request_id, failure.status, failure.error)
    answer = task.channel.server.wire.whole(failure, accept, request_id)
    task.status, task.response_headers, body = answer
    task.complete = True  # as if start_response had been called
    task.set_close_on_finish()
    task.content_length = len(body)
    task.write(b"" if getattr(task.request, "command", "") == "HEAD" else body)
