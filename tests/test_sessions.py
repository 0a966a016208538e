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
    connected,
    deletes_cookie,
    process,
    request,
    running,
    token_of,
)
from databases import insert_user, opened

from authapi.features.sessions import SessionRepository, Sessions
from authapi.principal import Claims, Principal
from authapi.session_tokens import Issued


def claims_of(token):
    payload = token.split(".")[1]
    return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def public_id(token):
    return hashlib.sha256(claims_of(token)["sid"].encode()).hexdigest()


@pytest.mark.sqlite("it reads the file")
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


def test_expired_sessions_are_pruned(client, token, clock):
    """A job deletes expired sessions, and no others."""
    client.log_in()
    clock.move(259_199)
    client.app.jobs.run_due()
    client.log_in()
    assert client.query("SELECT count(*) FROM sessions") == [(3,)]

    clock.move(601)
    client.app.jobs.run_due()
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]


def test_the_oldest_are_pruned_first(client, token):
    """Sessions that expired first are pruned first, a bounded number at once."""
    for number in range(120):
        client.query(
            "INSERT INTO sessions (id_hash, user_id, created_at, authenticated_at, last_seen_at,"
            " expires_at, ip, user_agent) VALUES (?, 1, 0, 0, 0, ?, '', '')",
            f"{number:064}",
            1_000 + number,
        )
    sessions = client.app.core.of(SessionRepository)

    assert sessions.prune(client.app.core.clock(), at_most=100) == 100
    expired = client.query("SELECT min(expires_at), count(*) FROM sessions WHERE expires_at < 2000")
    assert expired == [(1_100, 20)]


@pytest.mark.parametrize("path", ["/user", "/"])
@pytest.mark.sqlite("it traces SQLite")
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
    """Sessions that expired by a clock that was ahead stay expired when it is corrected."""
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
    """A new key ends somebody's session only if one has not expired."""
    rows = client.app.core.of(SessionRepository)
    assert not rows.exist(clock.now)
    client.register()
    assert rows.exist(clock.now)
    clock.move(259_200)
    assert not rows.exist(clock.now)


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


def earlier(path, number, *statements):
    """Return a database as some migrations leave it, with a user."""
    database = opened(path, until=number)
    with database.transaction():
        insert_user(database, "a")
        for statement in statements:
            database.connection.execute(*statement)
    database.close()


@pytest.mark.sqlite("a migration of SQLite's")
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
@pytest.mark.sqlite("a migration of SQLite's")
def test_migration_ends_sessions_of_the_disabled(tmp_path, make_client, disabled_at):
    """The migration deletes the sessions of disabled users."""
    earlier(
        tmp_path / "authapi.db",
        5,
        ("INSERT INTO sessions VALUES (1, ?, 1, 0, 0, 0, 1000000000000, '', '')", ("a" * 64,)),
        ("UPDATE users SET disabled_at = ?", (disabled_at,)),
    )

    assert len(make_client().query("SELECT * FROM sessions")) == (disabled_at is None)


# What waits, and what must not


@pytest.mark.parametrize("path", ["/", "/user", "/verify"])
@pytest.mark.sqlite("the loop waits for no server")
def test_checks_are_quick(client, path):
    """Session checks are answered in the server's loop, and lists of sessions are not."""
    assert client.app.inline.takes("GET", path)
    assert not client.app.inline.takes("POST", path)
    assert not client.app.inline.takes("GET", "/sessions")


def test_longest_unused_of_one_second(make_client):
    """Among sessions last used in the same second, the earliest login goes first."""
    client = make_client(max_sessions=3)
    tokens = [token_of(client.register())] + [token_of(client.log_in()) for _ in range(4)]

    assert [client.get_as(token).status_code for token in tokens] == [401, 401, 200, 200, 200]
    assert client.events("event", "user_id", "session_id")[3::2] == [
        ("session_revoked", 1, public_id(token)) for token in tokens[:2]
    ]


def test_tokens_are_not_shown(client, token, clock):
    """The text of a new token or of a principal, as in a traceback, is not enough to use it."""
    claims = client.tokens.read(token, clock.now)
    session = client.app.core.of(Sessions).authenticate(claims, clock.now)

    shown = repr((Issued(claims, token, 1), Principal(session.user, session, claims)))

    assert session.id in shown
    assert token not in shown
    assert claims.sid not in shown
