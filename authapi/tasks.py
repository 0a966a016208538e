"""What waitress runs for a request: the environ of the application, and failures without it."""

from __future__ import annotations

import logging
from typing import Any

from waitress.proxy_headers import (
    PROXY_HEADERS,
    MalformedProxyHeader,
    clear_untrusted_headers,
    parse_proxy_headers,
)
from waitress.task import ErrorTask, WSGITask

from authapi import errors
from authapi.hosts import plain_address
from authapi.middleware import IN_LOOP, new_request_id
from authapi.parser import is_host_header

logger = logging.getLogger("authapi.server")

TRUSTED_HEADERS = frozenset({"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})

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

        SECURITY: forwarded headers count from the trusted proxy alone, and its own hop alone.
        """
        environ: dict[str, Any] = super().get_environment()
        environ["PATH_INFO"] = self.request.path
        environ[IN_LOOP] = self.channel.server.is_loop()
        environ["REMOTE_ADDR"] = environ["REMOTE_ADDR"].removeprefix("::ffff:")  # RFC 4291, 2.5.5.2
        untrusted = PROXY_HEADERS
        if environ["REMOTE_ADDR"] == self.channel.server.trusted_proxy:
            client = environ.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip(' "')
            untrusted = parse_proxy_headers(environ, 1, TRUSTED_HEADERS)
            if client:  # waitress takes part of an IPv6 address for a port
                environ["REMOTE_ADDR"] = _address(client)
            if not is_host_header(environ.get("HTTP_HOST", "")):
                raise MalformedProxyHeader("X-Forwarded-Host", "no host", environ["HTTP_HOST"])
        clear_untrusted_headers(environ, untrusted)
        return environ

    def execute(self) -> None:
        """Have the application answer."""
        try:
            super().execute()
        except MalformedProxyHeader as error:
            logger.warning("%s from the trusted proxy: %s, %r", *error.args)
            _fail(self, errors.BadRequest())

    def finish(self) -> None:
        """Send headers and body in one piece, where they were small enough to be kept back."""
        super().finish()
        self.channel.flush(do_close=False)


def _address(forwarded: str) -> str:
    try:
        return plain_address(forwarded)
    except ValueError as error:
        raise MalformedProxyHeader("X-Forwarded-For", "no address", forwarded) from error


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
