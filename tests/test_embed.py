"""Embedding: in a Falcon application, around any WSGI application, and the examples of the page."""

import functools
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import falcon
import falcon.asgi
import flask
import pytest
from conftest import (
    CHEAP,
    CHEAPLY,
    LASTING,
    OTHER,
    USER,
    Client,
    attributes_of,
    deletes_cookie,
    exchange,
    parsed_cookie,
    request,
    start,
    token_of,
)
from test_middleware import SAFE_HEADERS
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from authapi import LoggedIn, Registered, Settings, fresh, mount, protect

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "embedding.md").read_text()
CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}
# Ids; and the times of a user, which are the database's.
RANDOM = re.compile(r"\b([0-9a-f]{16}|[0-9a-f]{64}|\w{3}, \d\d \w{3} \d{4} [0-9:]{8} GMT)\b")


class Under(Client):
    """A client of what is under a prefix."""

    prefix = "/auth"

    def simulate_request(self, method, path, **options):
        return super().simulate_request(method, self.prefix + path, **options)


@pytest.fixture(name="make_settings")
def _make_settings(tmp_path):
    def make_settings(**values):
        defaults = {"database_url": f"sqlite:///{tmp_path}/authapi.db", **CHEAP}
        return Settings(**{**defaults, **values})

    return make_settings


@pytest.fixture(name="closing")
def _closing():
    """Close what a test opens."""
    opened = []

    def closing(it):
        opened.append(it)
        return it

    yield closing
    for it in opened:
        it.close()


@pytest.fixture(name="mount_on")
def _mount_on(make_settings, clock, closing):
    def mount_on(app, prefix="/auth", **values):
        return closing(mount(app, make_settings(**values), prefix=prefix, clock=clock))

    return mount_on


@pytest.fixture(name="protecting")
def _protecting(make_settings, clock, closing):
    def protecting(app, *, required=False, **values):
        settings = make_settings(**values)
        return closing(protect(app, settings, required=required, clock=clock))

    return protecting


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


# mount: our routes


class Broken:
    public = True

    def on_get(self, req, resp):
        raise RuntimeError("password hash and SQL")


def answers_of(client):
    """What every route answers, in one history; the client's tokens are its own."""
    first = token_of(client.register())
    yield client.register()
    yield client.log_in(password="wrong password")
    yield client.post("/login", {})
    yield client.simulate_post("/login", body="{", headers={"Content-Type": "application/json"})
    yield client.simulate_post("/login", body="a=b")
    yield client.simulate_post("/login", json={"usernameOrEmail": "x" * 70_000})
    login = client.log_in()
    yield login
    as_user = cookie(token_of(login))
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        for path in ("/", "/user", "/sessions", "/user/activity", "/verify", "/login"):
            yield client.simulate_request(method, path, headers=as_user)
            yield client.simulate_request(method, path)
            yield client.simulate_request(method, path, headers=cookie("bad"))
    yield client.simulate_put("/logout")
    yield client.simulate_get("/user", headers={"Accept": "application/problem+json"})
    yield client.simulate_post("/login", headers=CROSS_SITE)
    yield client.simulate_get("/user", headers={"Authorization": f"Bearer {first}"})
    yield client.simulate_get("/broken")
    yield client.simulate_patch("/user", json={"username": "pengari"}, headers=as_user)
    passwords = {"current_password": USER["password"], "new_password": "another one 42"}
    changed = client.simulate_put("/user/password", json=passwords, headers=as_user)
    yield changed
    as_user = cookie(token_of(changed))
    password = {"password": "another one 42"}
    again = client.post("/sessions/reauthenticate", password, headers=as_user)
    yield again
    as_user = cookie(token_of(again))
    yield client.simulate_delete("/sessions", headers=as_user)
    yield client.simulate_delete("/user", headers=as_user)
    yield client.post("/logout", headers=as_user)


def shown(answer):
    """An answer without what is never the same."""
    headers = {**answer.headers, "x-request-id": len(answer.headers["x-request-id"])}
    headers["set-cookie"] = re.sub(r"(jwt|device)=[^;]+", r"\1=…", headers.get("set-cookie", ""))
    return answer.status, headers, RANDOM.sub("…", answer.text)


@pytest.mark.parametrize("origins", ["", "https://app.example.com"])
def test_mounted_routes_answer_as_unmounted(make_client, mount_on, tmp_path, origins):
    """Every route gives the same status, headers and body under a prefix as without one."""
    alone = make_client(allowed_origins=origins)
    host = falcon.App()
    auth = mount_on(host, database_url=f"sqlite:///{tmp_path}/mounted.db", allowed_origins=origins)
    for app in (alone.app, auth):
        app.add_route("/broken", Broken())

    expected = [shown(answer) for answer in answers_of(alone)]

    assert expected == [shown(answer) for answer in answers_of(Under(host))]
    statuses = {int(status[:3]) for status, *_ in expected}
    assert statuses == {200, 400, 401, 403, 405, 409, 413, 415, 422, 500}


@pytest.fixture(name="host")
def _host(mount_on):
    """A client of a host application with pages of its own."""
    app = falcon.App()
    client = Client(app)
    client.auth = mount_on(app)
    client.under = Under(app)
    app.add_route("/notes", Notes())
    app.add_route("/welcome", Welcome())
    app.add_route("/danger", Danger())
    return client


@pytest.fixture(name="guest")
def _guest(host):
    """The token of a user who has registered at a host application."""
    return token_of(host.under.register())


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


def test_cookie_is_for_the_whole_host(host):
    """The cookie that a mounted login sets has Path=/, so that the host's own pages get it."""
    answer = host.under.register()

    assert attributes_of(answer, "jwt") == (259_200, "/", None, True, "Lax", False)
    assert attributes_of(answer, "device") == (31_536_000, "/", None, True, "Lax", False)
    assert deletes_cookie(host.under.post("/logout"))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/auth/nowhere", "/auth/nowhere"),
        ("/auth/user/", "/auth/user/"),
        ("/auth//user", "/auth//user"),
        ("/auth/%C3%A9%2F", "/auth/%C3%A9/"),
    ],
)
def test_not_found_under_the_prefix(host, path, told):
    """A path under the prefix that nothing is at is answered by us, with the whole path."""
    answer = host.simulate_get(path)

    assert (answer.status_code, answer.json["error"]) == (404, "not_found")
    assert answer.json["message"] == f'Path "{told}" not found.'
    assert {name: answer.headers[name] for name in SAFE_HEADERS} == SAFE_HEADERS


@pytest.mark.parametrize(
    "path", ["/authors", "/auth.html", "/auth-x/user", "/x/auth/user", "/Auth"]
)
def test_other_paths_are_the_hosts(host, path):
    """The prefix is whole segments from the start: any other path is the host's to answer."""
    answer = host.simulate_get(path)

    assert (answer.status_code, answer.json) == (404, {"title": "404 Not Found"})
    assert "x-request-id" not in answer.headers


def test_a_newline_after_the_prefix(host):
    """A path that is the prefix and a line feed is another path."""
    assert host.simulate_get("/auth%0A").json == {"title": "404 Not Found"}


def test_prefix_with_and_without_a_slash(host, guest):
    """The prefix itself is our `/`, with a slash at its end and without."""
    for path in ("/auth", "/auth/"):
        answer = host.get_as(guest, path)
        assert (answer.status_code, answer.json["user"]["id"]) == (200, 1)
        assert host.simulate_get(path).status_code == 401


def test_prefix_of_several_segments(mount_on):
    """A prefix may have several segments, and signs that a regular expression would read."""
    app = falcon.App()
    mount_on(app, prefix="/api/v1.0/~auth")
    client = Client(app)

    assert client.simulate_get("/api/v1.0/~auth/user").status_code == 401
    assert client.simulate_get("/api/v1x0/~auth/user").json == {"title": "404 Not Found"}


def test_mounted_in_a_subpath(host):
    """A host that is itself under a SCRIPT_NAME tells it in the path that was not found."""
    answer = host.simulate_get("/auth/x", root_path="/app")

    assert answer.json["message"] == 'Path "/app/auth/x" not found.'


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "/",
        "auth",
        "/auth/",
        "/a b",
        "/a?b",
        "/a#b",
        "//auth",
        "/a//b",
        "/a%20b",
        "/{x}",
        "/a\n",
    ],
)
def test_bad_prefixes(make_settings, tmp_path, prefix):
    """A prefix that is no plain path is refused, and nothing is opened or added."""
    app = falcon.App()

    with pytest.raises(ValueError, match="prefix"):
        mount(app, make_settings(), prefix=prefix)

    assert not list(tmp_path.iterdir())
    app.add_route("/notes", Welcome())
    assert Client(app).simulate_get("/notes").status_code == 200
    assert Client(app).simulate_get("/auth/user").status_code == 404


class StarletteLike:
    async def __call__(self, scope, receive, send):
        """Answer nothing."""


async def bare_asgi(scope, receive, send):
    """Answer nothing."""


@pytest.mark.parametrize(
    "app", [falcon.asgi.App(), flask.Flask("pages"), StarletteLike(), bare_asgi, Notes()]
)
def test_mount_takes_falcon_only(make_settings, tmp_path, app):
    """An application that is not Falcon's for WSGI is refused, and nothing is opened."""
    with pytest.raises(TypeError) as refused:
        mount(app, make_settings())

    assert re.search(
        "is an ASGI|is no WSGI application|mount takes a falcon.App, not", str(refused.value)
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("embed", "app"),
    [
        (mount, falcon.asgi.App()),
        (protect, falcon.asgi.App()),
        (protect, StarletteLike()),
        (protect, bare_asgi),
        (protect, functools.partial(bare_asgi)),
    ],
)
def test_asgi_is_told_what_to_do(make_settings, tmp_path, embed, app):
    """An ASGI application gets an error that names it, and what to do instead."""
    with pytest.raises(TypeError, match="ASGI application.*GET /verify") as refused:
        embed(app, make_settings())

    assert type(app).__name__ in str(refused.value)
    assert not list(tmp_path.iterdir())


# mount: the host's own resources


def test_host_resources_need_a_session(host, guest):
    """A resource of the host's own is protected, and finds the user and the session."""
    for headers in ({}, cookie("bad"), cookie(guest[:-1])):
        assert host.simulate_get("/notes", headers=headers).status_code == 401
    found = {"id": 1, "owner": USER["username"], "mine": True}

    assert host.get_as(guest, "/notes").json == found
    bearer = {"Authorization": f"Bearer {guest}"}
    assert host.simulate_get("/notes", headers=bearer).json == found


def test_a_refusal_is_as_ours(host):
    """A 401 on the host's resource is in the envelope, with our headers, and deletes the cookie."""
    missing, bad = host.simulate_get("/notes"), host.get_as("bad", "/notes")

    assert (missing.status_code, missing.json["error"]) == (401, "not_authenticated")
    assert (bad.status_code, bad.json["error"]) == (401, "invalid_token")
    for answer in (missing, bad):
        assert answer.headers["content-type"] == "application/json"
        assert {name: answer.headers[name] for name in SAFE_HEADERS} == SAFE_HEADERS
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])
    assert missing.headers["www-authenticate"] == "Bearer"
    assert "set-cookie" not in missing.headers
    assert deletes_cookie(bad)
    problem = host.simulate_get("/notes", headers={"Accept": "application/problem+json"})
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json["error"] == "not_authenticated"


@pytest.mark.parametrize("place", ["before", "after"])
def test_order_of_mount_and_routes(mount_on, place):
    """A resource is protected whether it is added before the mount or after it."""
    app = falcon.App()
    if place == "before":
        app.add_route("/notes", Notes())
    mount_on(app)
    if place == "after":
        app.add_route("/notes", Notes())

    assert Client(app).simulate_get("/notes").status_code == 401


class NearlyOpen(Notes):
    public = 1


def test_public_is_true_and_nothing_else(host):
    """A host's resource is open only where it says `public = True`, and not with another value."""
    host.app.add_route("/nearly", NearlyOpen())

    assert host.simulate_get("/nearly").status_code == 401


class Empty(Notes):
    """A resource that is falsy, as one is that holds a list of notes and has none."""

    def __len__(self):
        return 0

    def on_get(self, req, resp):
        resp.media = {"open": True}


def test_falsy_resources_are_not_open(host):
    """A resource that is falsy is refused or protected: Falcon calls no middleware before it."""
    try:
        host.app.add_route("/empty", Empty())
    except TypeError:
        return

    assert host.simulate_get("/empty").status_code in {401, 500}


def test_public_resources_stay_open(host, guest):
    """`public = True` opens a resource to all, and it is given no user."""
    for headers in ({}, cookie(guest), cookie("bad")):
        answer = host.simulate_get("/welcome", headers=headers)
        assert (answer.status_code, answer.json) == (200, {"user": False})


def test_the_hosts_own_answers_get_nothing_of_ours(host, guest):
    """A page that the host answers has the host's headers alone, public or protected."""
    for answer in (
        host.simulate_get("/welcome"),
        host.get_as(guest, "/notes"),
        host.simulate_options("/notes"),
        host.simulate_get("/nowhere"),
    ):
        assert set(answer.headers) <= {"content-type", "content-length", "allow", "vary"}


def test_fresh_resources(host, guest, clock):
    """`needs = (fresh,)` asks for the password again after 300 seconds."""
    clock.move(299)
    assert host.get_as(guest, "/danger").status_code == 200
    clock.move(1)
    answer = host.get_as(guest, "/danger")
    assert (answer.status_code, answer.json["error"]) == (403, "fresh_login_required")
    assert host.get_as(guest, "/notes").status_code == 200

    password = {"password": USER["password"]}
    again = host.under.post("/sessions/reauthenticate", password, headers=cookie(guest))
    assert host.get_as(token_of(again), "/danger").status_code == 200


def test_cross_site(host, guest):
    """A POST from another site reaches a public resource of the host, and no protected one."""
    headers = {**cookie(guest), **CROSS_SITE}

    refused = host.simulate_post("/notes", json={}, headers=headers)
    assert (refused.status_code, refused.json["error"]) == (403, "cross_site_request")
    assert host.simulate_get("/notes", headers=headers).status_code == 200
    assert host.simulate_post("/welcome", json={"a": 1}, headers=headers).json == {"got": {"a": 1}}
    ours = {**cookie(guest), "Sec-Fetch-Site": "same-origin"}
    assert host.simulate_post("/notes", json=1, headers=ours).json["got"] == 1


class Unrenewed(Notes):
    renews = False


def test_renewal(host, guest, clock):
    """A host's resource renews a session that is an hour old, unless it says `renews = False`."""
    host.app.add_route("/unrenewed", Unrenewed())
    clock.move(3_599)
    assert not host.get_as(guest, "/notes").cookies
    clock.move(1)
    assert not host.get_as(guest, "/unrenewed").cookies
    assert not host.get_as(guest, "/welcome").cookies

    renewed = host.get_as(guest, "/notes")

    assert renewed.cookies["jwt"].max_age == 259_200
    assert renewed.cookies["jwt"].path == "/"
    assert not host.get_as(token_of(renewed), "/notes").cookies
    clock.move(259_000)
    assert host.get_as(token_of(renewed), "/notes").status_code == 200


class Catalogue(Notes):
    """A resource whose answer shared caches may keep."""

    def on_get(self, req, resp):
        resp.cache_control = ["public", "max-age=60"]


def test_host_renewal_and_shared_caches(host, guest, clock):
    """No session goes out with a host's answer that shared caches may keep (RFC 9111, 7.3)."""
    host.app.add_route("/catalogue", Catalogue())
    clock.move(3_600)

    answer = host.get_as(guest, "/catalogue")

    assert answer.status_code == 200
    assert not answer.cookies or answer.headers["cache-control"] != "public, max-age=60"


def test_logout_reaches_the_host(host, guest):
    """After a logout under the prefix the host's resources refuse the token at once."""
    host.under.post("/logout", headers=cookie(guest))

    assert host.get_as(guest, "/notes").json["error"] == "invalid_token"


class Teapot(Exception):
    """A host's own."""


class Failing:
    public = True

    def on_get(self, req, resp):
        raise {"teapot": Teapot, "http": falcon.HTTPConflict}[req.get_param("how")]


class Signature:
    """A host's middleware, which signs every answer."""

    def process_request(self, req, resp):
        req.context.seen = True

    def process_response(self, req, resp, resource, req_succeeded):
        resp.set_header("X-Signed", str(req.context.seen))


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("independent", [True, False])
def test_the_hosts_own_machinery(mount_on, order, independent):
    """The host's error handlers, middleware, 404 and media handlers work as without the mount."""
    app = falcon.App(independent_middleware=independent)
    loads = functools.partial(json.loads, parse_float=str)
    app.req_options.media_handlers["application/json"] = falcon.media.JSONHandler(loads=loads)

    def set_up():
        app.add_middleware(Signature())
        app.add_error_handler(Teapot, on_teapot)
        app.add_error_handler(Exception, lambda req, resp, *_: resp.set_header("X-Caught", "1"))
        app.add_error_handler(falcon.HTTPNotFound, on_not_found)

    def on_teapot(req, resp, error, params):
        raise falcon.HTTPStatus(418)

    def on_not_found(req, resp, error, params):
        resp.status, resp.text = 404, "nothing here"

    if order == "before":
        set_up()
    mount_on(app)
    if order == "after":
        set_up()
    app.add_route("/failing", Failing())
    app.add_route("/welcome", Welcome())
    app.add_route("/notes", Notes())
    client, under = Client(app), Under(app)

    assert client.simulate_get("/failing?how=teapot").status_code == 418
    assert client.simulate_get("/failing?how=http").json == {"title": "409 Conflict"}
    assert client.simulate_get("/failing?how=else").headers["x-caught"] == "1"
    assert client.simulate_get("/nowhere").text == "nothing here"
    assert client.post("/welcome", 1.50).json == {"got": "1.5"}
    token = token_of(under.register())
    assert client.get_as(token, "/notes").status_code == 200
    assert under.simulate_get("/nowhere").json["error"] == "not_found"
    refused = client.get_as("bad", "/notes")
    assert (refused.status_code, refused.json["error"]) == (401, "invalid_token")
    assert deletes_cookie(refused)
    for path in ("/welcome", "/nowhere", "/notes", "/auth/user", "/auth/nowhere"):
        assert client.simulate_get(path).headers["x-signed"] == "True"


class Names:
    """A host's middleware, which keeps things of its own under names that are ours elsewhere."""

    def process_request(self, req, resp):
        req.context.caller = "the mobile app"
        resp.context.cookie = "chocolate"


def test_names_in_the_context(mount_on):
    """What a host keeps in its contexts does not disturb us, but for `user` and `session`."""
    app = falcon.App(middleware=[Names()])
    mount_on(app)
    app.add_route("/notes", Notes())
    app.add_route("/welcome", Welcome())
    client = Client(app)

    assert "set-cookie" not in client.simulate_get("/welcome").headers
    assert client.simulate_get("/notes").status_code == 401


class Late:
    """A host's middleware, which was added after the mount."""

    def process_resource(self, req, resp, resource, params):
        resp.set_header("X-User", req.context.user.username)


def test_later_middleware_finds_the_user(host, guest):
    """Middleware that is added after the mount finds the user in its process_resource."""
    host.app.add_middleware(Late())

    assert host.get_as(guest, "/notes").headers["x-user"] == USER["username"]


def test_sinks_and_static_routes_stay_open(host, tmp_path):
    """As the page says, a sink or static route of the host is open, and does not hide ours."""

    def sink(req, resp):
        resp.text = "open"

    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "a.txt").write_text("file")
    host.app.add_sink(sink, "/open")
    host.app.add_static_route("/static", str(tmp_path / "static"))

    assert host.simulate_get("/open/x").text == "open"
    assert host.simulate_get("/static/a.txt").text == "file"
    assert host.simulate_get("/auth/user").status_code == 401


def test_events(host, caplog):
    """What mount gives hears of every event, and closes."""
    caplog.set_level("INFO", "authapi.events")
    told = []
    host.auth.core.events.subscribe(told.append)

    host.under.register()
    host.under.log_in()

    assert [Registered, LoggedIn] == [type(event) for event in told]
    assert told[0].user_id == 1


def test_mounted_on_a_socket(host):
    """A mounted application speaks clean HTTP: whole heads without a body, and PEP 3333 held to."""
    with served(validator(host.app)) as port:
        url = f"http://127.0.0.1:{port}"
        status, _, headers = request(f"{url}/auth/register", USER)
        assert status == 201
        sent = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/notes", Cookie=sent)[1]["owner"] == USER["username"]
        whole = f"HTTP/1.0\r\nHost: x\r\nCookie: {sent}\r\n\r\n".encode()
        got = exchange(port, b"GET /auth/user " + whole)
        head = exchange(port, b"HEAD /auth/user " + whole)

    before, _, body = got.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: (\d+)", before)[1]
    assert head.endswith(b"\r\n\r\n")
    assert f"{len(body)}".encode() == length
    assert length == re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1]


# protect


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


@pytest.fixture(name="spy")
def _spy():
    return Spy()


def test_environ(protecting, client, token, spy):
    """A session adds three keys to the environ, and changes none of the others."""
    given = environ_of("PUT", "/a/b", b"body", HTTP_COOKIE=f"jwt={token}; other=1")
    kept = dict(given)

    protecting(spy)(given, lambda *_: None)

    found = spy.environ
    assert type(found) is dict
    assert set(found) - set(kept) == {"REMOTE_USER", "authapi.user", "authapi.session"}
    assert kept == {name: found[name] for name in kept}
    assert found["wsgi.input"] is kept["wsgi.input"]
    assert found["wsgi.input"].read() == b"body"
    assert found["REMOTE_USER"] == "1"
    user, session = found["authapi.user"], found["authapi.session"]
    assert (user.id, user.username, user.email) == (1, USER["username"], USER["email"])
    assert session.user is user
    assert (session.id,) == client.query("SELECT id_hash FROM sessions")[0]
    assert session.is_fresh(session.created_at)


def test_remote_user_stays_with_the_user(protecting, client, token, spy):
    """REMOTE_USER is the id: whoever takes a name that another user gave up has another one."""
    protected = Client(protecting(spy))
    client.request_as(token, "PATCH", "/user", {"username": "Ξένος"})
    other = token_of(client.register(email="other@example.com"))

    protected.get_as(token, "/")
    assert (spy.user, spy.environ["authapi.user"].username) == ("1", "Ξένος")
    protected.get_as(other, "/")
    assert (spy.user, spy.environ["authapi.user"].username) == ("2", USER["username"])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"HTTP_COOKIE": ""},
        {"HTTP_COOKIE": "jwt="},
        {"HTTP_COOKIE": "jwt=bad"},
        {"HTTP_COOKIE": "\xa0jwt={}"},
        {"HTTP_COOKIE": "session={}; __Host-jwt={}"},
        {"HTTP_AUTHORIZATION": "Bearer x"},
        {"HTTP_AUTHORIZATION": "Basic dTpw"},
        {"HTTP_COOKIE": "jwt=bad", "HTTP_AUTHORIZATION": "Bearer x"},
        {"REMOTE_USER": "of-the-server"},
    ],
)
def test_untouched(protecting, token, spy, headers):
    """A request without a good session is passed on as it is, and so is its answer."""
    headers = {name: value.replace("{}", token) for name, value in headers.items()}
    given = environ_of(**headers)
    kept = dict(given)

    def start_response(*_):
        """Take it."""

    answer = protecting(spy)(given, start_response)

    assert spy.calls == [(kept, start_response)]
    assert spy.environ is given
    assert answer == [b"spied"]


def test_without_a_path(protecting, token, spy):
    """PATH_INFO may be missing where it would be empty (PEP 3333)."""
    environ = environ_of(SCRIPT_NAME="/app", HTTP_COOKIE=f"jwt={token}")
    del environ["PATH_INFO"]

    protecting(spy)(environ, lambda *_: None)

    assert spy.user == "1"


def test_required(protecting, token, spy):
    """Where a session is required a request without one is answered 401, and never passed on."""
    client = Client(protecting(spy, required=True))

    missing, bad = client.simulate_get("/"), client.get_as("bad", "/")

    assert (missing.status, missing.json["error"]) == ("401 Unauthorized", "not_authenticated")
    assert missing.json["message"] == "You need to be authenticated."
    assert missing.headers["www-authenticate"] == "Bearer"
    assert "set-cookie" not in missing.headers
    assert (bad.status, bad.json["error"]) == ("401 Unauthorized", "invalid_token")
    assert deletes_cookie(bad)
    for answer in (missing, bad):
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["content-length"] == str(len(answer.content))
        assert {name: answer.headers[name] for name in SAFE_HEADERS} == SAFE_HEADERS
        assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])
    problem = client.simulate_get("/", headers={"Accept": "application/problem+json"})
    assert problem.headers["content-type"] == "application/problem+json"
    head = client.simulate_head("/")
    assert (head.status_code, head.content) == (401, b"")
    assert head.headers["content-length"] == missing.headers["content-length"]
    assert not spy.calls
    assert client.get_as(token, "/").text == "spied"
    assert spy.user == "1"


def test_cross_site_is_anonymous(protecting, token, spy):
    """A request of another site that would change something has no user, or is answered 403."""
    optional = Client(protecting(spy))
    required = Client(protecting(spy, required=True))
    theirs, ours = {**cookie(token), **CROSS_SITE}, {**cookie(token), "Sec-Fetch-Site": "none"}

    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert optional.simulate_request(method, "/", headers=theirs).text == "spied"
        assert not {"REMOTE_USER", "authapi.user", "authapi.session"} & set(spy.environ)
        calls = len(spy.calls)
        refused = required.simulate_request(method, "/", headers=theirs)
        assert (refused.status_code, refused.json["error"]) == (403, "cross_site_request")
        assert calls == len(spy.calls)
        for client in (optional, required):
            client.simulate_request(method, "/", headers=ours)
            assert spy.user == "1"
    for client in (optional, required):
        client.simulate_get("/", headers=theirs)
        assert spy.user == "1"


@pytest.mark.parametrize("end", ["logout", "disable", "delete"])
def test_revoked_at_the_next_request(protecting, client, token, spy, end):
    """A session that ends elsewhere is unknown at the very next request."""
    protected = Client(protecting(spy))
    protected.get_as(token, "/")
    assert spy.user == "1"

    if end == "logout":
        client.post("/logout", headers=cookie(token))
    elif end == "disable":
        client.query("UPDATE users SET disabled_at = 1")
    else:
        client.simulate_delete("/user", headers=cookie(token))
    protected.get_as(token, "/")

    assert "REMOTE_USER" not in spy.environ


def test_protect_renews(protecting, client, token, spy, clock):
    """A session that is an hour old is renewed by whatever page is asked for."""
    protected = Client(protecting(spy))
    clock.move(3_599)
    assert not protected.get_as(token, "/").cookies
    clock.move(1)

    renewed = protected.get_as(token, "/")

    assert renewed.text == "spied"
    name, _, attributes = parsed_cookie(renewed.headers["set-cookie"])
    assert (name, attributes) == ("jwt", LASTING)
    clock.move(259_000)
    assert client.get_as(token_of(renewed)).status_code == 200


@pytest.mark.parametrize(
    ("theirs", "adds"),
    [
        (("Set-Cookie", "jwt=mine; Path=/"), False),
        (("set-cookie", "jwt="), False),
        (("Set-Cookie", "other=jwt=1"), True),
        (("Set-Cookie", "jwt2=1"), True),
        (("X-Cookie", "jwt=1"), True),
    ],
)
def test_renewal_beside_the_applications_cookies(protecting, token, clock, theirs, adds):
    """A renewal leaves the application's cookies alone, and is left out where it sets the same."""
    protected = protecting(Spy(theirs))
    clock.move(3_600)

    _, headers, _ = raw(validator(protected), HTTP_COOKIE=f"jwt={token}")

    assert [("Content-Type", "text/plain"), theirs] == headers[:2]
    assert len(headers) == (3 if adds else 2)
    if adds:
        assert headers[2][0] == "Set-Cookie"
        assert headers[2][1].startswith("jwt=ey")


@pytest.mark.parametrize("control", ["public", "max-age=60, Public", "s-maxage=60"])
def test_renewal_and_shared_caches(protecting, token, clock, control):
    """No session goes out with an answer that shared caches may keep for others (RFC 9111, 7.3)."""
    protected = protecting(Spy(("Cache-Control", control)))
    clock.move(3_600)

    _, headers, _ = raw(protected, HTTP_COOKIE=f"jwt={token}")

    controls = [value for name, value in headers if name == "Cache-Control"]
    assert "Set-Cookie" not in dict(headers) or controls != [control]


class Stream:
    """An answer in pieces, which notes what is done with it."""

    def __init__(self, start_response=None):
        self.done = []
        self._start_response = start_response

    def __iter__(self):
        if self._start_response:
            self._start_response("200 OK", [("Content-Type", "text/plain")])
        for piece in (b"one", b"two"):
            self.done.append(piece)
            yield piece

    def close(self):
        self.done.append("closed")


@pytest.mark.parametrize("age", [0, 3_600])
def test_streaming(protecting, token, clock, age):
    """What the application gives is given on as it is: nothing is read ahead, close is called."""
    streams = []

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        streams.append(Stream())
        return streams[-1]

    protected = protecting(validator(app))
    clock.move(age)
    started = []
    given = environ_of(HTTP_COOKIE=f"jwt={token}")
    result = validator(protected)(given, lambda *how: started.append(how) or (lambda _: None))

    (stream,) = streams
    pieces = iter(result)
    assert not stream.done
    assert next(pieces) == b"one"
    assert stream.done == [b"one"]
    assert next(pieces) == b"two"
    result.close()
    assert stream.done == [b"one", b"two", "closed"]
    assert ("Set-Cookie" in dict(started[0][1])) is bool(age)


@pytest.mark.parametrize("kind", ["iterable", "generator"])
def test_late_start(protecting, token, clock, kind):
    """An application that starts its answer with the first piece is renewed too."""

    def generator(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"onetwo"

    apps = {"iterable": lambda _, start_response: Stream(start_response), "generator": generator}
    clock.move(3_600)

    _, headers, body = raw(protecting(apps[kind]), HTTP_COOKIE=f"jwt={token}")

    assert body == b"onetwo"
    assert "Set-Cookie" in dict(headers)


@pytest.mark.parametrize("age", [0, 3_600])
def test_start_response_passes_through(protecting, token, clock, age):
    """exc_info reaches the server and what it raises the application; so does its write()."""
    calls, written = [], []

    def start_response(status, headers, exc_info=None):
        calls.append((status, exc_info))
        if exc_info:
            raise exc_info[1]
        return written.append

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])(b"early")
        try:
            int("x")
        except ValueError:
            start_response("500 Late", [("Content-Type", "text/plain")], sys.exc_info())
        return []

    clock.move(age)
    with pytest.raises(ValueError) as raised:
        protecting(app)(environ_of(HTTP_COOKIE=f"jwt={token}"), start_response)

    assert calls[0] == ("200 OK", None)
    assert (calls[1][0], calls[1][1][1]) == ("500 Late", raised.value)
    assert written == [b"early"]


def test_no_turn_to_renew(protecting, token, spy, clock):
    """Where the database cannot be written now, a session is served, and renewed another time."""
    protected = protecting(spy)
    clock.move(3_600)

    protected.auth.core.database.lock_timeout = 0
    with protected.auth.core.database.writer_lock.hold(0):
        _, headers, _ = raw(protected, HTTP_COOKIE=f"jwt={token}")

    assert spy.user == "1"
    assert "Set-Cookie" not in dict(headers)


def test_no_database(protecting, token, spy, tmp_path, caplog):
    """Where sessions cannot be looked up the answer is 503, and the log has the cause."""
    client = Client(protecting(spy))
    (tmp_path / "authapi.db").rename(tmp_path / "away.db")

    answer = client.get_as(token, "/")

    (tmp_path / "away.db").rename(tmp_path / "authapi.db")
    assert (answer.status_code, answer.json["error"]) == (503, "unavailable")
    assert not spy.calls
    assert client.simulate_get("/").text == "spied"
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert answer.headers["x-request-id"] in record.getMessage()


def test_close(protecting, token, spy):
    """After `close` the database is closed, and no session is taken for good any more."""
    protected = protecting(spy)
    raw(protected, HTTP_COOKIE=f"jwt={token}")

    protected.close()

    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        raw(protected, HTTP_COOKIE=f"jwt={token}")


# protect, for real


def flask_app():
    app = flask.Flask("pages")

    @app.get("/")
    def whoami():
        user = flask.request.environ.get("authapi.user")
        return {"remote_user": flask.request.remote_user, "id": user and user.id}

    @app.post("/echo")
    def echo():
        return {"json": flask.request.get_json(), "remote_user": flask.request.remote_user}

    @app.get("/stream")
    def stream():
        return flask.Response(str(number) for number in range(3))

    return app


def test_flask_and_our_routes_on_a_socket(protecting, make_app, clock):
    """Flask's pages know who has logged in at our routes, in one process on one database."""
    pages = validator(protecting(validator(flask_app())))
    app = DispatcherMiddleware(pages, {"/auth": make_app()})

    with served(validator(app)) as port:
        url = f"http://127.0.0.1:{port}"
        assert request(f"{url}/")[1] == {"remote_user": None, "id": None}
        status, _, headers = request(f"{url}/auth/register", USER)
        assert status == 201
        sent = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/", Cookie=sent)[1] == {"remote_user": "1", "id": 1}
        echoed = {"json": {"a": [1, 2]}, "remote_user": "1"}
        assert request(f"{url}/echo", {"a": [1, 2]}, Cookie=sent)[1] == echoed
        anonymous = request(f"{url}/echo", {}, Cookie=sent, Origin="https://evil.example")
        assert anonymous[1] == {"json": {}, "remote_user": None}
        streamed = exchange(port, f"GET /stream HTTP/1.0\r\nCookie: {sent}\r\n\r\n".encode())
        assert streamed.endswith(b"\r\n\r\n012")
        clock.move(3_600)
        assert request(f"{url}/", Cookie=sent)[2]["Set-Cookie"].startswith("jwt=ey")
        assert request(f"{url}/auth/nowhere")[1]["message"] == 'Path "/auth/nowhere" not found.'
        assert request(f"{url}/auth/logout", {}, Cookie=sent)[0] == 200
        assert request(f"{url}/", Cookie=sent)[1] == {"remote_user": None, "id": None}


def test_instances_write_in_turn(protecting, make_client, spy, clock, monkeypatch):
    """Instances on one database write at the same time, from many threads, and lose nothing."""
    monkeypatch.setattr("authapi.features.renewal.PATIENCE", 5)  # on a busy machine too
    one, other = make_client(threads=64), make_client(threads=64)
    one.register()
    tokens = [token_of(client.log_in()) for client in (one, other) * 8]
    clock.move(3_600)
    protected = protecting(spy)

    def renew_and_log_in(number):
        renewed = raw(protected, HTTP_COOKIE=f"jwt={tokens[number]}")[1]
        opened = (one, other)[number % 2].log_in()
        return "Set-Cookie" in dict(renewed), opened.status_code

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(renew_and_log_in, range(16)))

    assert done == [(True, 200)] * 16
    assert one.query("SELECT count(*) FROM sessions") == [(33,)]


def test_django(protecting, token):
    """Django finds the user in `request.META`."""
    conf = pytest.importorskip("django.conf")
    http = pytest.importorskip("django.http")
    urls = pytest.importorskip("django.urls")
    wsgi = pytest.importorskip("django.core.wsgi")

    def whoami(request):
        user = request.META.get("authapi.user")
        return http.JsonResponse({"key": request.META.get("REMOTE_USER"), "id": user and user.id})

    conf.settings.configure(
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        ROOT_URLCONF=(urls.path("whoami", whoami),),
        SECRET_KEY="of the test",
    )
    client = Client(protecting(wsgi.get_wsgi_application()))

    assert client.simulate_get("/whoami").json == {"key": None, "id": None}
    assert client.get_as(token, "/whoami").json == {"key": "1", "id": 1}
    assert client.get_as(token, "/nowhere").status_code == 404


def test_nothing_is_shared_between_databases(protecting, token, spy, tmp_path):
    """The sessions of another database are none here."""
    protected = protecting(spy, database_url=f"sqlite:///{tmp_path}/other.db")

    raw(protected, HTTP_COOKIE=f"jwt={token}")

    assert "REMOTE_USER" not in spy.environ


# The page


def examples():
    """The page's examples, by the file name in their first line."""
    found = re.findall(r"^```python\n(# (\w+\.py).*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return {name: code for code, name in found}


@contextmanager
def example(folder, name):
    """Run an example as its reader does, but on a free port; give the URL."""
    code = examples()[name]
    assert code.count("127.0.0.1:8000") == 1
    (folder / name).write_text(code.replace("127.0.0.1:8000", "127.0.0.1:0"))
    service = start(folder, run=(folder / name,))
    try:
        line = next(line for line in service.stderr if "Serving on" in line)
        yield re.search(r"http://\S+:\d+", line)[0]
    finally:
        service.kill()
        service.communicate()


def test_every_example_is_run():
    """The page has the examples that are run here, and no other Python."""
    assert set(examples()) == {"shop.py", "pages.py", "site.py", "welcome.py"}
    assert PAGE.count("```python") == 4


def test_example_of_mount(tmp_path):
    """The Falcon example has an open page, a protected one, and our routes under /auth."""
    with example(tmp_path, "shop.py") as url:
        assert request(f"{url}/prices")[:2] == (200, {"tea": 3})
        assert request(f"{url}/orders")[0] == 401
        _, _, headers = request(f"{url}/auth/register", USER)
        sent = headers["Set-Cookie"].partition(";")[0]
        status, found, headers = request(f"{url}/orders", Cookie=sent)
        assert (status, found) == (200, {"customer": 1, "orders": []})
        assert "Server" not in headers
        assert request(f"{url}/auth/user", Cookie=sent)[1]["user"]["username"] == USER["username"]
    assert (tmp_path / "authapi.db.key").exists()


def test_example_of_protect(tmp_path):
    """The Flask example greets everyone, and whoever has logged in by name."""
    with example(tmp_path, "pages.py") as url:
        assert request(f"{url}/")[:2] == (200, {"hello": "stranger"})
        assert request(f"{url}/diary")[:2] == (401, {"error": "log in first"})
        _, _, headers = request(f"{url}/auth/register", USER)
        sent = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/", Cookie=sent)[1] == {"hello": USER["username"]}
        assert request(f"{url}/diary", Cookie=sent)[1] == {"of": 1, "entries": []}
        assert request(f"{url}/auth/logout", {}, Cookie=sent)[0] == 200
        assert request(f"{url}/", Cookie=sent)[1] == {"hello": "stranger"}


def run_example(folder, name, then):
    """Run an example, and then more, in a process of its own; give what it printed."""
    (folder / name).write_text(examples()[name])
    environ = {**os.environ, **CHEAPLY, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    run = subprocess.run(
        [sys.executable, "-c", then],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_flask_client(tmp_path):
    """The Flask example works in Flask's test client, which keeps the cookie by itself."""
    then = f"""
from pages import app
client = app.test_client()
print(client.get("/").json["hello"], client.get("/diary").status_code)
client.post("/auth/register", json={USER!r})
print(client.get("/").json["hello"], client.get("/diary").json["of"])
"""

    assert run_example(tmp_path, "pages.py", then) == f"stranger 401\n{USER['username']} 1\n"


def test_flask_run(tmp_path):
    """The Flask example works under `flask run`, with our routes under /auth."""
    (tmp_path / "pages.py").write_text(examples()["pages.py"])
    run = ("-m", "flask", "--app", "pages", "run", "--port", "0")
    service = start(tmp_path, run=run, PYTHONPATH=str(ROOT))
    try:
        line = next(line for line in service.stderr if "Running on" in line)
        url = re.search(r"http://\S+:\d+", line)[0]
        status, _, headers = request(f"{url}/auth/register", USER)
        assert status == 201
        sent = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/", Cookie=sent)[1] == {"hello": USER["username"]}
    finally:
        service.kill()
        service.communicate()


def test_example_of_django(tmp_path):
    """The Django example knows its users by id: one who takes a freed name is another."""
    with example(tmp_path, "site.py") as url:
        assert request(f"{url}/")[1] == {"key": "", "hello": "stranger"}
        _, _, headers = request(f"{url}/auth/register", {**USER, "username": "first"})
        first = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/", Cookie=first)[1] == {"key": "1", "hello": "first"}
        request(f"{url}/auth/user", {"username": "renamed"}, method="PATCH", Cookie=first)
        _, _, headers = request(f"{url}/auth/register", {**OTHER, "username": "first"})
        second = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/", Cookie=second)[1] == {"key": "2", "hello": "first"}


def test_example_of_events(tmp_path):
    """The example of events finds the address of a user who has just registered."""
    then = f"""
import welcome
from falcon import testing
testing.TestClient(welcome.auth).simulate_post("/register", json={USER!r})
"""

    assert run_example(tmp_path, "welcome.py", then) == f"a mail to {USER['email']}\n"


def test_page_of_testing(tmp_path):
    """The tests of the page on testing pass."""
    page = (ROOT / "docs" / "testing.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "test_notes.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "3 passed" in run.stdout, run.stdout


def test_users(make_client, token):
    """A user is found by id, as long as the account is there."""
    client = make_client()

    assert client.app.users.get(1).email == USER["email"]
    assert client.app.users.get(2) is None
    client.request_as(token, "DELETE", "/user", {"password": USER["password"]})
    assert client.app.users.get(1) is None


def test_mounted_once(make_app, tmp_path):
    """A second mount is refused: it would make a second service in the first one's place."""
    app = falcon.App()
    settings = Settings(database_url=f"sqlite:///{tmp_path}/mounted.db", **CHEAP)
    auth = mount(app, settings)
    try:
        with pytest.raises(TypeError, match="mounted in this application already"):
            mount(app, settings, prefix="/other")
    finally:
        auth.close()


def test_no_route_is_replaced(make_app):
    """A path that is taken is refused, so that no resource of ours is replaced unseen."""
    with pytest.raises(ValueError, match="/user is routed already"):
        make_app().add_route("/user", object())


def test_attributes_of_the_page():
    """The page's table names each attribute of a resource that the code reads, and no other."""
    root = Path(__file__).parent.parent / "authapi"
    code = "".join(path.read_text() for path in root.glob("*.py"))
    read = set(re.findall(r'getattr\(resource, "(\w+)"', code))

    assert read == set(re.findall(r"^\| `(\w+) = ", PAGE, re.MULTILINE))


def test_our_word_stands(protecting, token, spy):
    """What an outer layer says of a user does not stand before the session."""
    environ = {"REMOTE_USER": "admin", "authapi.user": "admin", "authapi.session": "x"}

    Client(protecting(spy)).simulate_get("/", headers={"Cookie": f"jwt={token}"}, extras=environ)

    assert spy.environ["REMOTE_USER"] == "1"
    assert spy.environ["authapi.user"].username == USER["username"]
    assert spy.environ["authapi.session"].user.id == 1
