"""`mount`: the host application's own resources are protected as ours are."""

import functools
import json
import re

import falcon
import falcon.asgi
import msgspec
import pytest
from conftest import USER, Client, deletes_cookie, token_of
from embedding import CROSS_SITE, SAFE_HEADERS, Notes, Under, Welcome, cookie

from authapi import LoggedIn, Registered, fresh
from authapi.operations import operation

pytest_plugins = ("embedding_fixtures",)


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


class WordBody(msgspec.Struct):
    """A word."""

    word: str


class Declared:
    @operation("Show.", needs=(fresh,))
    def on_get(self, req, resp):
        resp.media = {"id": req.context.user.id}

    @operation("Write.", body=WordBody)
    def on_post(self, req, resp, body):
        resp.media = {"word": body.word}


class Open(Declared):
    public = True


def test_operations_of_the_host(host, guest, clock):
    """What `@operation` declares holds in a host's resource too: needs, and the body."""
    host.app.add_route("/declared", Declared())
    host.app.add_route("/open", Open())

    assert host.get_as(guest, "/declared").json == {"id": 1}
    written = host.simulate_post("/declared", json={"word": "a"}, headers=cookie(guest))
    assert written.json == {"word": "a"}
    refused = host.simulate_post("/declared", json={}, headers=cookie(guest))
    assert (refused.status_code, refused.json["error"]) == (422, "validation_failed")
    clock.move(300)
    stale = host.get_as(guest, "/declared")
    assert (stale.status_code, stale.json["error"]) == (403, "fresh_login_required")
    assert host.simulate_get("/declared").status_code == 401
    assert host.simulate_put("/declared", headers=cookie(guest)).status_code == 405
    assert host.get_as(guest, "/open").status_code == 500


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
    """A resource whose answer caches may keep."""

    def __init__(self, *control):
        self._control = control

    def on_get(self, req, resp):
        resp.cache_control = self._control


def test_host_renewal_and_shared_caches(host, guest, clock):
    """No session goes out with a host's answer that shared caches may keep (RFC 9111, 7.3)."""
    host.app.add_route("/catalogue", Catalogue("public", "max-age=60"))
    clock.move(3_600)

    answers = [
        host.get_as(guest, "/catalogue"),
        host.simulate_get("/catalogue", headers={"Authorization": f"Bearer {guest}"}),
    ]

    for answer in answers:
        assert answer.status_code == 200
        assert "authapi-token" not in answer.headers
        assert not answer.cookies or answer.headers["cache-control"] != "public, max-age=60"


@pytest.mark.parametrize(
    ("control", "of_cookie"),
    [("max-age=60", "max-age=60, private"), ("private", "private"), ("No-Store", "No-Store")],
)
def test_host_renewal_and_other_caches(host, guest, clock, control, of_cookie):
    """A renewal beside a host's answer is for its client alone, and a bearer's is not stored."""
    host.app.add_route("/catalogue", Catalogue(control))
    clock.move(3_600)

    by_cookie = host.get_as(guest, "/catalogue")
    by_bearer = host.simulate_get("/catalogue", headers={"Authorization": f"Bearer {guest}"})

    assert (by_cookie.headers["cache-control"], bool(by_cookie.cookies)) == (of_cookie, True)
    assert by_bearer.headers["cache-control"] == "no-store"
    assert by_bearer.headers["authapi-token"]


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
    assert client.get_as(token_of(under.register()), "/notes").status_code == 200
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
    """A host may keep its own values in contexts, except under `user` and `session`."""
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
    """The object that mount returns reports every event, and closes."""
    caplog.set_level("INFO", "authapi.events")
    told = []
    host.auth.core.events.subscribe(told.append)

    host.under.register()
    host.under.log_in()

    assert [Registered, LoggedIn] == [type(event) for event in told]
    assert told[0].user_id == 1
