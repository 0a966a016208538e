"""Sessions: the row under each token."""

import hashlib
import json
import re
import threading
from base64 import urlsafe_b64decode

import pytest
from conftest import (
    OTHER,
    USER,
    Client,
    connected,
    deletes_cookie,
    exchange,
    process,
    request,
    running,
    token_of,
)
from databases import insert_user, opened

from authapi.database.sqlite import SQLiteDatabase
from authapi.database.sqlite.database import LOCK_TIMEOUT
from authapi.database.sqlite.writer_lock import WriterLock
from authapi.errors import InvalidToken
from authapi.events import Caller
from authapi.features.sessions import PRUNED_AT_ONCE, RENEWAL_PATIENCE, Issued, Sessions
from authapi.inline import IN_LOOP, HandOver
from authapi.principal import Claims


def claims_of(token):
    payload = token.split(".")[1]
    return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def public_id(token):
    return hashlib.sha256(claims_of(token)["sid"].encode()).hexdigest()


def test_only_a_digest_is_stored(client, token):
    """The row holds the SHA-256 of a 256-bit id, and the id is nowhere in the database."""
    secret = claims_of(token)["sid"]

    ((id_hash, user_id),) = client.query("SELECT id_hash, user_id FROM sessions")

    assert len(urlsafe_b64decode(secret + "=")) == 32
    assert hashlib.sha256(secret.encode()).hexdigest() == id_hash
    assert user_id == 1
    client.query("PRAGMA wal_checkpoint(TRUNCATE)")
    assert secret.encode() not in client.app.core.settings.database_path.read_bytes()


def test_lifetime(client, token, clock):
    """A session lives to the last second of the setting, and not one more."""
    clock.move(259_199)
    assert client.get_as(token, "/verify").status_code == 200

    clock.move(1)
    answer = client.get_as(token)
    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert deletes_cookie(answer)


def test_lifetime_is_a_setting(make_client, clock):
    """Cookie, token and row end together."""
    client = make_client(session_lifetime=60)
    answer = client.register()
    token = token_of(answer)

    assert answer.cookies["jwt"].max_age == 60
    assert clock.now + 60 == claims_of(token)["exp"]
    clock.move(59)
    assert client.get_as(token).status_code == 200
    clock.move(1)
    assert client.get_as(token).status_code == 401


def test_row_decides(client, token, clock):
    """A row that expires earlier than its token ends the session, in that very second."""
    client.query("UPDATE sessions SET expires_at = ?", int(clock.now) + 1)
    assert client.get_as(token).status_code == 200

    clock.move(1)
    assert client.get_as(token).status_code == 401


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM sessions",
        "DELETE FROM users",
        "UPDATE users SET disabled_at = unixepoch()",
        "UPDATE sessions SET user_id = 2",
    ],
)
def test_ends_at_once(client, token, statement):
    """Revoked, deleted, disabled: the next request is refused, and the cookie deleted."""
    client.register(username="other", email="other@example.com")
    assert client.get_as(token).status_code == 200

    client.query(statement)

    answer = client.get_as(token)
    assert (answer.status_code, answer.json["message"]) == (401, "Invalid token or it has expired.")
    assert deletes_cookie(answer)


def test_session_of_another(client, token):
    """A session is found only for its own user."""
    other = token_of(client.register(username="other", email="other@example.com"))

    assert client.get_as(token).json["user"]["username"] == "crispengari"
    assert client.get_as(other).json["user"]["username"] == "other"


def test_pruning_is_bounded(client, clock):
    """A login deletes expired sessions, the oldest first, so many and no more."""
    client.register()
    for number in range(PRUNED_AT_ONCE + 20):
        client.query(
            "INSERT INTO sessions VALUES (NULL, ?, 1, 0, 0, 0, ?, '', '', NULL, 'pwd', NULL)",
            f"{number:064}",
            1_000 + number,
        )

    client.log_in()
    expired = client.query("SELECT min(expires_at), count(*) FROM sessions WHERE expires_at < 2000")
    assert expired == [(1_000 + PRUNED_AT_ONCE, 20)]

    client.log_in()
    clock.move(259_200)
    client.log_in()
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]


@pytest.mark.parametrize("path", ["/user", "/"])
def test_one_statement(client, token, path):
    """A session check runs one statement, and writes none."""
    statements = []
    client.app.core.database.connection.set_trace_callback(statements.append)

    client.get_as(token, path)

    assert len(statements) == 1
    assert statements[0].split()[0] == "SELECT"


def test_sessions_know_their_user(client, token, clock):
    """All sessions of a user are given with the user."""
    sessions = Sessions(client.app.core)
    claims = client.tokens.read(token, clock.now)
    user = sessions.authenticate(claims, clock.now).user

    assert [session.user for session in sessions.of_user(user, clock.now)] == [user]


# Ending


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (("PUT", "/user/password"), 200),
        (("POST", "/logout", {"everywhere": True}), 200),
        (("DELETE", "/sessions"), 200),
        (("DELETE", "/sessions/{}"), 404),
        (None, 200),
    ],
)
def test_ended_while_the_clock_was_ahead(client, clock, end, status):
    """What had expired by a clock that was ahead does not live again when it is put right."""
    stolen = token_of(client.register())
    clock.move(259_200 - 1_800)
    clock.move(3_600)
    current = token_of(client.log_in())

    if end is None:
        answer = client.post("/logout", headers={"Cookie": f"jwt={stolen}"})
    else:
        method, path, *body = end
        change = {"current_password": USER["password"], "new_password": "another password"}
        path = path.format(public_id(stolen))
        answer = client.request_as(current, method, path, *body or [change])

    assert answer.status_code == status
    assert answer.json.get("ended", 0) == 0
    assert ("session_revoked", public_id(stolen)) not in client.events("event", "session_id")
    clock.move(-3_600)
    assert client.get_as(stolen).status_code == 401


def test_whether_there_are_any(client, clock):
    """Whether a new key ends somebody's session: an expired one does not count."""
    sessions = Sessions(client.app.core)
    assert not sessions.exist()
    client.register()
    assert sessions.exist()
    clock.move(259_200)
    assert not sessions.exist()


def test_a_user_who_is_let_in_again(client, token):
    """Their old sessions have ended."""
    client.query("UPDATE users SET disabled_at = 1")
    client.query("UPDATE users SET disabled_at = NULL")

    assert client.get_as(token).status_code == 401
    assert client.get_as(token_of(client.log_in())).status_code == 200


def test_most_sessions(make_client, clock):
    """One session too many ends the longest unused; an expired one counts for nothing."""
    client = make_client(max_sessions=3)
    oldest = token_of(client.register())
    unused, middle = (token_of(client.log_in()) for _ in range(2))
    clock.move(3_600)
    assert client.get_as(oldest).cookies["jwt"].value
    assert client.get_as(middle).cookies["jwt"].value

    newest = token_of(client.log_in())

    assert [client.get_as(token).status_code for token in (oldest, unused, middle, newest)] == [
        200,
        401,
        200,
        200,
    ]
    assert ("session_revoked", public_id(unused)) in client.events("event", "session_id")


@pytest.mark.parametrize("most", [1, 2, 4])
def test_most_sessions_is_a_setting(make_client, most):
    """The newest sessions of a user stay, and another user's."""
    client = make_client(max_sessions=most)
    tokens = [token_of(client.register()), *(token_of(client.log_in()) for _ in range(most))]
    other = token_of(client.register(**OTHER))

    statuses = [client.get_as(each).status_code for each in [*tokens, other]]
    assert statuses == [401] + [200] * (most + 1)


# Renewal


def test_renewal(client, token, clock):
    """A token of an hour is renewed, not a second before: a new cookie, and the expiry moves."""
    clock.move(3_599)
    assert "set-cookie" not in client.get_as(token).headers

    clock.move(1)
    answer = client.get_as(token)
    newer = token_of(answer)

    assert answer.cookies["jwt"].max_age == 259_200
    assert clock.now + 259_200 == claims_of(newer)["exp"]
    assert claims_of(token)["sid"] == claims_of(newer)["sid"]
    assert "set-cookie" not in client.get_as(newer).headers
    (session,) = client.sessions_of(newer)
    assert session["last_seen_at"] == "Tue, 16 Aug 2022 11:21:29 GMT"
    assert session["expires_at"] == "Fri, 19 Aug 2022 11:21:29 GMT"


def test_renewal_each_hour(client, token, clock):
    """Whatever time it is, a session is renewed each hour, by one of two requests at once."""
    sessions, caller = Sessions(client.app.core), Caller("", "", "")
    claims = client.tokens.read(token, clock.now)
    for _ in range(48):
        clock.move(3_600)
        session = sessions.authenticate(claims, clock.now)
        claims = sessions.renew(session, claims, caller, clock.now).claims
        assert sessions.renew(session, claims, caller, clock.now) is None


def test_older_token_stays_good(client, token, clock):
    """After a renewal the older token works to its own end, and gets the newer one each time."""
    clock.move(3_600)
    newer = token_of(client.get_as(token))
    clock.move(100)

    again = client.get_as(token)
    assert newer == token_of(again)
    assert again.cookies["jwt"].max_age == 259_100
    clock.move(259_200 - 3_700 - 1)
    assert client.get_as(token).status_code == 200
    clock.move(1)
    assert client.get_as(token).status_code == 401
    assert client.get_as(newer).status_code == 200


def test_idle_limit(client, token, clock):
    """A session ends when it was idle for its lifetime, a second before it does not."""
    clock.move(3_600)
    newer = token_of(client.get_as(token))
    clock.move(259_199)
    kept = token_of(client.get_as(newer))
    clock.move(259_200)

    assert client.get_as(kept).status_code == 401


def test_absolute_limit(client, token, clock):
    """A session that is always in use ends after 30 days, to the second."""
    start = clock.now
    while clock.now < start + 2_592_000 - 43_200:
        clock.move(43_200)
        answer = client.get_as(token)
        assert answer.status_code == 200
        token = token_of(answer)
    assert answer.cookies["jwt"].max_age == 43_200

    clock.move(43_199)
    answer = client.get_as(token)
    assert (answer.status_code, answer.cookies["jwt"].max_age) == (200, 1)
    clock.move(1)
    assert client.get_as(token_of(answer)).status_code == 401
    assert client.log_in().status_code == 200


def test_renewal_is_a_setting(make_client, clock):
    """The time to a renewal and the absolute limit are settings."""
    client = make_client(session_lifetime=100, session_max_lifetime=150, session_renew_after=10)
    token = token_of(client.register())
    clock.move(9)
    assert "set-cookie" not in client.get_as(token).headers
    clock.move(1)
    assert client.get_as(token).cookies["jwt"].max_age == 100
    clock.move(80)
    assert client.get_as(token).cookies["jwt"].max_age == 60


def test_renewal_writes_once(client, token, clock):
    """However many requests come, a session is written to once an hour."""
    clock.move(3_600)
    statements = trace(client)

    newest = {token_of(client.get_as(token)) for _ in range(20)}

    assert len(newest) == 1
    assert sum(statement.startswith("SELECT sessions") for statement in statements) == 20
    assert sum(statement.startswith("UPDATE") for statement in statements) == 1
    assert sum(statement.startswith("BEGIN") for statement in statements) == 1
    assert client.events().count("session_renewed") == 1
    clock.move(3_600)
    client.get_as(token)
    assert client.events().count("session_renewed") == 2


def trace(client):
    """The statements that the test's own connection runs from now on, without leading comments."""
    statements = []
    client.app.core.database.connection.set_trace_callback(
        lambda text: statements.append(re.sub(r"^(--.*\n)+", "", text))
    )
    return statements


def test_renewal_of_many_at_once(make_app, clock):
    """Sixteen requests with one old token, on threads and in the loop: all pass, one write."""
    app = make_app()
    with running(app) as port:
        url = f"http://127.0.0.1:{port}"
        token = request(f"{url}/register", USER)[2]["Set-Cookie"].partition(";")[0]
        clock.move(3_600)
        statuses, tokens, begin = [], set(), threading.Barrier(16)

        def ask(path):
            begin.wait()
            status, _, headers = request(url + path, Cookie=token)
            statuses.append(status)
            tokens.add((headers["Set-Cookie"] or "").partition(";")[0])

        threads = [
            threading.Thread(target=ask, args=(path,)) for path in ["/user", "/sessions"] * 8
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert statuses == [200] * 16
        assert len(tokens - {""}) == 1
        assert request(f"{url}/user", Cookie=tokens.pop() or tokens.pop())[0] == 200
        events = [
            entry["event"] for entry in request(f"{url}/user/activity", Cookie=token)[1]["activity"]
        ]
        assert events.count("session_renewed") == 1


def test_renewal_by_bearer(client, token, clock):
    """A client that sends the token in a header finds the newer one in Set-Cookie too."""
    clock.move(3_600)

    answer = client.simulate_get("/user", headers={"Authorization": f"Bearer {token}"})

    assert client.get_as(token_of(answer)).status_code == 200


def test_renewal_follows_the_client(client, token, clock):
    """The session's address and client are those of its last renewal."""
    clock.move(3_600)
    headers = {"Cookie": f"jwt={token}", "User-Agent": "other"}
    client.simulate_get("/user", headers=headers, remote_addr="192.0.2.9")

    (session,) = client.sessions_of(token)
    assert (session["ip"], session["user_agent"]) == ("192.0.2.9", "other")


def test_revoked_session_is_not_renewed(client, token, clock):
    """Neither an old token of a session that has ended nor an expired one is renewed."""
    client.request_as(token, "POST", "/logout")
    clock.move(3_600)

    answer = client.get_as(token)

    assert answer.status_code == 401
    assert deletes_cookie(answer)


def test_renewal_that_cannot_write(client, token, clock, caplog):
    """A session check is answered also where the renewal cannot be written, and says so once."""
    clock.move(3_600)
    with client.app.core.database.writer_lock.hold(0):
        answer = client.get_as(token)

    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert caplog.messages == ["a session was not renewed: other threads kept on writing"]
    assert client.get_as(token).cookies["jwt"].value


def test_clock_back(client, token, clock):
    """A clock that was set back ends no session, and renews none."""
    clock.move(-86_400)

    answer = client.get_as(token)

    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers


def test_clock_back_after_a_renewal(client, token, clock):
    """An older token is still changed for the newest, which was given in what is the future now."""
    clock.move(7_200)
    newest = token_of(client.get_as(token))
    clock.move(-3_600)

    assert token_of(client.get_as(token)) == newest


# More processes, more threads


def test_two_processes(tmp_path):
    """A session that one process ends is dead in the other at its next request."""
    with (
        process(tmp_path, AUTHAPI_PUBLIC_URL="http://localhost:1") as (_, one),
        process(tmp_path, AUTHAPI_PUBLIC_URL="http://localhost:1") as (_, two),
    ):
        first = request(f"{one}/register", USER)[2]["Set-Cookie"].partition(";")[0]
        second = request(
            f"{two}/login", {"usernameOrEmail": USER["email"], "password": USER["password"]}
        )[2]["Set-Cookie"].partition(";")[0]
        for url in (one, two):
            assert request(f"{url}/user", Cookie=first)[0] == 200
            assert request(f"{url}/user", Cookie=second)[0] == 200

        assert request(f"{one}/sessions", method="DELETE", Cookie=first)[0] == 200
        assert request(f"{two}/user", Cookie=second)[0] == 401
        assert request(f"{two}/user", Cookie=first)[0] == 200
        assert request(f"{two}/logout", {}, Cookie=first)[0] == 200
        assert request(f"{one}/user", Cookie=first)[0] == 401


def test_no_answer_after_a_revocation(make_app):
    """Sixteen clients hammer a session while it is revoked: no 200 to what began after that."""
    app = make_app()
    with running(app) as port:
        url = f"http://127.0.0.1:{port}"
        login = {"usernameOrEmail": USER["username"], "password": USER["password"]}
        owner = request(f"{url}/register", USER)[2]["Set-Cookie"].partition(";")[0]
        for _ in range(3):
            token = request(f"{url}/login", login)[2]["Set-Cookie"].partition(";")[0]
            revoked, answers, late = threading.Event(), threading.Semaphore(0), []

            def hammer(token=token, revoked=revoked, answers=answers, late=late):
                get = f"GET /user HTTP/1.1\r\nHost: x\r\nCookie: {token}\r\n\r\n".encode()
                with connected(port) as connection:
                    began_after = False
                    while not began_after:
                        began_after = revoked.is_set()
                        connection.sendall(get)
                        status = answered(connection)
                        answers.release()
                    late.append(status)

            threads = [threading.Thread(target=hammer) for _ in range(16)]
            for thread in threads:
                thread.start()
            for _ in range(100):
                answers.acquire()
            assert request(f"{url}/sessions", method="DELETE", Cookie=owner)[0] == 200
            revoked.set()
            for thread in threads:
                thread.join()

            assert late == [401] * 16


def answered(connection):
    """Read one answer of a kept connection; give its status."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65_536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"Content-Length: (\d+)", head)[1])
    while len(body) < length:
        body += connection.recv(65_536)
    return int(head.split()[1])


# The race of a login with a change of its credential


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET disabled_at = 1",
        "DELETE FROM users",
        "UPDATE users SET password_hash = 'x', password_version = 2",
    ],
)
def test_login_that_a_change_overtook(client, token, monkeypatch, statement):
    """Who was disabled, deleted, or got another password while hashing is not logged in."""
    passwords = client.app.core.passwords
    verify = type(passwords).verify

    def overtaken(self, *arguments, **options):
        verdict = verify(self, *arguments, **options)
        client.query(statement)
        return verdict

    monkeypatch.setattr(type(passwords), "verify", overtaken)
    answer = client.log_in()

    assert (answer.status_code, answer.json["error"]) == (401, "invalid_credentials")
    assert client.events()[-1] == "login_failed"


@pytest.mark.parametrize(
    "change",
    [
        ("PATCH", "/user", {"username": "renamed"}),
        ("DELETE", "/user", None),
        ("DELETE", "/user", {"password": USER["password"]}),
        ("DELETE", "/sessions", None),
        ("DELETE", "/sessions/{}", None),
        (
            "PUT",
            "/user/password",
            {"current_password": USER["password"], "new_password": "a new word"},
        ),
        ("POST", "/sessions/reauthenticate", {"password": USER["password"]}),
        ("POST", "/logout", {"everywhere": True}),
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        "DELETE FROM sessions WHERE id = 1",
        "UPDATE sessions SET id_hash = replace(hex(zeroblob(32)), '00', 'ab') WHERE id = 1",
        "DELETE FROM users",
    ],
)
def test_change_that_the_end_overtook(make_client, monkeypatch, end, change):
    """Whose session ends while its change waits for its turn to write changes nothing any more."""
    client = make_client(rate_limits="off")
    token, other = token_of(client.register()), token_of(client.log_in())
    target = client.sessions_of(other)[0]["id"]
    patiently = SQLiteDatabase._patiently

    def overtaken(database, begin, deadline):
        client.query(end)
        return patiently(database, begin, deadline)

    monkeypatch.setattr(SQLiteDatabase, "_patiently", overtaken)
    method, path, body = change
    result = client.request_as(token, method, path.format(target), body)

    assert (result.status_code, result.json["error"]) == (401, "invalid_token")
    assert client.events() == ["registered", "logged_in"]
    if "users" not in end:
        assert client.get_as(other).json["user"]["username"] == USER["username"]


def earlier(path, number, *statements):
    """A database as so many migrations leave it, with a user."""
    database = opened(path, until=number)
    with database.transaction():
        insert_user(database, "a")
        for statement in statements:
            database.connection.execute(*statement)
    database.close()


def test_migration_keeps_sessions(tmp_path, make_client, clock):
    """A session of a release before the list goes on, with what is known of it."""
    secret, now = "s" * 43, int(clock.now)
    values = (hashlib.sha256(secret.encode()).digest(), now - 60, now + 60)
    earlier(tmp_path / "authapi.db", 2, ("INSERT INTO sessions VALUES (?, 1, ?, ?)", values))

    client = make_client()
    claims = Claims(id=1, username="a", sub="1", iat=now, exp=now + 60, sid=secret)
    (session,) = client.sessions_of(client.tokens.issue(claims))

    assert session["created_at"] == session["last_seen_at"] == "Tue, 16 Aug 2022 10:20:29 GMT"
    assert (session["ip"], session["user_agent"], session["current"]) == ("", "", True)


@pytest.mark.parametrize("disabled_at", [None, 1])
def test_migration_ends_sessions_of_the_disabled(tmp_path, make_client, disabled_at):
    """Nobody who was locked out before comes back with an old session when they are let in."""
    earlier(
        tmp_path / "authapi.db",
        5,
        ("INSERT INTO sessions VALUES (1, ?, 1, 0, 0, 0, 1000000000000, '', '')", ("a" * 64,)),
        ("UPDATE users SET disabled_at = ?", (disabled_at,)),
    )

    assert len(make_client().query("SELECT * FROM sessions")) == (disabled_at is None)


# What waits, and what must not


def test_renewals_hold_nobody_up(make_app, clock, monkeypatch):
    """While the writer lock is held, renewals wait on threads; the loop goes on with the others."""
    monkeypatch.setattr("authapi.features.sessions.RENEWAL_PATIENCE", 60)
    app = make_app()
    with running(app) as port:
        url = f"http://127.0.0.1:{port}"
        old = request(f"{url}/register", USER)[2]["Set-Cookie"].partition(";")[0]
        clock.move(3_600)
        young = request(f"{url}/register", OTHER)[2]["Set-Cookie"].partition(";")[0]
        answers, threads = [], []
        with app.core.database.writer_lock.hold(0):
            for path in ("/user", "/", "/user"):
                thread = threading.Thread(
                    target=lambda path=path: answers.append(request(url + path, Cookie=old))
                )
                thread.start()
                threads.append(thread)
            for _ in range(20):
                for path in ("/user", "/", "/verify"):
                    assert request(url + path, Cookie=young)[0] == 200
            assert request(f"{url}/verify", Cookie=old)[0] == 200
            assert answers == []
        for thread in threads:
            thread.join()

    assert [status for status, *_ in answers] == [200] * 3
    assert any(headers["Set-Cookie"] for *_, headers in answers)


def test_renewals_are_not_patient(client, token, clock, monkeypatch):
    """A renewal waits for the writer lock a moment; other changes wait longer."""
    waits, hold = [], WriterLock.hold

    def spy(writer_lock, deadline):
        waits.append(deadline)
        return hold(writer_lock, deadline)

    monkeypatch.setattr(WriterLock, "hold", spy)
    monkeypatch.setattr("authapi.database.sqlite.database.time.monotonic", lambda: 0.0)
    clock.move(3_600)
    client.get_as(token)
    client.request_as(token, "POST", "/logout", {"everywhere": True})

    assert waits == [RENEWAL_PATIENCE, LOCK_TIMEOUT]
    assert RENEWAL_PATIENCE < 0.1


@pytest.mark.parametrize("path", ["/", "/user", "/verify"])
def test_checks_are_quick(client, path):
    """What checks a session is answered in the server's loop, and what lists them is not."""
    assert client.app.inline.takes("GET", path)
    assert not client.app.inline.takes("POST", path)
    assert not client.app.inline.takes("GET", "/sessions")


def test_renewal_where_writers_are_stuck(client, token, clock, monkeypatch):
    """While another program keeps writers waiting, a check is answered in the loop, unrenewed."""
    clock.move(3_600)
    in_the_loop = {IN_LOOP: True}
    with pytest.raises(HandOver):
        client.get_as(token, extras=in_the_loop)

    monkeypatch.setattr(WriterLock, "is_stuck", True)
    answer = client.get_as(token, extras=in_the_loop)
    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
    monkeypatch.undo()
    assert token_of(client.get_as(token))


def test_pipelined_renewal(make_app, clock):
    """A request that is handed over keeps its place among those that came with it."""
    with running(make_app()) as port:
        url = f"http://127.0.0.1:{port}"
        old = request(f"{url}/register", USER)[2]["Set-Cookie"].partition(";")[0]
        clock.move(3_600)
        get = f"Host: x\r\nCookie: {old}\r\n"
        received = exchange(
            port,
            (
                f"GET /user HTTP/1.1\r\n{get}\r\nHEAD /user HTTP/1.1\r\n{get}\r\n"
                f"GET /nowhere HTTP/1.1\r\n{get}\r\n"
                f"GET /verify HTTP/1.1\r\n{get}Connection: close\r\n\r\n"
            ).encode(),
        )

    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200", b"404", b"200"]
    assert received.count(b"Set-Cookie: jwt=") == 2


def test_longest_unused_of_one_second(make_client):
    """Among sessions last used in the same second, the earliest login goes first."""
    client = make_client(max_sessions=3)
    tokens = [token_of(client.register())] + [token_of(client.log_in()) for _ in range(4)]

    assert [client.get_as(token).status_code for token in tokens] == [401, 401, 200, 200, 200]
    assert client.events("event", "user_id", "session_id")[3::2] == [
        ("session_revoked", 1, public_id(token)) for token in tokens[:2]
    ]


def test_shorter_lifetimes(make_app, clock):
    """Shorter limits hold for a session that is there from its next renewal."""
    token = token_of(Client(make_app()).register())
    client = Client(make_app(session_lifetime=60, session_max_lifetime=7_200))
    clock.move(3_600)

    answer = client.get_as(token)
    assert answer.cookies["jwt"].max_age == 60
    clock.move(60)
    assert client.get_as(token).status_code == 401


@pytest.mark.parametrize("limit", [60, 3_600])
def test_absolute_limit_made_shorter(make_app, clock, limit):
    """A session as old as a limit that was made shorter, or older, ends with its next renewal."""
    token = token_of(Client(make_app()).register())
    client = Client(make_app(session_lifetime=60, session_max_lifetime=limit))
    clock.move(3_600)

    answer = client.get_as(token)
    assert answer.status_code == 401
    assert deletes_cookie(answer)
    assert client.get_as(token, "/verify").status_code == 401


def test_rotation_past_the_absolute_limit(make_app, clock):
    """A session older than a limit that was made shorter ends also where it gets a new token."""
    earlier = Client(make_app())
    token = token_of(earlier.register())
    clock.move(3_600)
    token = token_of(earlier.get_as(token))
    client = Client(make_app(session_lifetime=60, session_max_lifetime=60))

    answer = client.request_as(
        token, "POST", "/sessions/reauthenticate", {"password": USER["password"]}
    )

    expires = answer.cookies["jwt"].expires
    assert (answer.status_code, expires.year) == (200, 1970)
    assert client.get_as(token_of(answer)).status_code == 401


def test_expired_while_it_was_renewed(client, token, clock):
    """What has expired by the time of the write is neither renewed nor rotated."""
    sessions = Sessions(client.app.core)
    claims = client.tokens.read(token, clock.now)
    session = sessions.authenticate(claims, clock.now)
    clock.move(259_200)

    assert sessions.renew(session, claims, Caller("", "", ""), clock.now) is None
    with pytest.raises(InvalidToken), client.app.core.database.transaction():
        sessions.rotate(session)


def test_rotation_counts_as_use(client, token, clock):
    """A session that was given a new token was seen then."""
    clock.move(1_800)
    newer = token_of(
        client.request_as(token, "POST", "/sessions/reauthenticate", {"password": USER["password"]})
    )
    clock.move(3_599)

    assert "set-cookie" not in client.get_as(newer).headers
    assert client.sessions_of(newer)[0]["last_seen_at"] == "Tue, 16 Aug 2022 10:51:29 GMT"


def test_tokens_are_not_shown(client, token, clock):
    """What a traceback may show of a new token is not enough to use it."""
    claims = client.tokens.read(token, clock.now)

    shown = repr(Issued(claims, token, 1))

    assert token not in shown
    assert claims.sid not in shown


def test_what_is_lost_is_not_logged(make_client, monkeypatch, caplog):
    """A change that is undone leaves no line in the log, as it leaves no entry in the audit log."""
    caplog.set_level("INFO")
    client = make_client(max_sessions=1)
    client.register()
    kind = type(client.app.core.passwords)
    verify = kind.verify

    def overtaken(self, *arguments, **options):
        verdict = verify(self, *arguments, **options)
        client.query("UPDATE users SET disabled_at = 1")
        return verdict

    monkeypatch.setattr(kind, "verify", overtaken)

    assert client.log_in().status_code == 401
    assert "session_revoked" not in caplog.text
    assert client.events() == ["registered", "login_failed"]
    assert "login_failed" in caplog.text
