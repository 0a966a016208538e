"""`protect_asgi`: an ASGI application is told whose session a request or a websocket comes in."""

import asyncio
import threading

import falcon
import falcon.asgi
import flask
import pytest
from asgi import Answer, Spy, call, called, cookie, get, http_scope, post, socket_scope
from conftest import CHEAP, LASTING, OTHER, USER, parsed_cookie, token_of
from embedding import SAFE_HEADERS

from authapi import Settings, protect_asgi
from authapi.inline import IN_LOOP

RENEWED_AFTER = 3_600
DENIAL = {"extensions": {"websocket.http.response": {}}}


@pytest.fixture(name="spy")
def _spy():
    return Spy()


@pytest.fixture(name="protecting")
def _protecting(engine, clock):
    opened = []

    def protecting(app, *, required=False, prefix=None, **values):
        settings = Settings(**engine.settings(**{**CHEAP, **values}))
        protected = protect_asgi(app, settings, required=required, prefix=prefix, clock=clock)
        engine.prepare(protected.auth.core.database)
        opened.append(protected)
        return protected

    yield protecting
    for protected in opened:
        protected.close()


def test_scope(protecting, client, token, spy):
    """A session adds its user and itself to the scope, and changes nothing else."""
    state = {"kept": 1}
    given = http_scope("PUT", "/a/b", cookie(token), state=state, more="kept")
    kept = dict(given)

    answer = call(protecting(spy), given)

    assert (answer.status, answer.body) == (200, b"spied")
    found = spy.scope
    assert given == kept
    assert set(found) - set(kept) == {"user", "authapi.user", "authapi.session"}
    assert kept == {name: found[name] for name in kept} | {"state": state}
    user, session = found["user"], found["authapi.session"]
    assert (user.id, user.username, user.email) == (1, USER["username"], USER["email"])
    assert found["authapi.user"] is user is session.user
    assert found["state"] == {"kept": 1, "user": user}
    assert state == {"kept": 1}
    assert (session.id,) == client.query("SELECT id_hash FROM sessions")[0]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("cookie", "")],
        [("cookie", "jwt=bad")],
        [("cookie", "\xa0jwt={}")],
        [("cookie", "session={}; __Host-jwt={}")],
        [("cookie_", "jwt={}")],
        [("http_cookie", "jwt={}")],
        [("set-cookie", "jwt={}")],
        [("authorization", "Bearer x")],
        [("authorization", "Bearer {}"), ("authorization", "Bearer {}")],
        [("proxy_authorization", "Bearer {}"), ("x_authorization", "Bearer {}")],
        [("authapi.user", "1"), ("authapi_user", "1"), ("remote-user", "1"), ("user", "1")],
    ],
)
def test_no_session(protecting, token, spy, fields):
    """A request without a good session is passed on without a user, whatever its headers say."""
    filled = [(name, value.replace("{}", token)) for name, value in fields]

    answer = call(protecting(spy), http_scope(fields=filled))

    assert (answer.body, answer.cookies) == (b"spied", [])
    assert spy.scope == {**http_scope(fields=filled), "user": None}


def test_nothing_but_the_application(engine, spy):
    """Without other arguments nobody is refused."""
    protected = protect_asgi(spy, Settings(**engine.settings(**CHEAP)))

    assert get(protected).body == b"spied"
    protected.close()


def test_two_sessions(protecting, client, token, spy):
    """A browser with two sessions is refused where one is required, and keeps its cookies."""
    other = token_of(client.register(**OTHER))

    answer = get(protecting(spy, required=True), fields=cookie(token, other))

    assert (answer.status, answer.cookies, len(answer.messages)) == (401, [], 2)


def test_threads_end(protecting, token, spy, clock):
    """The threads for what waits end when it is closed."""
    protected = protecting(spy)
    clock.move(RENEWED_AFTER)
    get(protected, fields=cookie(token))
    ours = [each for each in threading.enumerate() if each.name.startswith("authapi-asgi")]

    protected.close()

    assert ours
    assert not any(each.is_alive() for each in ours)


@pytest.mark.parametrize(
    ("path", "root", "is_ours"),
    [
        ("/auth-login", "", False),
        ("/auth.json", "", False),
        ("/auth/user", "/app", True),
        ("/app/auth/user", "/app", True),
        ("/app/auth-user", "/app", False),
    ],
)
def test_paths_below_the_prefix(protecting, spy, path, root, is_ours):
    """Our routes are under the prefix, whether or not the server's path begins with `root_path`."""
    answer = get(protecting(spy, prefix="/auth"), path, root_path=root)

    assert (answer.body == b"spied") is not is_ours


def test_a_body_in_one_message(protecting, spy):
    """A server may leave `more_body` out of the last message."""
    body = b'{"usernameOrEmail": "nobody", "password": "x"}'
    fields = {"content-type": "application/json"}
    scope = http_scope("POST", "/auth/login", fields)

    answer = call(
        protecting(spy, prefix="/auth"), scope, messages=[{"type": "http.request", "body": body}]
    )

    assert answer.status == 401


def test_another_layers_user(protecting, token, spy):
    """The user of an outer layer stays where there is no session, and gives way to one."""
    protected = protecting(spy)

    call(protected, http_scope(user="of an API key"))
    assert spy.scope["user"] == "of an API key"
    call(protected, http_scope(user="of an API key", fields=cookie(token)))
    assert spy.user_id == 1


def test_no_state_is_shared(protecting, token, spy):
    """Where a server shares a state between a connection's requests, no user stays in it."""
    protected, shared = protecting(spy), {}

    call(protected, http_scope(fields=cookie(token), state=shared))
    call(protected, http_scope(state=shared))

    assert spy.scope["state"] == {}


@pytest.mark.parametrize("lines", [1, 2])
def test_two_cookies(protecting, token, other, spy, lines):
    """Two sessions at once are none, in one line or in two; the same token twice is one."""
    protected = protecting(spy, required=True)
    values = {"other": [token, other], "same": [token, token]}
    fields = {
        name: [("cookie", f"jwt={one}") for one in found]
        if lines == 2
        else [("cookie", "; ".join(f"jwt={one}" for one in found))]
        for name, found in values.items()
    }

    assert get(protected, fields=fields["other"]).status == 401
    assert get(protected, fields=fields["same"]).status == 200


def test_header_names(protecting, token, spy):
    """Names count in any case; a header of several lines is none of its values."""
    protected = protecting(spy, required=True)
    evil = ("origin", "https://evil.example")

    assert get(protected, fields=[("COOKIE", "a=b"), ("Cookie", f"jwt={token}")]).status == 200
    assert post(protected, "/", fields={**cookie(token), "ORIGIN": evil[1]}).status == 403
    ours = ("origin", "http://127.0.0.1:8000")
    host = ("host", "127.0.0.1:8000")
    sent = ("cookie", f"jwt={token}")
    assert post(protected, "/", fields=[sent, host, ours]).status == 200
    assert post(protected, "/", fields=[sent, host, ours, evil]).status == 403
    assert (
        post(protected, "/", fields=[sent, evil, ("sec_fetch_site", "same-origin")]).status == 403
    )
    twice = [("sec-fetch-site", "same-origin")] * 2
    assert post(protected, "/", fields=[sent, *twice]).status == 403


def test_required(protecting, token, spy):
    """If a session is required, a request without one gets 401 and is never passed on."""
    protected = protecting(spy, required=True)

    missing, bad = get(protected), get(protected, fields=cookie("bad"))

    assert (missing.status, missing.json["error"]) == (401, "not_authenticated")
    assert (bad.status, bad.json["error"]) == (401, "invalid_token")
    assert missing.cookies == []
    name, value, attributes = parsed_cookie(bad.cookies[0])
    assert (name, value, attributes) == ("jwt", "", {**LASTING, "max-age": "0"})
    for answer in (missing, bad):
        headers = dict(answer.headers)
        assert headers["content-length"] == str(len(answer.body))
        assert {name: headers[name] for name in SAFE_HEADERS} == SAFE_HEADERS
        assert len(headers["x-request-id"]) == 16
    head = call(protected, http_scope("HEAD"))
    assert (head.status, head.body) == (401, b"")
    assert not spy.scopes
    assert get(protected, fields=cookie(token)).body == b"spied"


def test_cross_site(protecting, token, spy):
    """A request of another site that would change something has no user, or is answered 403."""
    optional, required = protecting(spy), protecting(spy, required=True)
    theirs = {**cookie(token), "sec-fetch-site": "cross-site"}

    assert post(optional, "/", fields=theirs).body == b"spied"
    assert spy.user_id is None
    assert post(required, "/", fields=theirs).json["error"] == "cross_site_request"
    assert get(required, fields=theirs).status == 200


@pytest.mark.parametrize("end", ["logout", "disable", "delete"])
def test_revoked_at_the_next_request(protecting, client, token, spy, end):
    """A session that ends elsewhere is unknown at the very next request."""
    protected = protecting(spy)
    get(protected, fields=cookie(token))
    assert spy.user_id == 1

    if end == "logout":
        client.request_as(token, "POST", "/logout")
    elif end == "disable":
        client.query("UPDATE users SET disabled_at = 1")
    else:
        client.request_as(token, "DELETE", "/user", {"password": USER["password"]})
    get(protected, fields=cookie(token))

    assert spy.user_id is None


def test_renewal(protecting, client, token, spy, clock):
    """A session that is an hour old is renewed by whatever is asked for, once."""
    protected = protecting(spy)
    clock.move(RENEWED_AFTER - 1)
    assert get(protected, fields=cookie(token)).cookies == []
    clock.move(1)

    (line,) = get(protected, fields=cookie(token)).cookies

    name, renewed, attributes = parsed_cookie(line)
    assert (name, attributes) == ("jwt", LASTING)
    assert client.events().count("session_renewed") == 1
    assert get(protected, fields=cookie(renewed)).cookies == []
    clock.move(259_000)
    assert client.get_as(renewed).status_code == 200


@pytest.mark.parametrize(
    ("theirs", "adds"),
    [
        (("set-cookie", "jwt=mine; Path=/"), False),
        (("Set-Cookie", "jwt="), False),
        (("set-cookie", "other=jwt=1"), True),
        (("cache-control", "public, max-age=60"), False),
        (("cache-control", "private"), True),
    ],
)
def test_renewal_beside_the_applications_headers(protecting, token, clock, theirs, adds):
    """A renewal leaves the application's headers alone, and gives way to its own session cookie."""
    protected = protecting(Spy(theirs))
    clock.move(RENEWED_AFTER)

    answer = get(protected, fields=cookie(token))

    assert answer.headers[:2] == [("content-type", "text/plain"), theirs]
    names = [name for name, _ in answer.headers[2:]]
    assert names == (["cache-control", "set-cookie"] if adds else [])


def test_renewal_of_a_bearer(protecting, client, token, spy, clock):
    """A bearer that keeps its token is renewed in a header, and in no cookie."""
    clock.move(RENEWED_AFTER)
    fields = [("authorization", f"Bearer {token}"), ("authapi-token", "body")]

    answer = get(protecting(spy), fields=fields)

    assert answer.cookies == []
    assert client.get_as(dict(answer.headers)["authapi-token"]).status_code == 200
    assert dict(answer.headers)["cache-control"] == "no-store"


@pytest.mark.parametrize("age", [0, RENEWED_AFTER])
def test_streaming(protecting, token, clock, age):
    """Each message of the application is passed on when it is sent, and each of the client too."""
    log = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for _ in range(3):
            log.append(await receive())
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body"})

    clock.move(age)
    answer = call(protecting(app), http_scope(fields=cookie(token)), b"abc", pieces=3)

    assert [message["body"] for message in log] == [b"a", b"b", b"c"]
    assert [message.get("more_body") for message in answer.messages[1:]] == [True] * 3 + [None]
    assert len(answer.cookies) == bool(age)


def test_an_application_that_fails_after_the_renewal(protecting, client, token, clock):
    """The old token stays good if the application fails, and the next answer has the newer one."""
    fails = [True]
    spy = Spy()

    async def app(scope, receive, send):
        if fails.pop():
            raise ZeroDivisionError
        await spy(scope, receive, send)

    protected = protecting(app)
    clock.move(RENEWED_AFTER)
    with pytest.raises(ZeroDivisionError):
        get(protected, fields=cookie(token))
    fails.append(False)

    answer = get(protected, fields=cookie(token))

    assert len(answer.cookies) == 1
    assert client.events().count("session_renewed") == 1


def held_up(protected):
    """Hold up each write; return the events that it has begun, and that it may go on."""
    begun, may_go_on = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        assert may_go_on.wait(30)

    protected.auth.core.events.subscribe(wait)
    return begun, may_go_on


def test_a_request_that_is_cancelled_in_its_renewal(protecting, client, token, clock, spy):
    """A cancelled request never reaches the application; the next one gets the newer token."""
    protected = protecting(spy)
    clock.move(RENEWED_AFTER)
    writes, may_go_on = held_up(protected)

    async def cancelled():
        loop = asyncio.get_running_loop()
        task = loop.create_task(called(protected, http_scope(fields=cookie(token))))
        await loop.run_in_executor(None, writes.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_go_on.set()
        return await called(protected, http_scope(fields=cookie(token)))

    answer = asyncio.run(cancelled())

    assert len(spy.scopes) == 1
    assert spy.user_id == 1
    assert answer.status == 200
    assert client.events().count("session_renewed") == 1
    assert len(get(protected, fields=cookie(token)).cookies) == 1


def test_a_renewal_waits_beside_the_loop(protecting, token, clock, spy):
    """While a renewal waits for the database, the loop serves other requests."""
    protected = protecting(spy)
    clock.move(RENEWED_AFTER)
    begun, may_end = held_up(protected)

    async def both():
        loop = asyncio.get_running_loop()
        renewing = loop.create_task(called(protected, http_scope(fields=cookie(token))))
        assert await loop.run_in_executor(None, begun.wait, 30)
        other = await called(protected, http_scope())
        assert not renewing.done()
        may_end.set()
        return other, await renewing

    other, renewed = asyncio.run(both())
    assert other.body == b"spied"
    assert len(renewed.cookies) == 1


@pytest.mark.sqlite("the loop reads a file itself")
def test_the_loop_checks(protecting, token, spy):
    """A check without a renewal is made in the event loop, without a thread."""
    protected = protecting(spy)
    before = threading.active_count()

    async def check():
        await called(protected, http_scope(fields=cookie(token)))
        return threading.active_count()

    assert asyncio.run(check()) == before
    assert spy.user_id == 1


def test_no_database(protecting, token, spy, engine, tmp_path):
    """If sessions cannot be looked up, a request with a token is 503, and others go on."""
    if not (tmp_path / "authapi.db").exists():
        pytest.skip("a file that is away")
    protected = protecting(spy)
    (tmp_path / "authapi.db").rename(tmp_path / "away.db")

    answer = get(protected, fields=cookie(token))

    (tmp_path / "away.db").rename(tmp_path / "authapi.db")
    assert (answer.status, answer.json["error"]) == (503, "unavailable")
    assert not spy.scopes
    assert get(protected).body == b"spied"


def test_websocket(protecting, token, spy, clock):
    """A websocket is opened in a session, and its handshake renews the cookie."""
    protected = protecting(spy, required=True)
    ours = {**cookie(token), "origin": "http://shop.example", "host": "shop.example"}
    assert call(protected, socket_scope(fields=ours)).messages == [
        {"type": "websocket.accept", "headers": []}
    ]
    assert spy.user_id == 1
    clock.move(RENEWED_AFTER)

    (line,) = call(protected, socket_scope(fields=ours)).cookies

    assert parsed_cookie(line)[2] == LASTING


def test_a_session_that_ends_while_a_websocket_is_open(protecting, client, token, spy):
    """`is_live` says whether the session of an open websocket has ended since."""
    protected = protecting(spy)

    async def lasts():
        await called(protected, socket_scope(fields=cookie(token)))
        session = spy.scope["authapi.session"]
        before = await protected.is_live(session)
        await asyncio.to_thread(client.request_as, token, "POST", "/logout")
        return before, await protected.is_live(session)

    assert asyncio.run(lasts()) == (True, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"origin": "https://evil.example", "host": "shop.example"},
        {"origin": "null", "host": "shop.example"},
        {"origin": "http://shop.example", "sec-fetch-site": "cross-site", "host": "shop.example"},
        {"origin": "http://shop.example.evil.example", "host": "shop.example"},
    ],
)
def test_cross_site_websocket(protecting, token, spy, fields):
    """A websocket that another site opens has no user, or is refused with 403."""
    theirs = {**cookie(token), **fields}

    call(protecting(spy), socket_scope(fields=theirs))
    assert spy.user_id is None
    required = protecting(spy, required=True)
    calls = len(spy.scopes)
    answer = call(required, socket_scope(fields=theirs, **DENIAL))
    assert (answer.status, answer.json["error"]) == (403, "cross_site_request")
    assert answer.start["type"] == "websocket.http.response.start"
    plain = call(required, socket_scope(fields=theirs))
    assert plain.messages == [{"type": "websocket.close", "code": 1008}]
    assert len(spy.scopes) == calls


def test_websocket_of_an_allowed_origin(protecting, token, spy):
    """An allowed origin may open a websocket in a user's session."""
    protected = protecting(spy, required=True, allowed_origins="https://app.example")
    fields = {"origin": "https://app.example", "host": "api.example", **cookie(token)}

    call(protected, socket_scope(fields=fields))

    assert spy.user_id == 1


def test_lifespan(protecting, token):
    """The application's own lifespan runs, and the database is closed before its end is told."""
    log = []

    async def app(scope, receive, send):
        for name in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{name}"
            log.append(name)
            await send({"type": f"lifespan.{name}.complete"})

    protected = protecting(app)
    close, protected.auth.close = protected.auth.close, lambda: log.append("closed") or close()

    assert lifespan_of(protected) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert log == ["startup", "shutdown", "closed"]


async def unaware(scope, receive, send):
    raise ValueError("only HTTP is known here, as in Django")


async def silent(scope, receive, send):
    """Do nothing."""


@pytest.mark.parametrize("app", [unaware, silent])
def test_lifespan_of_an_application_that_knows_none(protecting, app):
    """An application without a lifespan is started, and the database closed at the shutdown."""
    protected, closed = protecting(app), []
    close, protected.auth.close = protected.auth.close, lambda: closed.append(1) or close()

    assert lifespan_of(protected) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert closed == [1]


def test_order_of_a_lifespan(protecting):
    """For an application without a lifespan, nothing is complete before the server asks for it."""
    protected, log = protecting(silent), []

    async def receive():
        log.append("asked")
        return {"type": "lifespan.startup" if len(log) == 1 else "lifespan.shutdown"}

    async def send(message):
        log.append(message["type"])

    asyncio.run(protected({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))

    complete = ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert log == ["asked", complete[0], "asked", complete[1]]


def test_lifespan_that_fails(protecting):
    """An application that fails at its start is not started."""

    async def app(scope, receive, send):
        await receive()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lifespan_of(protecting(app))


def test_lifespan_that_fails_at_the_end(protecting):
    """The database is closed if the application fails at its shutdown, and the server hears it."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ZeroDivisionError

    protected, closed = protecting(app), []
    close, protected.auth.close = protected.auth.close, lambda: closed.append(1) or close()

    with pytest.raises(ZeroDivisionError):
        lifespan_of(protected)
    assert closed == [1]


def lifespan_of(app):
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    return [message["type"] for message in call(app, scope, messages=messages).messages]


def test_other_types_of_connections(protecting, spy):
    """What is neither HTTP nor a websocket is passed on, unless a session is required."""
    call(protecting(spy), {"type": "channel"}, messages=[{}])
    assert spy.scope == {"type": "channel"}
    with pytest.raises(ValueError, match="'channel' is no type"):
        call(protecting(spy, required=True), {"type": "channel"}, messages=[{}])


@pytest.mark.parametrize(
    "app", [falcon.App(), flask.Flask("pages"), lambda environ, start_response: [], object()]
)
def test_wsgi_is_told_what_to_do(engine, app):
    """A WSGI application gets an error that says what to do instead."""
    with pytest.raises(TypeError, match="not an ASGI application"):
        protect_asgi(app, Settings(**engine.settings()))


@pytest.mark.parametrize("prefix", ["", "/", "auth", "/auth/", "/a b"])
def test_bad_prefix(engine, spy, prefix):
    """A prefix that is no path is refused."""
    with pytest.raises(ValueError, match="must be a path such as /auth"):
        protect_asgi(spy, Settings(**engine.settings()), prefix=prefix)


def test_our_routes(protecting, spy):
    """With a prefix, our own routes are under it, from registration to logout."""
    protected = protecting(spy, prefix="/auth")

    registered = post(protected, "/auth/register", USER, pieces=3)

    assert registered.status == 201
    found = {parsed_cookie(line)[0]: parsed_cookie(line)[1] for line in registered.cookies}
    sent = cookie(found["jwt"])
    assert get(protected, "/auth/user", fields=sent).json["user"]["username"] == USER["username"]
    assert get(protected, "/elsewhere", fields=sent).body == b"spied"
    assert spy.user_id == 1
    nowhere = get(protected, "/auth/nowhere", fields=sent)
    assert nowhere.json["message"] == 'Path "/auth/nowhere" not found.'
    head = call(protected, http_scope("HEAD", "/auth/user", sent))
    assert (head.status, head.body) == (200, b"")
    theirs = {**sent, "origin": "https://evil.example"}
    assert post(protected, "/auth/logout", {}, theirs).status == 403
    assert post(protected, "/auth/logout", {}, sent).status == 200
    assert get(protected, "/auth/user", fields=sent).status == 401
    assert get(protected, "/authors").body == b"spied"


def test_our_routes_below_a_root_path(protecting, spy):
    """Where the application is mounted in another one, the prefix is below its root path."""
    protected = protecting(spy, prefix="/auth")

    assert get(protected, "/api/auth/user", root_path="/api").status == 401
    assert get(protected, "/api/user", root_path="/api").body == b"spied"


def test_bodies_of_our_routes(protecting, spy):
    """A body without a length is read to its end, one that is too long or cut off is not."""
    protected = protecting(spy, prefix="/auth")
    chunked = [("content-type", "application/json"), ("transfer-encoding", "chunked")]
    body = b'{"usernameOrEmail": "nobody", "password": "correct horse"}'

    def log_in(content, **how):
        scope = http_scope("POST", "/auth/login", chunked)
        return call(protected, scope, content, **how)

    assert log_in(body, pieces=5).json["error"] == "invalid_credentials"
    assert log_in(body + b" " * 70_000, pieces=9).status == 413
    piece = {"type": "http.request", "body": body, "more_body": True}
    assert log_in(body, messages=[piece, {"type": "http.disconnect"}]).messages == []
    assert not spy.scopes


def test_endless_body_of_our_routes(protecting, spy):
    """A body without an end is read up to the limit of 64 KiB, and no further."""
    protected, read, answer = protecting(spy, prefix="/auth"), [], Answer()
    chunked = [("content-type", "application/json"), ("transfer-encoding", "chunked")]

    async def receive():
        read.append(1_024)
        return {"type": "http.request", "body": b" " * 1_024, "more_body": len(read) < 1_000}

    asyncio.run(protected(http_scope("POST", "/auth/login", chunked), receive, answer.send))

    assert answer.status == 413
    assert sum(read) == 65 * 1_024


def test_our_routes_know_the_client(protecting, client, spy):
    """Events have the address that the server gives, and none that a client claims."""
    protected = protecting(spy, prefix="/auth")
    claimed = {"x-forwarded-for": "203.0.113.9", "remote_addr": "203.0.113.9"}

    post(protected, "/auth/register", OTHER, claimed)

    assert set(client.events("ip")) == {("192.0.2.7",)}


@pytest.mark.sqlite("the loop reads a file itself")
def test_the_loop_answers_what_is_quick(protecting, token, spy):
    """The event loop answers what never waits, such as `GET /user`, and threads all else."""
    protected, threads = protecting(spy, prefix="/auth"), []

    class Noting:
        quick = True
        public = True

        def on_get(self, req, resp):
            threads.append((threading.current_thread() is threading.main_thread(), req.env))

        on_post = on_get

    protected.auth.add_route("/noting", Noting())
    get(protected, "/auth/noting")
    post(protected, "/auth/noting")

    assert [in_loop for in_loop, _ in threads] == [True, False]
    assert [bool(environ.get(IN_LOOP)) for _, environ in threads] == [True, False]


def test_close(protecting, token, spy):
    """After `close` no session is taken for good any more."""
    protected = protecting(spy)
    get(protected, fields=cookie(token))

    protected.close()

    with pytest.raises(Exception, match="closed|shutdown"):
        get(protected, fields=cookie(token))
