"""Requests that the server's loop answers together read one state of the database: the newest."""

import select
import socket
from contextlib import ExitStack

import pytest
from conftest import Serving
from databases import back_up, in_a_thread, is_unavailable, look_always, replace

from authapi.server import Bounds

pytestmark = pytest.mark.sqlite("the loop reads the file itself")


class Quick:
    """Does something in the loop."""

    quick = public = True

    def __init__(self, do):
        self.on_get = lambda _req, _resp: do()


@pytest.fixture(name="together")
def _together(client):
    """Return a function that sends a request for each path at once; it returns the statuses."""
    thread = Serving(client.app, bounds=Bounds())
    with ExitStack() as held:

        def together(*paths, token):
            held.pop_all().close()
            while thread.server.active_channels:
                thread.server.turn(0)
            asked = []
            for _ in paths:
                connection = socket.create_connection(("127.0.0.1", thread.port), timeout=30)
                asked.append(held.enter_context(connection))
            while len(thread.server.active_channels) < len(paths):
                thread.server.turn(0)
            for path, connection in zip(paths, asked, strict=True):
                head = f"GET {path} HTTP/1.1\r\nHost: x\r\nCookie: jwt={token}\r\n\r\n"
                connection.sendall(head.encode())
            served = list(thread.server.active_channels)
            while len(select.select(served, [], [], 30)[0]) < len(paths):
                pass
            thread.server.turn(0)
            return [connection.recv(65_536)[9:12] for connection in asked]

        yield together
    thread.stop()
    thread.run()


def test_revoked(client, together, token):
    """A session that another thread ends after a batch is dead for all requests of the next one."""
    assert together(*["/user"] * 8, token=token) == [b"200"] * 8
    assert in_a_thread(lambda: client.request_as(token, "POST", "/logout")).status_code == 200
    assert together(*["/user"] * 8, token=token) == [b"401"] * 8


def test_change_in_a_batch(client, together, token):
    """A resource of an application may change something in the loop; what follows reads that."""
    database, done = client.app.core.database, []

    def change():
        database.after_commit(lambda: done.append("at once"))
        assert done == ["at once"]
        with database.transaction():
            database.statements("sessions").end_all()
            database.after_commit(lambda: done.append("committed"))
            assert done == ["at once"]

    client.app.add_route("/change", Quick(change))
    asked = together("/user", "/user", "/change", "/user", "/user", token=token)
    assert asked == [b"200", b"200", b"200", b"401", b"401"]
    assert done == ["at once", "committed"]


def test_replaced_in_a_batch(client, together, path, token):
    """A file that is replaced between two answers is read no more, and its log is written to it."""
    back_up(path)
    look_always(client)
    moved = path.with_name("moved.db")
    client.app.add_route("/replace", Quick(lambda: replace(path, moved)))

    asked = together("/user", "/replace", "/user", "/user", token=token)
    assert asked == [b"200", b"200", b"503", b"503"]
    assert path.with_name("authapi.db-wal").stat().st_size == 0
    assert is_unavailable(client.get_as(token))
