"""Shared by the tests of `mount` and `protect`: applications and requests to them."""

import threading
from contextlib import contextmanager
from io import BytesIO
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import setup_testing_defaults

from conftest import Client

from authapi import fresh

SAFE_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": (
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; sandbox"
    ),
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}


class Under(Client):
    """A client of what is under a prefix."""

    prefix = "/auth"

    def simulate_request(self, method, path, **options):
        return super().simulate_request(method, self.prefix + path, **options)


@contextmanager
def served(app):
    """Serve any WSGI application on a free port of 127.0.0.1; give the port."""
    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


def cookie(token):
    return {"Cookie": f"jwt={token}"}


class Notes:
    """A resource of a host's own, which says nothing about who may reach it."""

    def on_get(self, req, resp):
        user, session = req.context.user, req.context.session
        resp.media = {"id": user.id, "owner": user.username, "mine": user is session.user}

    def on_post(self, req, resp):
        resp.media = {"got": req.media, "owner": req.context.user.username}


class Welcome(Notes):
    public = True

    def on_get(self, req, resp):
        resp.media = {"user": hasattr(req.context, "user")}

    def on_post(self, req, resp):
        resp.media = {"got": req.media}


class Danger(Notes):
    needs = (fresh,)


def raw(app, method="GET", path="/", body=b"", **environ):
    """Call a WSGI application; give the status, the headers as they came, and the body."""
    started = []
    environ = environ_of(method, path, body, **environ)
    result = app(environ, lambda *how: started.append(how))
    try:
        content = b"".join(result)
    finally:
        getattr(result, "close", lambda: None)()
    status, headers, *_ = started[-1]
    return status, headers, content


def environ_of(method="GET", path="/", body=b"", **environ):
    whole = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
        **environ,
    }
    setup_testing_defaults(whole)
    return whole


class Spy:
    """A WSGI application that keeps what it was called with."""

    def __init__(self, *headers):
        self.calls = []
        self._headers = [("Content-Type", "text/plain"), *headers]

    def __call__(self, environ, start_response):
        self.calls.append((environ, start_response))
        start_response("200 OK", list(self._headers))
        return [b"spied"]

    @property
    def environ(self):
        return self.calls[-1][0]

    @property
    def user(self):
        return self.environ.get("REMOTE_USER")
