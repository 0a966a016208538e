"""Shared fixtures: a real SQLite file, cheap argon2, and a clock that tests move."""

import gc
import http.client
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import hypothesis
import pytest
from cluster import _cluster  # noqa: F401 - a fixture
from documented import check
from engines import _engine, _migrated, engines_of, query  # noqa: F401 - fixtures, too
from falcon import testing
from msgspec.structs import replace
from once import runs_once
from system_users import NOBODY

from authapi import AuthAPI, Settings, create_app, protect
from authapi.features.mail import Mails
from authapi.jobs import Pace
from authapi.server import Bounds, Server, listen
from authapi.session_tokens import SessionTokens

OTHER = {"username": "other", "email": "other@example.com", "password": "correct horse"}
USER = {"username": "crispengari", "email": "crispengari@gmail.com", "password": "crispengari"}
CHEAP = {"argon2_memory_kib": 8, "argon2_time_cost": 1, "argon2_lanes": 1}


class Clock:
    """A clock in seconds since the epoch, which stands still until a test moves it."""

    def __init__(self):
        self.now = 1_660_645_289.0  # Tue, 16 Aug 2022 10:21:29 GMT

    def __call__(self):
        return self.now

    def move(self, seconds):
        self.now += seconds


class Client(testing.TestClient):
    """Falcon's test client, which checks every exchange against PEP 3333, with our routes."""

    app: AuthAPI

    def simulate_request(self, *args, **kwargs):
        """Send a request, and check the answer against the API document."""
        result = super().simulate_request(*args, **kwargs)
        method, path, *_ = *args, kwargs.get("path", "/"), ""
        if isinstance(self.app, AuthAPI):
            template = self.app.route_of(path.partition("?")[0])
            resource, _ = self.app.resources.get(template, (None, ""))
            if not type(resource).__module__.startswith("authapi."):
                return result  # a resource of the test's own
            check(template, method, result.status_code, result.headers, result.text)
        return result

    def post(self, path, body=None, **options):
        return self.simulate_post(path, json=body, **options)

    def register(self, **fields):
        return self.post("/register", {**USER, **fields})

    def log_in(self, identifier=USER["username"], password=USER["password"], **options):
        return self.post("/login", {"usernameOrEmail": identifier, "password": password}, **options)

    def get_as(self, token, path="/user", **options):
        return self.request_as(token, "GET", path, **options)

    def request_as(self, token, method, path, body=None, headers=None, **options):
        headers = {"Cookie": f"jwt={token}", **(headers or {})}
        return self.simulate_request(method, path, json=body, headers=headers, **options)

    def reauthenticate(self, token, password=USER["password"]):
        """Return a token of the same session, now fresh."""
        body = {"password": password}
        return token_of(self.request_as(token, "POST", "/sessions/reauthenticate", body))

    def sessions_of(self, token):
        return self.get_as(token, "/sessions").json["sessions"]

    @property
    def tokens(self):
        """Return the service that issues and reads session tokens."""
        return self.app.core.of(SessionTokens)

    def events(self, *columns):
        """Return the events of the audit log, or these columns of it, oldest first."""
        shown = ", ".join(columns or ("event",))
        rows = self.query(f"SELECT {shown} FROM audit_log ORDER BY id")
        return rows if columns else [name for (name,) in rows]

    def query(self, statement, *parameters):
        """Run a statement on the database and return its rows."""
        return query(self.app.core.database, statement, parameters)


def token_of(result):
    """Return the token in an answer's session cookie."""
    return cookie_of(result, "jwt")


def cookie_of(result, name):
    """Return the value of the only cookie in an answer whose name ends with `name`."""
    (cookie,) = [value for key, value in result.cookies.items() if key.endswith(name)]
    return cookie.value


def attributes_of(result, name):
    """Return the lifetime in seconds, path, domain and flags of an answer's cookie."""
    cookie = result.cookies[name]
    flags = (cookie.http_only, cookie.same_site, cookie.secure)
    return cookie.max_age, cookie.path, cookie.domain, *flags


def parsed_cookie(line):
    """Return the name, the value and the lower-case attributes of a `Set-Cookie`.

    `max-age` is 0 if the cookie expires in the past: both delete it (RFC 6265bis, 5.5).
    """
    pair, *rest = line.split("; ")
    name, _, value = pair.partition("=")
    attributes = {key.lower(): text for key, _, text in (each.partition("=") for each in rest)}
    expires = attributes.pop("expires", None)
    if expires and parsedate_to_datetime(expires) <= datetime(2000, 1, 1, tzinfo=UTC):
        attributes.setdefault("max-age", "0")
    return name, value.strip('"'), attributes


LASTING = {"max-age": "259200", "path": "/", "httponly": "", "samesite": "Lax"}
DELETED = {**LASTING, "max-age": "0"}


def deletes_cookie(result, name="jwt", **also):
    """Return whether an answer deletes the cookie, with the attributes that it was set with."""
    line = result.headers.get("set-cookie")
    return line is not None and parsed_cookie(line) == (name, "", {**DELETED, **also})


def pytest_generate_tests(metafunc):
    """Run a test of what the service does on each engine."""
    engines = engines_of(metafunc)
    if "engine" in metafunc.fixturenames and len(engines) > 1:
        metafunc.parametrize("engine", engines, indirect=True)


def pytest_configure(config):
    """Reset signals that a background job ignores, and give Hypothesis no deadline."""
    config.addinivalue_line("markers", "sqlite(reason): a test of SQLite's own ways")
    config.addinivalue_line("markers", "once: a test that one Python may run for all")
    hypothesis.settings.register_profile("unhurried", deadline=None)
    hypothesis.settings.load_profile("unhurried")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_itemcollected(item):
    """Mark the tests that one Python may run for all."""
    if runs_once(item):
        item.add_marker("once")


def pytest_collection_finish():
    """Exclude long-lived objects from garbage collection, which each test runs."""
    gc.collect()
    gc.freeze()


@pytest.fixture(name="few_objects", scope="module", autouse=True)
def _few_objects():
    """Exclude what earlier files left for good from garbage collection, too."""
    gc.collect()
    gc.freeze()


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="make_app")
def _make_app(engine, clock):
    apps = []

    def make_app(**settings):
        values = engine.settings(**{**CHEAP, **settings})
        if "database_url" not in settings:
            engine.create_schema()
        apps.append(create_app(Settings(**values), clock=clock))
        engine.prepare(apps[-1].core.database)
        apps[-1].jobs.pace = Pace(first_look=math.inf)  # jobs run when a test asks for it
        if apps[-1].core.settings.mail_url:
            apps[-1].core.of(Mails).sender.pace = None  # and mails are sent
        return apps[-1]

    yield make_app
    for app in apps:
        app.close()
    gc.collect()  # connections of threads that have ended


@pytest.fixture(name="make_client")
def _make_client(make_app):
    return lambda **settings: Client(make_app(**settings))


@pytest.fixture(name="client")
def _client(make_client):
    return make_client()


@pytest.fixture(name="path")
def _path(client):
    """Return the path of the client's database file."""
    return client.app.core.database.path


@pytest.fixture(name="folder")
def _folder():
    """Return a directory of the unprivileged user."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


@pytest.fixture(name="token")
def _token(client):
    """Return the token of a user who has just registered."""
    return token_of(client.register())


@pytest.fixture(name="other")
def _other(client, token):
    """Return the token of another user."""
    return token_of(client.register(**OTHER))


@pytest.fixture(name="dead")
def _dead(client, token):
    """Return a token whose session has ended."""
    dead = token_of(client.log_in())
    client.request_as(dead, "POST", "/logout")
    return dead


@pytest.fixture(name="guarded")
def _guarded(engine, clock, client):
    """Return a client of `empty_application` behind `protect`, on the service's database."""
    settings = Settings(**engine.settings(**CHEAP))
    protected = protect(empty_application, settings, required=True, clock=clock)
    yield testing.TestClient(protected)
    protected.close()


def empty_application(_environ, start_response):
    """Answer 200 without a body: a WSGI application to protect."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
    return []


BOUNDS = Bounds(maintenance=0.05)


class Serving(threading.Thread):
    """A thread that serves an application on a free port until `stop`."""

    def __init__(self, app, clock=time.monotonic, bounds=BOUNDS, host="127.0.0.1"):
        super().__init__()
        listener = listen(Settings(host=host, port=0))
        self.port = listener.getsockname()[1]
        self.server = Server(app, listener, app.core.settings.threads, bounds, clock)

    def run(self):
        self.server.run()

    def stop(self):
        self.server.stop()


@contextmanager
def serving(app, clock=time.monotonic, host="127.0.0.1", **bounds):
    """Serve an application, with bounds and a monotonic clock in seconds; yield the thread."""
    thread = Serving(app, clock, replace(BOUNDS, **bounds), host)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()
        thread.join()


@contextmanager
def running(app, **options):
    """Serve an application as `serving` does; yield the port."""
    with serving(app, **options) as thread:
        yield thread.port


def eventually(condition):
    """Wait until a condition gives a true value, and return it."""
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


@contextmanager
def connected(port, source="127.0.0.1") -> Iterator[socket.socket]:
    """Open a TCP connection to the service from a loopback address."""
    place = ("127.0.0.1", port)
    with socket.create_connection(place, timeout=30, source_address=(source, 0)) as connection:
        yield connection


def exchange(port, request):
    """Send bytes, and return all bytes until the service closes the connection."""
    with connected(port) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    return received


RUN = Path(__file__).parent.parent / "run.py"
CHEAPLY = {f"AUTHAPI_{name.upper()}": str(value) for name, value in CHEAP.items()}


def unmeasured():
    """Return the environment for a process that coverage must not measure.

    Coverage imports modules, catches signals and writes files in the measured process.
    """
    return {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")
    }


def start(folder, *arguments, run=(RUN,), **environ):
    """Start the service in a folder, as a user does, and return the process."""
    return subprocess.Popen(
        [sys.executable, *run, *arguments],
        cwd=folder,
        env={**os.environ, **CHEAPLY, "AUTHAPI_PORT": "0", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def process(folder, *arguments, **options):
    """Run the service as a process; yield it and the URL of its start line."""
    service = start(folder, *arguments, **options)
    try:
        line = service.stdout.readline()
        yield service, re.search(r"http://\S+:\d+", line)[0]
    finally:
        service.kill()
        service.communicate()


def ask_again(url, count, **headers):
    """Return the statuses of many GETs on one connection, one after the other."""
    place = urllib.parse.urlsplit(url)
    with closing(http.client.HTTPConnection(place.hostname, place.port, timeout=30)) as connection:
        for _ in range(count):
            connection.request("GET", place.path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            yield answer.status


def request(url, body=None, opener=None, method=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers} if body is not None else headers
    opener = opener or urllib.request.build_opener()
    try:
        answer = opener.open(urllib.request.Request(url, data, headers, method=method))
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        return answer.status, json.loads(answer.read() or "null"), answer.headers
