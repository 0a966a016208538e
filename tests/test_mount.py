"""`mount`: the service answers under a prefix of a Falcon application as it does alone."""

import functools
import re
from wsgiref.validate import validator

import falcon
import falcon.asgi
import flask
import pytest
from conftest import CHEAP, USER, Client, attributes_of, deletes_cookie, exchange, request, token_of
from embedding import CROSS_SITE, SAFE_HEADERS, Notes, Under, Welcome, cookie, served

from authapi import Settings, mount, protect

pytest_plugins = ("embedding_fixtures",)


# Ids; and the times of a user, which are the database's.
RANDOM = re.compile(r"\b([0-9a-f]{16}|[0-9a-f]{64}|\w{3}, \d\d \w{3} \d{4} [0-9:]{8} GMT)\b")


class Broken:
    public = True

    def on_get(self, req, resp):
        raise RuntimeError("password hash and SQL")


def answers_of(client):
    """Return the answers of every route in one history; the client has its own tokens."""
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
    """Return an answer without the parts that always differ."""
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
        "is an ASGI|is not a WSGI application|mount takes a falcon.App, not", str(refused.value)
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
    with pytest.raises(TypeError, match="ASGI application.*use protect_asgi") as refused:
        embed(app, make_settings())

    assert type(app).__name__ in str(refused.value)
    assert not list(tmp_path.iterdir())


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
    with pytest.raises(ValueError, match="/user already has a route"):
        make_app().add_route("/user", object())


def test_a_route_to_replace(make_app):
    """A resource replaces another one where it says so, and none where there is no other."""
    app = make_app()

    class Hello:
        public = True

        def on_get(self, _req, resp):
            resp.text = "hello"

    with pytest.raises(ValueError, match="/hello has no route to replace"):
        app.add_route("/hello", Hello(), replaces=True)
    app.add_route("/user", Hello(), replaces=True)

    assert Client(app).simulate_get("/user").text == "hello"
