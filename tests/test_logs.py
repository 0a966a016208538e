"""The log: its forms, the ids of requests in it, the access log, and no secret at any level."""

import json
import logging
import os
import pty
import re
import sys
from pathlib import Path

import pytest
from conftest import (
    USER,
    connected,
    eventually,
    exchange,
    process,
    request,
    running,
    serving,
    start,
)

from authapi import Settings
from authapi.server.log_lines import JSONLine, TextLine, formatter, is_json
from authapi.server.observer import observer_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def record_of(text, *arguments, level=logging.INFO, **extra):
    return logging.getLogger("authapi.test").makeRecord(
        "authapi.test", level, "", 0, text, arguments, None, extra=extra
    )


def raised():
    """Return a record with a traceback."""
    record = record_of("it failed", level=logging.ERROR)
    try:
        int("two\nlines")
    except ValueError:
        record.exc_info = sys.exc_info()
    return record


def test_a_json_line():
    """A line is one JSON object with time, level, logger, message and the record's fields."""
    line = JSONLine().format(record_of("%s is\n%s", "x", 7, fields={"ip": "192.0.2.7", "n": 7}))

    assert "\n" not in line
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "info",
        "logger": "authapi.test",
        "message": "x is\\n7",
        "ip": "192.0.2.7",
        "n": 7,
    }


def test_a_traceback_in_json():
    """A traceback stands inside the object."""
    line = JSONLine().format(raised())

    assert "\n" not in line
    assert "ValueError: invalid literal" in json.loads(line)["exception"]
    assert "\n" in json.loads(line)["exception"]


@pytest.mark.parametrize("text", ["\ud800", "é\u2028", "\x1b[2J", '"\\', "\x85"])
def test_odd_text_in_json(text):
    """Text that is no UTF-8, or that ends lines elsewhere, is still one line of JSON."""
    line = JSONLine().format(record_of("%s", text, fields={"cause": text}))

    assert len(line.splitlines()) == 1 or text in "é\u2028\x85"
    assert json.loads(line)["level"] == "info"
    assert not set(json.loads(line)["message"]) & {"\x1b", "\u2028", "\x85"}


def test_priorities():
    """Under the journal each line of a record begins with its priority."""
    lines = TextLine(prioritized=True).format(raised()).split("\n")

    assert len(lines) > 3
    assert all(line.startswith("<3>") for line in lines)
    assert TextLine(prioritized=True).format(record_of("x")).startswith("<6>")
    assert not TextLine().format(record_of("x")).startswith("<")


def test_a_traceback_in_text():
    """A traceback is indented, so no line of an error's text looks like another line of the log."""
    record = raised()
    record.exc_info = (ValueError, ValueError("a\n2026-11-26T00:00:00Z INFO b\r\x1b[2J"), None)

    _, *lines = TextLine().format(record).split("\n")

    assert all(line.startswith("  ") and line.isprintable() for line in lines)
    assert r"  2026-11-26T00:00:00Z INFO b\r\x1b[2J" in lines


def test_the_journal(monkeypatch):
    """The journal is known by its stream, and JSON has no priorities."""
    found = os.fstat(2)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    assert formatter(Settings()).format(record_of("x")).startswith("<6>")
    assert formatter(Settings(log_format="json")).format(record_of("x")).startswith("{")
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
    assert not formatter(Settings()).format(record_of("x")).startswith("<")


def test_auto():
    """`auto` is text on a terminal, and JSON elsewhere."""
    parent, child = pty.openpty()
    kept = os.dup(2)
    try:
        os.dup2(child, 2)
        on_a_terminal = is_json(Settings(log_format="auto"))
        with Path(os.devnull).open("w") as null:
            os.dup2(null.fileno(), 2)
            elsewhere = is_json(Settings(log_format="auto"))
    finally:
        os.dup2(kept, 2)
        for descriptor in (kept, parent, child):
            os.close(descriptor)

    assert (on_a_terminal, elsewhere) == (False, True)


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("workers", ["1", "2"] if sys.platform == "linux" else ["1"])
def test_a_service_in_json(tmp_path, workers):
    """Each line of a service is JSON: of the parent, the workers, the start and its end."""
    environ = {"LOG_FORMAT": "json", "ACCESS_LOG": "on", "LOG_LEVEL": "debug", "WORKERS": workers}
    environ |= {"ARGON2_MEMORY_KIB": "8", "PORT_80_TCP": "tcp://10.0.0.1:80"}
    service = start(tmp_path, **{f"AUTHAPI_{name}": text for name, text in environ.items()})
    first = json.loads(service.stdout.readline())
    request(f"{first['url']}/register", USER)
    request(f"{first['url']}/nowhere")
    service.terminate()
    output, errors = service.communicate()

    lines = json_lines(errors)
    assert output == ""
    assert all({"time", "level", "logger", "message"} <= set(line) for line in [first, *lines])
    (registered,) = [line for line in lines if line.get("event") == "registered"]
    (access,) = [line for line in lines if line.get("route") == "/register"]
    assert registered["request_id"] == access["request_id"]
    assert (registered["user_id"], registered["level"]) == (1, "info")
    assert (access["method"], access["status"], access["ip"]) == ("POST", 201, "127.0.0.1")
    assert access["ms"] > 0
    (failure,) = [line for line in lines if line.get("error") == "not_found"]
    assert (failure["status"], failure["level"]) == (404, "debug")
    warnings = [line["message"] for line in lines if line["level"] == "warning"]
    assert any("OWASP" in each for each in warnings)
    assert any("Kubernetes" in each for each in warnings)  # of the settings, before there is a log


@pytest.mark.parametrize("environ", [{"AUTHAPI_HOST": "192.0.2.7"}, {"AUTHAPI_WORKERS": "many"}])
def test_a_start_that_is_refused_in_json(tmp_path, environ):
    """Why a service does not start is an object too, be it a setting or the machine."""
    service = start(tmp_path, "serve", run=("-m", "authapi"), AUTHAPI_LOG_FORMAT="json", **environ)
    _, errors = service.communicate()

    assert service.returncode in {1, 2}
    (line,) = json_lines(errors)
    assert line["message"].endswith(".")


def test_a_worker_that_crashes_in_json(tmp_path):
    """A traceback of a worker, and a warning of Python, are in an object each."""
    program = (
        "import sys, threading, warnings\n"
        "from authapi.server import process\n"
        "from authapi.commands.cli import main\n"
        "def fall(*_):\n"
        "    warnings.warn('of python')\n"
        "    thread = threading.Thread(target=lambda: 1 / 0)\n"
        "    thread.start(); thread.join()\n"
        "    raise ValueError('of a worker')\n"
        "process.listen_beside = fall\n"
        "sys.exit(main(['serve']))"
    )
    service = start(tmp_path, run=("-c", program), AUTHAPI_LOG_FORMAT="json", AUTHAPI_WORKERS="2")
    eventually(lambda: "of a worker" in service.stderr.readline())
    service.kill()
    _, errors = service.communicate()
    assert all(line.startswith("{") for line in errors.splitlines())


class Shown(logging.Handler):
    """Keeps the lines of a logger."""

    def __init__(self):
        super().__init__()
        self.setFormatter(JSONLine())
        self.lines = []

    def emit(self, record):
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture(name="access")
def _access():
    """Return the lines of the access log."""
    handler, logger = Shown(), logging.getLogger("authapi.access")
    level = logger.level
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def ask(app, *messages, **options):
    """Send messages to an observed application, each on a connection; return the answers."""
    with serving(app, **options) as thread:
        observer_of(app).watch(thread.server)
        return [exchange(thread.port, message) for message in messages]


def get(path, *lines):
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    return (head + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


def test_the_access_log(make_app, access):
    """A request has a line with its route's template and no text of a client; health has none.

    It has the request id of the answer, also where the parser refused the request.
    """
    app = make_app(access_log="on", log_level="error")
    answers = ask(
        app,
        get("/user?token=secret"),
        get("/sessions/secret"),
        get("/secret"),
        b"secret\r\n\r\n",
        b"secret / HTTP/1.1\r\nHost: x\r\n\r\n",
        get("/livez"),
        get("/readyz"),
    )

    shown = [(line["method"], line["route"], line["status"]) for line in access]
    assert shown == [
        ("GET", "/user", 401),
        ("GET", "/sessions/{session_id}", 405),
        ("GET", "other", 404),
        ("other", "other", 400),
        ("other", "other", 400),
    ]
    assert "secret" not in json.dumps(access)
    ids = [re.search(rb"X-Request-Id: ([0-9a-f]{16})\r", answer)[1] for answer in answers[:5]]
    assert [line["request_id"].encode() for line in access] == ids


def test_no_access_log(make_app, access):
    """Without the setting there is no line, and nothing observes answers."""
    app = make_app()

    assert observer_of(app) is None
    with running(app) as port:
        exchange(port, get("/user"))
    assert access == []


@pytest.mark.parametrize(
    ("lines", "request_id", "trace_id"),
    [
        (["X-Request-ID: of-the-proxy.7"], "of-the-proxy.7", None),
        ([f"traceparent: {TRACEPARENT}"], TRACE, TRACE),
        (["X-Request-ID: of-the-proxy", f"traceparent: {TRACEPARENT}"], "of-the-proxy", TRACE),
        ([f"traceparent: cc-{TRACE}-00f067aa0ba902b7-01-what-else"], TRACE, TRACE),
        ([f"traceparent: {TRACEPARENT}-more"], None, None),
        ([f"traceparent: ff-{TRACE}-00f067aa0ba902b7-01"], None, None),
        ([f"traceparent: 00-{'0' * 32}-00f067aa0ba902b7-01"], None, None),
        ([f"traceparent: 00-{TRACE}-{'0' * 16}-01"], None, None),
        ([f"traceparent: {TRACEPARENT.upper()}"], None, None),
        (["X-Request-ID: short"], None, None),
        ([f"X-Request-ID: {'x' * 65}"], None, None),
        (["X-Request-ID: with space"], None, None),
        (["X-Request-ID: a=b;user_id=1"], None, None),
        (["X-Request-ID: twofold-1", "X-Request-ID: twofold-2"], None, None),
    ],
)
def test_ids_of_a_trusted_proxy(make_app, access, lines, request_id, trace_id):
    """A trusted proxy's request id is kept, or else the id of its trace; what is odd is not."""
    app = make_app(access_log="on", trusted_proxy="127.0.0.1")
    (answer,) = ask(app, get("/user", *lines))

    (line,) = access
    assert f"X-Request-Id: {line['request_id']}\r\n".lower().encode() in answer.lower()
    assert line.get("trace_id") == trace_id
    if request_id:
        assert line["request_id"] == request_id
    else:
        assert re.fullmatch(r"[0-9a-f]{16}", line["request_id"])


def test_ids_of_a_stranger(make_app, access):
    """Nobody else's ids are kept."""
    app = make_app(access_log="on")
    ask(app, get("/user", "X-Request-ID: of-a-stranger", f"traceparent: {TRACEPARENT}"))

    (line,) = access
    assert re.fullmatch(r"[0-9a-f]{16}", line["request_id"])
    assert "trace_id" not in line


def test_ids_in_events(make_app):
    """The audit log and the line of an event have the proxy's ids; so has a refusal."""
    app = make_app(trusted_proxy="127.0.0.1", public_url="https://auth.example.com")
    body = json.dumps(USER)
    events = Shown()
    logging.getLogger("authapi.events").addHandler(events)
    logging.getLogger("authapi.events").setLevel(logging.INFO)
    try:
        with running(app) as port:
            exchange(
                port,
                f"POST /register HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                f"X-Request-ID: of-the-proxy\r\ntraceparent: {TRACEPARENT}\r\n\r\n{body}".encode(),
            )
            refused = exchange(
                port, get("/user", "X-Forwarded-Proto: http", "X-Request-ID: of-the-proxy")
            )
    finally:
        logging.getLogger("authapi.events").removeHandler(events)
        logging.getLogger("authapi.events").setLevel(logging.NOTSET)

    (line,) = events.lines
    assert (line["request_id"], line["trace_id"]) == ("of-the-proxy", TRACE)
    assert line["message"].endswith(f" request_id=of-the-proxy trace_id={TRACE}")
    database = app.core.database.connection
    assert database.execute("SELECT request_id FROM audit_log").fetchall() == [("of-the-proxy",)]
    assert b"of-the-proxy" in refused
    assert b"403" in refused


MARK = "xyzzy"
PASSWORD, ANOTHER = f"{MARK} long enough 77", f"{MARK} long enough 88"


def use_marked_secrets(url):
    """Change a password, log in and fail to, with marked texts; return the cookies that were set.

    The lockout must allow three failures.
    """
    _, _, headers = request(f"{url}/register", {**USER, "password": PASSWORD})
    login = {"usernameOrEmail": USER["username"], "password": PASSWORD}
    _, _, again = request(f"{url}/login", login)
    cookie = {"Cookie": headers["Set-Cookie"].partition(";")[0]}
    request(f"{url}/sessions/reauthenticate", {"password": f"{MARK} wrong"}, **cookie)
    change = {"current_password": f"{MARK} wrong", "new_password": ANOTHER}
    request(f"{url}/user/password", change, method="PUT", **cookie)
    change["current_password"] = PASSWORD
    _, _, changed = request(f"{url}/user/password", change, method="PUT", **cookie)
    for name in (MARK, f"{MARK}@example.com", USER["email"]):
        for _ in range(4):
            request(f"{url}/login", {"usernameOrEmail": name, "password": f"{MARK} wrong"})
    for text in (f"jwt={MARK}", f"jwt={MARK}.{MARK}.{MARK}", f"device={MARK}", MARK):
        request(f"{url}/user", Cookie=text)
        request(f"{url}/login", login, Cookie=text)
    request(f"{url}/sessions/{MARK}", method="DELETE", **cookie)
    request(f"{url}/user/activity?before={MARK}", **cookie)
    return [
        line.partition(";")[0]
        for answer in (headers, again, changed)
        for line in answer.get_all("Set-Cookie", [])
    ]


def send_marked_nonsense(port):
    """Send requests that are refused, with marked texts in each part of them."""
    url = f"http://127.0.0.1:{port}"
    request(f"{url}/register", {"username": MARK, "email": MARK, "password": MARK})
    request(f"{url}/register", {**USER, "password": MARK, MARK: MARK})
    request(f"{url}/user", Authorization=f"Bearer {MARK}")
    request(f"{url}/user", **{"X-Request-ID": f"{MARK}-{MARK}", "X-Forwarded-For": MARK})
    request(f"{url}/{MARK}?{MARK}={MARK}")
    for message in (
        f"{MARK}\r\n\r\n",
        f"{MARK} / HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /{MARK} HTTP/1.1\r\nHost: x\r\nHost: {MARK}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nCookie: {MARK * 5_000}\r\n\r\n",
        f"POST /login HTTP/1.0\r\nContent-Length: 7\r\n\r\n{{{MARK}}}",
    ):
        exchange(port, message.encode() + b"\r\n" * 2)
    with connected(port) as connection:
        connection.sendall(f"POST /login HTTP/1.1\r\nHost: {MARK}".encode())


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_in_the_log(tmp_path, form):
    """No password, token, cookie, query, path or mistyped name is in any line, at any level."""
    environ = {"LOG_FORMAT": form, "LOG_LEVEL": "debug", "ACCESS_LOG": "on", "LOGIN_LOCKOUT": "3"}
    environ = {f"AUTHAPI_{name}": text for name, text in environ.items()}
    with process(tmp_path, AUTHAPI_TRUSTED_PROXY="192.0.2.1", **environ) as (service, url):
        cookies = use_marked_secrets(url)
        send_marked_nonsense(int(url.rpartition(":")[2]))
        service.terminate()
        output, errors = service.communicate()

    log = output + errors
    assert log.count("login_failed") >= 5
    assert "DEBUG" in log or '"debug"' in log
    assert MARK not in log
    for each in cookies:
        value = each.partition("=")[2]
        assert len(value) > 100
        assert all(part not in log for part in value.split(".")[1:])
