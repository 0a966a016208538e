"""Falcon's errors as failures: 404, 405 and what an application's resources raise."""

from __future__ import annotations

import re
from urllib.parse import quote

import falcon

from authapi import errors

_PATH_CHARACTERS = "/:@!$&'()*+,;=~"  # RFC 3986, 3.3


class _FalconFailure(errors.Failure):
    """A falcon.HTTPError as a failure."""

    def __init__(self, error: falcon.HTTPError) -> None:
        super().__init__()
        self.status = error.status_code
        self.error = re.sub(r"^\d+ ", "", error.title).lower().replace(" ", "_")
        self.message = error.description or error.title


def _received_path(req: falcon.Request) -> str:
    """Return the percent-encoded path, as the client wrote it where the server tells that."""
    target = str(req.env.get("REQUEST_URI", ""))
    if target.startswith("/"):
        return quote(target.partition("?")[0], safe=f"{_PATH_CHARACTERS}%")
    return quote(req.root_path + req.path, safe=_PATH_CHARACTERS)


def failure_of(req: falcon.Request, error: falcon.HTTPError) -> errors.Failure:
    """Return the failure for an error that Falcon, or an application's own resource, raised."""
    if isinstance(error, falcon.HTTPRouteNotFound):
        return errors.NotFound(_received_path(req))
    if isinstance(error, falcon.HTTPMethodNotAllowed):
        return errors.MethodNotAllowed()
    return _FalconFailure(error)
