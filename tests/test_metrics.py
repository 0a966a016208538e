"""Metrics: what is counted, in which worker whatever happens, and the port at which it is read."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from conftest import (
    CHEAPLY,
    USER,
    ask_again,
    connected,
    eventually,
    exchange,
    process,
    request,
    serving,
    start,
    token_of,
)
from relay import mail_settings
from worker_service import serving as workers_serving

from authapi import SettingError, Settings, StartError
from authapi.metrics import Metrics
from authapi.server.exposition import Exposition
from authapi.server.metrics_port import MOST_CONNECTIONS, MetricsPort, metrics_socket
from authapi.server.observation import Observation
from authapi.server.observer import observer_of

DOCS = Path(__file__).parent.parent / "docs"
ON = {"metrics_address": "127.0.0.1:0"}
SAMPLE = re.compile(r"^(\w+(?:\{.*\})?) (\S+)$", re.MULTILINE)
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def samples_of(text):
    """Return the numbers of an exposition by their names and labels."""
    return {name: float(value) for name, value in SAMPLE.findall(text)}


def shown(app):
    """Return the numbers of an application."""
    return samples_of(Exposition(app.core.metrics).text("")[1].decode())


@pytest.fixture(name="measured")
def _measured(make_client):
    return make_client(**ON)


def test_off(client):
    """Without the setting nothing is declared or counted, and no answer is observed."""
    client.register()

    assert client.app.core.metrics.families == {}
    assert client.app.core.metrics.loop == []
    with serving(client.app) as thread:
        assert thread.server.observers == []


def test_logins(make_client):
    """Logins count by what became of them."""
    client = make_client(**ON, login_account_limit="2/hour", login_lockout=2)
    client.register()
    client.log_in()
    client.log_in(password="wrong password")
    client.log_in(password="wrong password")
    client.log_in(password="wrong password")
    for _ in range(2):
        client.log_in("somebody")
    client.app.admission._known._places = client.app.admission._others._places = 0
    client.log_in()

    outcomes = ("ok", "refused", "locked", "limited", "overloaded")
    found = [shown(client.app)[f'authapi_logins_total{{outcome="{each}"}}'] for each in outcomes]
    assert found == [1, 4, 1, 0, 1]
    assert shown(client.app)['authapi_limited_total{limit="login-account"}'] == 1
    assert shown(client.app)["authapi_hash_refused_total"] == 1


def test_registrations(make_client):
    """Registrations count by what became of them."""
    client = make_client(**ON, registration_limit="2/hour")
    client.register(password="short")
    client.register()
    client.register()
    client.register(username="another", email="another@example.com")

    found = shown(client.app)
    assert found['authapi_registrations_total{outcome="ok"}'] == 1
    assert found['authapi_registrations_total{outcome="refused"}'] == 2
    assert found['authapi_registrations_total{outcome="limited"}'] == 1


def test_sessions(measured, clock):
    """Sessions count as they are opened, renewed, ended and revoked, once that is committed."""
    token = token_of(measured.register())
    measured.log_in()
    clock.move(3_601)
    measured.get_as(token)
    measured.reauthenticate(token)
    fresh = token_of(measured.log_in())
    measured.request_as(fresh, "DELETE", "/sessions")
    measured.request_as(fresh, "POST", "/logout")

    found = shown(measured.app)
    counts = {
        word: found[f'authapi_sessions_total{{event="{word}"}}']
        for word in ("opened", "renewed", "revoked", "ended")
    }
    assert counts == {"opened": 3, "renewed": 1, "revoked": 2, "ended": 1}


def test_the_database(measured, path):
    """Changes are measured, and what the database refuses counts by its cause."""
    measured.register()
    assert shown(measured.app)["authapi_db_write_seconds_count"] >= 2
    assert shown(measured.app)["authapi_db_write_wait_seconds_count"] >= 2
    assert shown(measured.app)["authapi_db_bytes"] > 4_096
    moved = path.rename(path.with_name("moved.db"))
    measured.app.maintain()
    measured.log_in()
    moved.rename(path)

    assert shown(measured.app)['authapi_db_unavailable_total{cause="replaced"}'] == 1


@pytest.fixture(name="path")
def _path(measured):
    return measured.app.core.database.path


def test_requests(measured):
    """Requests count by the route's template, method and status; their times by route."""
    with observed(measured.app) as port:
        url = f"http://127.0.0.1:{port}"
        for _ in range(3):
            request(f"{url}/user")
        request(f"{url}/register", USER)
        request(f"{url}/sessions/7", method="DELETE")
        request(f"{url}/secret-in-a-path?secret-in-a-query")
        request(f"{url}/user", method="BREW")
        exchange(port, b"nonsense\r\n\r\n")
        for path in ("/livez", "/readyz"):
            request(f"{url}{path}")

    found = shown(measured.app)
    counted = {
        tuple(re.findall(r'"(.*?)"', name)): value
        for name, value in found.items()
        if name.startswith("authapi_requests_total")
    }
    assert counted == {
        ("GET", "/user", "401"): 3,
        ("POST", "/register", "201"): 1,
        ("DELETE", "/sessions/{session_id}", "401"): 1,
        ("GET", "other", "404"): 1,
        ("other", "/user", "405"): 1,
        ("other", "other", "400"): 1,
    }
    assert found['authapi_request_duration_seconds_count{route="/user"}'] == 4
    assert found['authapi_request_duration_seconds_bucket{le="+Inf",route="/user"}'] == 4
    assert found['authapi_request_duration_seconds_sum{route="/user"}'] < 60
    assert not [name for name in found if "secret" in name or "livez" in name]


def test_a_failure_in_a_thread(measured):
    """A request that breaks off in a thread is not counted in the cells of the loop."""

    class Broken:
        public = True

        def on_get(self, req, resp):
            resp.stream = map(int, "x")

    measured.app.add_route("/broken", Broken())
    with observed(measured.app) as port:
        assert request(f"http://127.0.0.1:{port}/broken")[0] == 500
        count = 'authapi_requests_total{method="GET",route="/broken",status="500"}'
        eventually(lambda: shown(measured.app).get(count) == 1)
    assert not any(measured.app.core.metrics.loop)


@contextmanager
def observed(app):
    """Serve an application whose answers are observed; yield the port."""
    with serving(app) as thread:
        observer_of(app).watch(thread.server)
        yield thread.port


def test_connections(measured):
    """Open connections are a number that is read each second."""
    with observed(measured.app) as port, connected(port), connected(port):
        eventually(lambda: shown(measured.app)["authapi_connections"] == 2)


def test_blocks():
    """Each worker counts in a block of its own, and the sum is of all, also of those that ended."""
    metrics = Metrics(collects=True)
    counter = metrics.counter("authapi_things_total", "Things.")
    histogram = metrics.histogram("authapi_things_seconds", "Things.")
    metrics.gauge("authapi_things", "Things.", lambda: 5)
    counter.add(1)
    metrics.open(2)
    for worker in range(2):
        metrics.use(worker)
        metrics.wake()
        counter.add(10)
        histogram.observe(0.3)
        histogram.observe(100)
    metrics.clear_gauges(1)
    metrics.use(1)
    counter.add(10)

    found = samples_of(Exposition(metrics).text("")[1].decode())
    assert found["authapi_things_total"] == 31
    assert found["authapi_things"] == 5
    assert found["authapi_things_seconds_sum"] == pytest.approx(200.6)
    assert found['authapi_things_seconds_bucket{le="0.25"}'] == 0
    assert found['authapi_things_seconds_bucket{le="0.5"}'] == 2
    assert found['authapi_things_seconds_bucket{le="10.0"}'] == 2
    assert found["authapi_things_seconds_count"] == 4
    with pytest.raises(ValueError):
        metrics.counter("authapi_others_total", "Others.")


def test_a_name_of_two_kinds():
    """A name is of one kind and has one set of labels."""
    metrics = Metrics(collects=True)
    metrics.counter("authapi_things_total", "Things.", by="x")

    with pytest.raises(ValueError):
        metrics.counter("authapi_things_total", "Things.")
    with pytest.raises(ValueError):
        metrics.gauge("authapi_things_total", "Things.", int, by="x")


@contextmanager
def scraped(**settings):
    """Answer scrapes of a few metrics on a free port; yield the address."""
    settings = Settings(**{**ON, **settings})
    with metrics_socket(settings) as listener:
        metrics = Metrics(collects=True)
        metrics.counter("authapi_things_total", "Things.").add(7)
        MetricsPort(listener, Exposition(metrics).text).start()
        yield listener.getsockname()


def answer_to(address, message, **options):
    """Return what the metrics port answers to bytes."""
    with socket.create_connection(address[:2], timeout=30) as connection:
        connection.sendall(message)
        received = b""
        while data := connection.recv(65_536):
            received += data
    return received


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (GET, b"200"),
        (b"HEAD /metrics HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /metrics?name[]=x HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /user HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", b"405"),
        (b"\x16\x03\x01\x02\0\r\n\r\n", b"400"),
        (b"get /metrics HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/2.0\r\n\r\n", b"400"),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9_000, b"431"),
        (b"GET /metrics HTTP/1.1\r\nAccept: " + b"a/b;q=x," * 500 + b"\r\n\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\nAccept: \xff;q=1;;,,\r\n\r\n", b"200"),
    ],
)
def test_what_the_port_answers(message, status):
    """The metrics are at one path; anything else is an error, and the next scrape is answered."""
    with scraped() as address:
        received = answer_to(address, message)
        assert received.split(b" ", 2)[1] == status
        assert received.count(b"authapi_things_total 7.0") == (
            status == b"200" and not message.startswith(b"HEAD")
        )
        assert b"authapi_things_total 7.0" in answer_to(address, GET)


def test_formats():
    """A scraper that asks for OpenMetrics gets it."""
    accept = b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n"
    with scraped() as address:
        assert answer_to(address, accept).endswith(b"# EOF\n")
        assert b"text/plain; version=" in answer_to(address, GET)


def test_slow_scrapers():
    """Scrapers that send nothing, send slowly or read nothing delay no other one."""
    with scraped() as address, ExitStack() as stack:
        for number in range(1_000):
            slow = stack.enter_context(socket.create_connection(address, timeout=30))
            slow.sendall([b"", b"GET /met", GET][number % 3])
            if number % (10 * MOST_CONNECTIONS) == 0:
                assert b"authapi_things_total 7.0" in answer_to(address, GET)
        assert b"authapi_things_total 7.0" in answer_to(address, GET)


def test_ipv6():
    """The address may be IPv6."""
    with scraped(metrics_address="[::1]:0") as address:
        assert b"authapi_things_total 7.0" in answer_to(address, GET)


@pytest.mark.parametrize(
    "address",
    [
        "9464",
        ":9464",
        "127.0.0.1",
        "127.0.0.1:",
        "::1:9464",
        "[::1]",
        "[::1:9464",
        "h:99999",
        "http://127.0.0.1:9464",
        "127.0.0.1:-1",
        "a b:1",
        "127.0.0.1:٣",
        "[127.0.0.1]:1",
    ],
)
def test_a_bad_address(address):
    """An address without a host or a port is refused in a sentence with an example."""
    with pytest.raises(SettingError, match=r"AUTHAPI_METRICS_ADDRESS must be a host and a port"):
        Settings(metrics_address=address)


def test_a_port_that_is_taken():
    """A port that is taken stops the start, with the setting's name."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(StartError, match=r"set another AUTHAPI_METRICS_ADDRESS\.$"),
            metrics_socket(Settings(metrics_address=address)),
        ):
            pass


def test_the_port_of_the_service(tmp_path):
    """The service's own port is taken too, with several workers as well."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = str(free.getsockname()[1])
    service = start(
        tmp_path,
        AUTHAPI_PORT=port,
        AUTHAPI_METRICS_ADDRESS=f"127.0.0.1:{port}",
        AUTHAPI_WORKERS="2" if sys.platform == "linux" else "1",
    )

    assert "set another AUTHAPI_METRICS_ADDRESS." in service.communicate()[1]
    assert service.returncode == 1


def test_without_the_extra(tmp_path):
    """Without the library the start is refused in a sentence that names the extra."""
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from authapi.commands.cli import main; sys.exit(main(['serve']))"
    )
    service = start(tmp_path, run=("-c", program), AUTHAPI_METRICS_ADDRESS="127.0.0.1:0")

    _, errors = service.communicate()
    assert (service.returncode, errors.count("\n")) == (1, 1)
    assert errors.endswith("install the extra, as by pip install '.[metrics]' in a clone.\n")


def scrape(log):
    """Return the address that the log of a start names."""
    return re.search(r"metrics are on (http://\S+)", log)[1]


def read(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return samples_of(answer.read().decode())


def test_a_service(tmp_path):
    """The metrics have a port of their own; the public one knows nothing of them."""
    with process(tmp_path, AUTHAPI_METRICS_ADDRESS="127.0.0.1:0") as (service, url):
        address = scrape(service.stderr.readline())
        assert request(f"{url}/metrics")[0] == 404
        found = eventually(lambda: (now := read(address))["authapi_workers"] and now)
        with pytest.raises(urllib.error.HTTPError):
            read(address.replace("/metrics", "/user"))

    assert found["authapi_hash_slots"] >= 1
    assert found['authapi_process_resident_memory_bytes{worker="1"}'] > 1_000_000
    assert found["authapi_key_age_seconds"] < 600
    assert any(name.startswith("authapi_build_info{") for name in found)


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
def test_workers_that_die(tmp_path):
    """No counter falls when workers are killed and start again, whoever answers the scrape."""
    with workers_serving(tmp_path, AUTHAPI_METRICS_ADDRESS="127.0.0.1:0") as service:
        address = scrape(service.parent.stderr.readline())
        eventually(lambda: read(address)["authapi_workers"] == 2)
        name = 'authapi_requests_total{method="GET",route="/user",status="401"}'

        def shows(requests, restarts):
            found = read(address)
            assert found.get(name, 0) <= requests
            counts = found.get(name), found["authapi_worker_restarts_total"]
            return (*counts, found["authapi_workers"]) == (requests, restarts, 2)

        for killed in range(3):
            list(ask_again(f"http://127.0.0.1:{service.port}/user", 5))
            eventually(partial(shows, 5 * (killed + 1), killed))
            os.kill(max(service.workers), signal.SIGKILL)
            eventually(partial(shows, 5 * (killed + 1), killed + 1))


def test_docs_have_every_metric(make_app):
    """The page has one line for each metric, with its kind and its labels, and no other."""
    app = make_app(**ON, **mail_settings("console:"))
    Observation(app, 1, None)
    declared = {
        (name, ", ".join(f"`{each}`" for each in family.labels or worker_of(family)))
        for name, family in app.core.metrics.families.items()
    }

    page = (DOCS / "features" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(authapi_\w+)` \|[^|]*\| ?([^|]*?) ?\|", page, re.MULTILINE)
    assert sorted(declared) == sorted(rows)


def worker_of(family):
    return ("worker",) if family.kind == "worker" else ()


def test_the_text_is_kept(measured, monkeypatch):
    """A flood of scrapes does not make the text each time."""
    monkeypatch.setattr("authapi.server.exposition.KEPT_FOR", 600)
    exposition = Exposition(measured.app.core.metrics)
    first = exposition.text("")[1]
    measured.register()

    assert exposition.text("")[1] == first
    monkeypatch.setattr("authapi.server.exposition.KEPT_FOR", -1)
    assert exposition.text("")[1] != first


def test_the_last_backup(measured, path):
    """The time of the last `authapi db backup` is shown, once a job has found it."""
    name = "authapi_last_backup_timestamp_seconds"
    measured.register()
    measured.app.jobs.run_due()
    assert name not in shown(measured.app)
    began = int(time.time())
    settings = [sys.executable, "-m", "authapi", "db", "backup", str(path.with_name("copy.db"))]
    environ = {**os.environ, **CHEAPLY, "AUTHAPI_DATABASE_URL": f"sqlite:///{path}"}
    subprocess.run(settings, env=environ, check=True, capture_output=True)
    measured.query("UPDATE jobs SET due_at = 0")
    measured.app.jobs.run_due()

    assert shown(measured.app)[name] >= began


@pytest.mark.parametrize("file", ["prometheus-rules.yml", "grafana-dashboard.json"])
def test_rules_and_dashboard(measured, file):
    """Alerts and dashboard name no metric and no label that is not exposed."""
    Observation(measured.app, 1, None)
    families = measured.app.core.metrics.families
    text = (DOCS.parent / "deploy" / file).read_text()
    named = set(re.findall(r"\bauthapi_\w+", text))
    ends = ("_bucket", "_count", "_sum")
    known = {
        f"{name}{end}"
        for name, each in families.items()
        if each.kind == "histogram"
        for end in ends
    } | set(families)

    assert len(named) >= 5
    assert named <= known
    labels = {each for family in families.values() for each in family.labels} | {"le", "worker"}
    labels |= {"instance", "job", "severity"}
    used = set(re.findall(r"\{\{(\w+)\}\}", text))
    used |= {
        each.strip()
        for found in re.findall(r"(?:by|without) \(([^)]*)\)", text)
        for each in found.split(",")
    }
    assert used <= labels
    if file.endswith("json"):
        panels = json.loads(text)["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        shown_by = {name for name in families if re.search(rf"\b{name}", text)}
        assert shown_by == set(families)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_promtool(measured):
    """Prometheus's own tool finds nothing in the metrics and the alerts, which fire as tested."""
    Observation(measured.app, 1, None)
    measured.register()
    _, text = Exposition(measured.app.core.metrics).text("")
    deploy = DOCS.parent / "deploy"
    for arguments in (
        ["check", "metrics"],
        ["check", "rules", deploy / "prometheus-rules.yml"],
        ["test", "rules", deploy / "prometheus-rules-test.yml"],
    ):
        found = subprocess.run(
            ["promtool", *arguments], input=text, capture_output=True, check=False
        )
        assert (found.returncode, found.stderr) == (0, b""), found


def test_a_number_that_any_worker_sets():
    """The largest of the numbers that workers set is shown, and none before they set one."""
    metrics = Metrics(collects=True)
    latest = metrics.latest("authapi_thing_timestamp_seconds", "Things.")
    metrics.open(2)
    assert "authapi_thing" not in "".join(samples_of(Exposition(metrics).text("")[1].decode()))
    for worker, value in enumerate((70, 60)):
        metrics.use(worker)
        latest.set(value)

    found = samples_of(Exposition(metrics).text("")[1].decode())
    assert found == {"authapi_thing_timestamp_seconds": 70}
