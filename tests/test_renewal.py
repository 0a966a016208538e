"""Renewal: a session in use goes on, and one that is idle or too old ends."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import (
    OTHER,
    USER,
    Client,
    deletes_cookie,
    eventually,
    exchange,
    request,
    running,
    token_of,
)
from databases import overtaken
from test_sessions import claims_of

from authapi.features.renewal import PATIENCE
from authapi.inline import IN_LOOP, HandOver


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
    """A session in use is renewed each hour."""
    for _ in range(48):
        clock.move(3_600)
        newer = token_of(client.get_as(token))
        assert newer != token
        token = newer


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


@pytest.mark.sqlite("it traces SQLite")
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
    """Record the statements of the test's own connection, without leading comments."""
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


@pytest.mark.sqlite("the writer lock is SQLite's")
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


@pytest.mark.sqlite("the writer lock is SQLite's")
def test_renewals_hold_nobody_up(make_app, clock, monkeypatch):
    """While the writer lock is held, renewals wait on threads; the loop goes on with the others."""
    monkeypatch.setattr("authapi.features.renewal.PATIENCE", 60)
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


@pytest.mark.sqlite("the writer lock is SQLite's")
def test_renewals_are_not_patient(client, token, clock):
    """A renewal waits for the writer lock a moment; other changes wait longer."""
    lock = client.app.core.database.writer_lock
    clock.move(3_600)
    with ThreadPoolExecutor(1) as pool:
        with lock.hold(0):
            logout = pool.submit(client.request_as, token, "POST", "/logout", {"everywhere": True})
            eventually(lambda: lock.waiting)
            answer = client.get_as(token)
            assert not logout.done()
        assert logout.result().status_code == 200

    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
    assert PATIENCE < 0.1


@pytest.mark.sqlite("the writer lock is SQLite's")
def test_renewal_where_writers_are_stuck(client, token, clock):
    """While another program keeps writers waiting, a check is answered in the loop, unrenewed."""
    clock.move(3_600)
    in_the_loop = {IN_LOOP: True}
    with pytest.raises(HandOver):
        client.get_as(token, extras=in_the_loop)

    lock = client.app.core.database.writer_lock
    with lock.hold(0):
        eventually(lambda: lock.is_stuck)
        answer = client.get_as(token, extras=in_the_loop)
    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
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


@pytest.mark.sqlite("the writer lock is SQLite's")
def test_ended_while_it_was_renewed(client, token, clock, monkeypatch):
    """A session that has expired by the time of the write is not renewed."""
    monkeypatch.setattr("authapi.features.renewal.PATIENCE", 60)
    clock.move(3_600)
    answer = overtaken(
        client.app,
        lambda: client.get_as(token),
        lambda: client.query(f"UPDATE sessions SET expires_at = {clock.now:.0f}"),
    )

    assert "set-cookie" not in answer.headers
    assert client.get_as(token).status_code == 401
    assert client.events() == ["registered"]


def test_rotation_counts_as_use(client, token, clock):
    """A session that was given a new token was seen then."""
    clock.move(1_800)
    newer = token_of(
        client.request_as(token, "POST", "/sessions/reauthenticate", {"password": USER["password"]})
    )
    clock.move(3_599)

    assert "set-cookie" not in client.get_as(newer).headers
    assert client.sessions_of(newer)[0]["last_seen_at"] == "Tue, 16 Aug 2022 10:51:29 GMT"
