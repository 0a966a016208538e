"""Background services: woken, prepared for a fork, and closed with the application."""

import os
import threading
from types import SimpleNamespace

import pytest
from conftest import USER, Client

from authapi.background import Background, BackgroundService


class Recorder(BackgroundService):
    """A service that writes down what is asked of it."""

    def __init__(self, name, asked, *, ends=True):
        self.name, self.asked, self.ends = name, asked, ends
        super().__init__()

    def begin(self):
        self.process = os.getpid()

    def wake(self):
        self.asked.append(("wake", self.name))

    def before_fork(self):
        self.asked.append(("before_fork", self.name))

    def close(self):
        self.asked.append(("close", self.name))
        return self.ends


@pytest.fixture(name="services")
def _services():
    asked = []
    first, last = Recorder("first", asked), Recorder("last", asked)
    background = Background()
    background.add(first, last)
    return SimpleNamespace(all=background, first=first, last=last, asked=asked)


@pytest.mark.parametrize(
    ("what", "order"),
    [("wake", ["first", "last"]), ("before_fork", ["last", "first"]), ("close", ["last", "first"])],
)
def test_order(services, what, order):
    """A service is woken after those that it uses, and ended before them."""
    getattr(services.all, what)()

    assert services.asked == [(what, name) for name in order]


def test_a_service_that_does_not_end(services):
    """If a background service does not end, its resources stay open."""
    services.last.ends = False

    services.all.close()

    assert services.asked == [("close", "last")]


def test_a_service_may_do_nothing():
    """A service that overrides nothing is woken, prepared and closed without effect."""
    service = BackgroundService()

    assert [service.wake(), service.before_fork(), service.close()] == [None, None, True]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # since Python 3.12
def test_a_forked_process_begins_anew(services):
    """A child has no threads of its parent: each service begins again there."""
    child = os.fork()
    if not child:
        os._exit(services.first.process == services.last.process == os.getpid())

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_an_application_leaves_no_thread(make_app):
    """`create_app` starts no thread, so that a server may fork after it."""
    before = set(threading.enumerate())

    make_app()

    assert set(threading.enumerate()) <= before


def test_close_ends_the_threads(make_app):
    """`close` ends the threads that hash passwords."""
    before = set(threading.enumerate())
    app = make_app()
    Client(app).post("/register", USER)
    hashing = set(threading.enumerate()) - before
    assert hashing

    app.close()

    for thread in hashing:
        thread.join(30)
    assert set(threading.enumerate()) <= before


def test_an_application_works_on_after_a_fork_was_prepared(make_client):
    """Resources that `prepare_to_fork` releases are acquired again by the next request."""
    client = make_client()
    client.register()

    client.app.prepare_to_fork()

    assert client.log_in().status_code == 200
