"""The API document: what the service's routes take and answer, for programs and for people.

Endpoints: GET /openapi.json, GET /docs. Table: none.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import falcon
import msgspec

from authapi.core import Core
from authapi.fields import elements
from authapi.inline import leave_loop
from authapi.operations import operation
from authapi.settings import SettingsGroup, setting

if TYPE_CHECKING:
    from authapi.app import AuthAPI

REQUIRES: tuple[str, ...] = ()

MOST_PREFIXES = 8  # below which the application is mounted
JSON, HTML = "application/json", "text/html; charset=utf-8"
POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"
ETAG = {"ETag": "The version of the answer, for `If-None-Match`."}


@dataclass(frozen=True, kw_only=True)
class APIDocumentSettings(SettingsGroup):
    """The switch of the API document."""

    api_document: str = setting(
        "on",
        "Whether GET /openapi.json and GET /docs describe the routes, to everyone: on or off.",
        choices=("on", "off"),
    )


class Made(msgspec.Struct, frozen=True):
    """The body of an answer, and its entity tag."""

    body: bytes
    etag: str


class Kept:
    """An answer that is made at the first request for it, and then kept.

    There is one for each prefix below which the application is mounted.
    """

    def __init__(self, make: Callable[[str], bytes]) -> None:
        """Take what makes the body, for a prefix."""
        self._make, self._made = make, dict[str, Made]()
        self._lock = threading.Lock()

    def answer(self, req: falcon.Request, resp: falcon.Response, media_type: str) -> None:
        """Put the answer into the response, or 304 if the client has it."""
        made = self._made.get(req.root_path) or self._new(req)
        resp.set_header("ETag", made.etag)
        if _has(req, made.etag):
            resp.status = 304
        else:
            resp.content_type, resp.data = media_type, made.body

    def _new(self, req: falcon.Request) -> Made:
        """Make it, once, outside of the server's loop."""
        leave_loop(req.env)
        with self._lock:
            if req.root_path not in self._made:
                if len(self._made) >= MOST_PREFIXES:
                    self._made.clear()
                body = self._make(req.root_path)
                etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
                self._made[req.root_path] = Made(body, etag)
            return self._made[req.root_path]


def _has(req: falcon.Request, etag: str) -> bool:
    """Return whether a client has the version with an entity tag (RFC 9110, 13.1.2)."""
    tags = elements(req.get_header("If-None-Match", default=""))
    return "*" in tags or etag in {tag.removeprefix("W/") for tag in tags}


class DocumentResource:
    """The OpenAPI document."""

    public = True
    quick = True

    def __init__(self, app: AuthAPI) -> None:
        """Take the application whose routes it describes."""
        self._app = app
        self.answer_headers = {"Cache-Control": "no-cache"}
        self._kept = Kept(self._made)

    @operation("Describe the API: this document.", name="getDocument", answers=None, headers=ETAG)
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the OpenAPI document of the routes that are on."""
        self._kept.answer(req, resp, JSON)

    def _made(self, prefix: str) -> bytes:
        from authapi import openapi  # noqa: PLC0415 - most services are never asked for it

        return openapi.encoded(openapi.document(self._app, prefix))


class PageResource:
    """The document as a page."""

    public = True
    quick = True

    def __init__(self, app: AuthAPI) -> None:
        """Take the application whose routes it describes."""
        self._app = app
        self.answer_headers = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
        self._kept = Kept(self._made)

    @operation(
        "Describe the API, to people.",
        name="getDocumentPage",
        answers=None,
        media_type="text/html",
        headers=ETAG,
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the page of the routes that are on."""
        self._kept.answer(req, resp, HTML)

    def _made(self, prefix: str) -> bytes:
        """Return the page, and permit the style that is in it.

        SECURITY: the policy names the style by its hash, and permits nothing else.
        """
        from authapi import openapi  # noqa: PLC0415 - most services are never asked for it
        from authapi.openapi import page  # noqa: PLC0415

        policy = f"{POLICY}; style-src {page.STYLE_SOURCE}"
        self.answer_headers["Content-Security-Policy"] = policy
        return page.rendered(openapi.document(self._app, prefix))


def setup(app: AuthAPI, core: Core) -> None:
    """Add the routes, unless they are off."""
    if core.settings.of(APIDocumentSettings).api_document == "on":
        app.add_route("/openapi.json", DocumentResource(app))
        app.add_route("/docs", PageResource(app))
