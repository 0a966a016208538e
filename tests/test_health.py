"""Health: whether the process answers, and whether it can do its work."""

import sqlite3
import sys
import urllib.error
from contextlib import closing

import pytest
from conftest import (
    CHEAP,
    connected,
    eventually,
    request,
    serving,
    token_of,
)
from falcon import App, testing
from worker_service import serving as workers_serving

from authapi import Settings, mount
from authapi.database.sqlite.writer_lock import BLOCKED_AFTER
from authapi.database.watch import LOOK_EVERY

PATHS = ("/livez", "/readyz")


def reason_of(answer):
    """Return the status and the reason of an answer of /readyz."""
    return answer.status_code, answer.json.get("reason")


@pytest.mark.parametrize("path", PATHS)
def test_all_is_well(client, path):
    """Both answer everybody, with `status: ok` in the envelope, and to HEAD without a body."""
    answer = client.simulate_get(path)

    assert (answer.status_code, answer.json["status"], answer.json["code"]) == (200, "ok", 200)
    assert client.simulate_head(path).status_code == 200
    assert client.simulate_post(path).status_code == 405


@pytest.mark.parametrize("path", PATHS)
def test_the_loop_answers(make_app, path):
    """The server's loop answers, also while every thread of the pool is busy."""
    app = make_app(threads=2, hash_slots=1)

    assert app.inline.takes("GET", path)
    assert app.inline.takes("HEAD", path)


def test_a_bad_cookie(client):
    """A dead session in the request changes nothing."""
    answer = client.simulate_get("/readyz", headers={"Cookie": "jwt=dead"})

    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers


def test_a_replaced_database(client, path, monkeypatch):
    """A database file that was replaced is named; /livez goes on, and the log has no line of it."""
    moved = path.rename(path.with_name("moved.db"))
    client.app.maintain()

    answer = client.simulate_get("/readyz")
    assert (answer.status_code, answer.json["error"]) == (503, "not_ready")
    assert answer.json["reason"] == "database_replaced"
    assert answer.headers["retry-after"] == "1"
    assert client.simulate_get("/livez").status_code == 200
    moved.rename(path)
    client.app.maintain()
    assert reason_of(client.simulate_get("/readyz")) == (200, None)


def test_no_line_in_the_log(client, path, caplog):
    """Health leaves no line in the log at any level, whatever it answers."""
    path.rename(path.with_name("moved.db"))
    client.app.maintain()
    caplog.clear()
    caplog.set_level("DEBUG")

    for each in PATHS:
        client.simulate_get(each)

    assert caplog.records == []


def test_a_server_that_wakes_nothing(client, path, monkeypatch):
    """Under another server, /readyz itself looks at the file, at most once a second."""
    path.rename(path.with_name("moved.db"))
    monkeypatch.setattr("authapi.database.watch.LOOK_EVERY", -LOOK_EVERY)

    assert reason_of(client.simulate_get("/readyz")) == (503, "database_replaced")


def test_a_mounted_service(tmp_path):
    """In another application, health is under the prefix, and needs no session there either."""
    host = App()
    auth = mount(host, Settings(database_url=f"sqlite:///{tmp_path}/authapi.db", **CHEAP))
    try:
        answer = testing.TestClient(host).simulate_get("/auth/readyz")
        assert (answer.status_code, answer.json["status"]) == (200, "ok")
    finally:
        auth.close()


def test_a_probe_from_the_network_of_the_proxy(make_app):
    """A probe is answered over plain HTTP, also with an https URL and in a trusted network."""
    app = make_app(public_url="https://auth.example.com", trusted_proxy="127.0.0.1")
    with serving(app) as thread:
        base = f"http://127.0.0.1:{thread.port}"
        assert [request(f"{base}{path}")[0] for path in PATHS] == [200, 200]


def test_blocked_writes(make_client, clock):
    """Changes that wait in vain for 5 seconds are named, and forgotten with the next change."""
    client = make_client()
    token = token_of(client.register())
    lock = client.app.core.database.writer_lock
    lock._clock = client.app.core.database._clock = clock
    client.app.core.database.lock_timeout = 0
    with closing(sqlite3.connect(client.app.core.database.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            assert client.request_as(token, "POST", "/logout").status_code == 503
            clock.move(BLOCKED_AFTER)
        clock.move(-1)
        assert reason_of(client.simulate_get("/readyz")) == (503, "writes_blocked")
    assert client.request_as(token, "POST", "/logout").status_code == 200
    assert reason_of(client.simulate_get("/readyz")) == (200, None)


def test_blocked_writes_are_forgotten(client, clock):
    """Without another try, a change that waited in vain counts for 5 seconds."""
    lock = client.app.core.database.writer_lock
    lock._clock = clock
    lock._held_since = clock.now
    clock.move(BLOCKED_AFTER + 1)
    assert reason_of(client.simulate_get("/readyz")) == (503, "writes_blocked")
    lock._note_failure(clock.now)
    lock._held_since = float("inf")
    assert reason_of(client.simulate_get("/readyz")) == (503, "writes_blocked")

    clock.move(BLOCKED_AFTER + 1)

    assert reason_of(client.simulate_get("/readyz")) == (200, None)


def test_a_dead_hashing_thread(client, caplog):
    """A hashing thread that died is named, and another one takes its place within a second."""
    client.register()
    lane = client.app.core.passwords.lane
    lane._queue.end()
    eventually(lambda: not all(each.is_alive() for each in lane._threads))
    assert reason_of(client.simulate_get("/readyz")) == (503, "hashing_stopped")

    client.app.maintain()

    assert reason_of(client.simulate_get("/readyz")) == (200, None)
    assert client.log_in().status_code == 200
    assert "a hashing thread has died" in caplog.text


def test_a_drain(make_app):
    """From the stop on, /readyz says draining, and all else is answered until the drain is over.

    Each answer is the last one of its connection.
    """
    app = make_app(drain_seconds=600)
    with serving(app) as thread, connected(thread.port) as kept:
        base = f"http://127.0.0.1:{thread.port}"
        assert request(f"{base}/readyz")[0] == 200
        thread.stop()
        try:
            status, body, _ = eventually(
                lambda: (found := request(f"{base}/readyz"))[0] == 503 and found
            )
            assert (status, body["reason"]) == (503, "draining")
            assert request(f"{base}/livez")[0] == 200
            assert request(f"{base}/user")[0] == 401
            kept.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = kept.makefile("rb").read()  # until the service ends the connection
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"\r\nConnection: close\r\n" in answer
        finally:
            thread.server._drain_ends = 0
    with pytest.raises(urllib.error.URLError):
        request(f"{base}/livez")


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
def test_workers_drain(tmp_path):
    """Each worker drains: the parent waits for as long, and a second signal ends the drain."""
    with workers_serving(tmp_path, AUTHAPI_DRAIN_SECONDS="600") as service:
        service.parent.terminate()
        base = f"http://127.0.0.1:{service.port}"
        with service.each() as connections:
            for connection in connections.values():

                def drains(connection=connection):
                    connection.request("GET", "/readyz")
                    answer = connection.getresponse()
                    return b"draining" in answer.read()

                eventually(drains)
        assert request(f"{base}/livez")[0] == 200
        service.parent.terminate()
        assert service.wait_for_end()[0] == 1
