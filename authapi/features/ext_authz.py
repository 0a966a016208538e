"""Forward authentication for proxies that append the path of a request: Envoy's ext_authz.

Endpoint: /verify/{path}, for every method. Table: none of its own.
"""

from __future__ import annotations

import falcon

from authapi.answers import UserAnswer
from authapi.body_tokens import TokenNotAllowed
from authapi.core import Core
from authapi.errors import CrossSiteRequest, Failure
from authapi.features.forward_auth import IDENTITY, LoginRequired, Verification
from authapi.inline import REST
from authapi.operations import operation

REQUIRES = ("forward_auth",)

PREFIX = "/verify"


class PathVerificationResource(Verification):
    """Answers a proxy that keeps a request's method and puts `/verify` before its path.

    The path is used for the way back from the login page alone. A middleware has refused requests
    of other sites that may change something, by their method and origin.
    """

    any_method = True

    @operation(
        "Show whose session it is, to a proxy that appends the path of a request. Any method.",
        name="verifyPath",
        answers=UserAnswer,
        headers=IDENTITY,
        path={"path": "The path for which the proxy asks; it may have slashes, or be empty."},
        raises=(CrossSiteRequest, TokenNotAllowed, LoginRequired),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response, path: str) -> None:  # noqa: ARG002
        """Answer the user."""
        self.answer(req, resp)

    def refuse(self, req: falcon.Request, failure: Failure) -> None:
        """Raise LoginRequired in place of a failure, for a browser and where there is a page."""
        self.redirect(req, _appended(req), failure)


def _appended(req: falcon.Request) -> str:
    """Return the path and query that a proxy appended, as the client sent them, or an empty text.

    NOTE: from the request line, because the path in the environ is decoded. gunicorn calls it
    RAW_URI.
    """
    line = req.env.get("REQUEST_URI") or req.env.get("RAW_URI", "")
    target: str = line.removeprefix(f"{req.root_path}{PREFIX}")
    return target if target.startswith("/") and target != line else ""


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route."""
    app.add_route(f"{PREFIX}/{REST}", PathVerificationResource(core))
