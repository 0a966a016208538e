"""`protect`: a WSGI application is told whose session a request comes in."""

import re
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from wsgiref.validate import validator

import pytest
from conftest import LASTING, USER, Client, deletes_cookie, parsed_cookie, token_of
from embedding import CROSS_SITE, SAFE_HEADERS, Spy, cookie, environ_of, raw

pytest_plugins = ("embedding_fixtures",)


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
    """If a session is required, a request without one gets 401 and is never passed on."""
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
        (("Accept-Ranges", "none"), True),
        (("Link", "jwt=1"), True),
        (("Allow", "public"), True),
        (("X-Cache", "public"), True),
    ],
)
def test_renewal_beside_the_applications_cookies(protecting, token, clock, theirs, adds):
    """A renewal, for this browser alone, leaves the application's cookies as they are.

    It is left out where the application sets the same.
    """
    protected = protecting(Spy(theirs))
    clock.move(3_600)

    _, headers, _ = raw(validator(protected), HTTP_COOKIE=f"jwt={token}")

    assert [("Content-Type", "text/plain"), theirs] == headers[:2]
    assert len(headers) == (4 if adds else 2)
    if adds:
        assert headers[2] == ("Cache-Control", "private")
        assert headers[3][0] == "Set-Cookie"
        assert headers[3][1].startswith("jwt=ey")


@pytest.mark.parametrize("control", ["public", "max-age=60, Public", "s-maxage=60"])
def test_renewal_and_shared_caches(protecting, token, clock, control):
    """No session goes out with an answer that shared caches may keep for others (RFC 9111, 7.3)."""
    protected = protecting(Spy(("Cache-Control", control)))
    clock.move(3_600)

    _, headers, _ = raw(protected, HTTP_COOKIE=f"jwt={token}")

    controls = [value for name, value in headers if name == "Cache-Control"]
    assert "Set-Cookie" not in dict(headers) or controls != [control]


@pytest.mark.parametrize(
    ("theirs", "added"),
    [
        (("X-Other", "1"), ["Authapi-Token", "Cache-Control", "Set-Cookie"]),
        (("Cache-Control", "max-age=60"), ["Authapi-Token", "Cache-Control", "Set-Cookie"]),
        (("Cache-Control", "public"), []),
        (("authapi-token", "another"), []),
    ],
)
def test_renewal_of_a_bearer(protecting, token, clock, theirs, added):
    """A bearer is renewed in a header that no cache stores; if it keeps the token, in no cookie."""
    protected, authorization = validator(protecting(Spy(theirs))), f"Bearer {token}"
    clock.move(3_600)

    _, plain, _ = raw(protected, HTTP_AUTHORIZATION=authorization)
    _, quiet, _ = raw(protected, HTTP_AUTHORIZATION=authorization, HTTP_AUTHAPI_TOKEN="body")

    assert [name for name, _ in plain[2:]] == added
    assert [name for name, _ in quiet[2:]] == added[:2]
    assert ("Cache-Control", "no-store") in quiet or not added


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
    """The application's answer is passed on unchanged: nothing is read ahead, close is called."""
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
    """If the database cannot be written now, a session is served, and renewed another time."""
    protected = protecting(spy)
    clock.move(3_600)

    protected.auth.core.database.lock_timeout = 0
    with protected.auth.core.database.writer_lock.hold(0):
        _, headers, _ = raw(protected, HTTP_COOKIE=f"jwt={token}")

    assert spy.user == "1"
    assert "Set-Cookie" not in dict(headers)


def test_no_database(protecting, token, spy, tmp_path, caplog):
    """If sessions cannot be looked up, the answer is 503, and the log has the cause."""
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


def test_nothing_is_shared_between_databases(protecting, token, spy, tmp_path):
    """The sessions of another database are none here."""
    protected = protecting(spy, database_url=f"sqlite:///{tmp_path}/other.db")

    raw(protected, HTTP_COOKIE=f"jwt={token}")

    assert "REMOTE_USER" not in spy.environ


def test_our_word_stands(protecting, token, spy):
    """The session wins over what an outer layer says of a user."""
    environ = {"REMOTE_USER": "admin", "authapi.user": "admin", "authapi.session": "x"}

    Client(protecting(spy)).simulate_get("/", headers={"Cookie": f"jwt={token}"}, extras=environ)

    assert spy.environ["REMOTE_USER"] == "1"
    assert spy.environ["authapi.user"].username == USER["username"]
    assert spy.environ["authapi.session"].user.id == 1
