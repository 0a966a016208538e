"""The files of deploy/: the systemd unit, the compose file and the proxies."""

import http.client
import json
import re
import shutil
import ssl
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import RUN, USER, connected, eventually, process, request, running
from proxies import EXAMPLES, free_port, installed, nginx_command, proxy_running

from authapi.settings import declared_settings

DEPLOY = Path(__file__).parent.parent / "deploy"
UNIT, COMPOSE = DEPLOY / "authapi.service", DEPLOY / "compose.yaml"
HOST = "auth.example.com"
COMPOSE_COMMANDS = (["docker", "compose"], ["docker-compose"])


def run(*command):
    """Run a program; skip the test if it is not installed."""
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=False)


def has(*command):
    """Return whether a program is installed and works."""
    return bool(shutil.which(command[0])) and run(*command).returncode == 0


def directives():
    """Return the directives of the unit, with all their values."""
    found = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_is_valid(tmp_path):
    """The tool of systemd finds nothing to say about the unit."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/authapi/bin/authapi", "/bin/true"))

    done = run("systemd-analyze", "verify", "--man=no", unit)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_units_exposure():
    """By systemd's own scale the unit is hardened as well as it was."""
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=12", UNIT)

    assert done.returncode == 0, done.stdout


def group(name):
    """Return the system calls of one of systemd's groups."""
    lines = run("systemd-analyze", "syscall-filter", "--no-pager", name).stdout.splitlines()[1:]
    names = {line.strip() for line in lines} - {""}
    nested = {each for each in names if each.startswith("@")}
    return {each for each in names - nested if not each.startswith("#")}.union(
        *(group(each) for each in nested)
    )


def test_the_units_system_calls(tmp_path):
    """The unit allows what the service asks of the system, from its start to its end."""
    assert directives()["SystemCallFilter"] == ["@system-service", "~@privileged"]
    allowed = group("@system-service") - group("@privileged")
    trace = tmp_path / "trace"
    probe = run("strace", "-f", "-o", trace, "true")
    if probe.returncode:
        pytest.skip(f"strace cannot trace: {probe.stderr}")
    command = ("strace", "-f", "-qq", "-o", str(trace), sys.executable, str(RUN))
    with process(
        tmp_path,
        run=("-c", f"import os; os.execvp('strace', {command!r})"),
        AUTHAPI_WORKERS="2",
    ) as (service, url):
        assert request(f"{url}/register", USER)[0] == 201
        (traced,) = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
        subprocess.run(["kill", traced], check=True)
        service.wait(60)

    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    assert "setpriority" in used
    # As root, SQLite gives its log to the owner of the database. The unit's user is not root.
    assert used - allowed <= {"fchown"}


def test_the_compose_file_is_valid():
    """Compose reads the file, and passes empty values, which count as unset."""
    compose = next((each for each in COMPOSE_COMMANDS if has(*each, "version")), None)
    if compose is None:
        pytest.skip("compose is not installed")

    done = run(*compose, "-f", COMPOSE, "config")

    assert done.returncode == 0, done.stderr
    assert re.search(r"AUTHAPI_LOG_LEVEL: ['\"]{2}\n", done.stdout)


def test_the_files_set_settings():
    """Each variable that a file sets is a setting, or names the file of a secret one."""
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".lock"]
    names = {name for path in files for name in re.findall(r"AUTHAPI_[A-Z_]+", path.read_text())}
    settings = {f"AUTHAPI_{each.name.upper()}" for each in declared_settings()}

    assert {"AUTHAPI_PUBLIC_URL", "AUTHAPI_DATABASE_URL_FILE"} <= names
    assert {
        name for name in names - settings if name.removesuffix("_FILE") not in settings
    } == set()


def test_the_files_wait_for_a_stop():
    """Both wait longer than a stop takes; a start that is refused is not repeated."""
    assert directives()["TimeoutStopSec"] == ["12"]
    assert "stop_grace_period: 12s" in COMPOSE.read_text()
    assert directives()["RestartPreventExitStatus"] == ["2"]


HARDENED = """
automountServiceAccountToken: false
enableServiceLinks: false
fsGroupChangePolicy: OnRootMismatch
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
type: RuntimeDefault
- ALL
path: /livez
path: /readyz
"""


@pytest.mark.parametrize(("engine", "replicas"), [("sqlite", "1"), ("postgresql", "3")])
def test_the_kubernetes_manifests(engine, replicas):
    """Both kinds of pods are hardened, and only those on PostgreSQL are several."""
    done = run("kubectl", "kustomize", DEPLOY / "kubernetes" / engine)

    assert done.returncode == 0, done.stderr
    lines = {line.strip() for line in done.stdout.splitlines()}
    assert set(HARDENED.split("\n")) - {""} <= lines
    assert re.findall(r"replicas: (\d+)", done.stdout) == [replicas]
    assert ("ReadWriteOncePod" in done.stdout) == (engine == "sqlite")


def nginx(folder, upstream, port):
    """Return the command that runs nginx, its environment, and its certificate."""
    certificate = (folder / "cert.pem", folder / "cert.key")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
        + ["-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
        + ["-out", certificate[0], "-keyout", certificate[1]],
        check=True,
        capture_output=True,
    )
    site = (DEPLOY / "nginx.conf").read_text()
    for documented, ours in {
        f"/etc/ssl/certs/{HOST}.pem": str(certificate[0]),
        f"/etc/ssl/private/{HOST}.key": str(certificate[1]),
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "127.0.0.1:3001": upstream,
    }.items():
        assert documented in site
        site = site.replace(documented, ours)
    command, environ = nginx_command(installed("nginx"), folder, site)
    return command, environ, certificate[0]


def caddy(folder, upstream, port):
    """Return the command that runs Caddy, its environment, and its own authority's certificate."""
    options = (
        "{\n\tadmin off\n\tlocal_certs\n\tskip_install_trust\n\tdefault_bind 127.0.0.1\n"
        f"\thttps_port {port}\n\thttp_port {free_port()}\n}}\n"
    )
    (folder / "Caddyfile").write_text(options + (DEPLOY / "Caddyfile").read_text())
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    command = [installed("caddy"), "run", "--adapter", "caddyfile", "--config", "Caddyfile"]

    return command, homes | {"UPSTREAM": upstream}, folder / "caddy/pki/authorities/local/root.crt"


@contextmanager
def secure_connection(port, authority):
    """Connect to a proxy by its name, once it has its certificate, and verify that."""

    def opened():
        with suppress(FileNotFoundError, ssl.SSLError):  # Caddy accepts connections before
            context = ssl.create_default_context(cafile=authority)
            context.verify_flags &= (
                ~ssl.VERIFY_X509_STRICT
            )  # nginx's certificate is its own authority
            with connected(port) as plain:
                return context.wrap_socket(plain, server_hostname=HOST)
        return None

    connection = http.client.HTTPConnection(HOST)
    connection.sock = eventually(opened)
    with connection.sock:
        yield connection


@pytest.mark.parametrize("proxy", [nginx, caddy], ids=lambda proxy: proxy.__name__)
def test_a_login_through_a_proxy_with_tls(tmp_path, make_app, proxy):
    """Behind each proxy a client registers over TLS with its own address, and names no request."""
    app = make_app(trusted_proxy="127.0.0.1", public_url=f"https://{HOST}")
    port = free_port()
    with running(app) as upstream:
        command, environ, authority = proxy(tmp_path, f"127.0.0.1:{upstream}", port)
        headers = {"Content-Type": "application/json", "X-Forwarded-For": "192.0.2.1"}
        headers["X-Request-ID"] = "chosen-by-the-client"
        with (
            proxy_running(command, environ, tmp_path, port),
            secure_connection(port, authority) as connection,
        ):
            connection.request("POST", "/register", json.dumps(USER), headers)
            answer = connection.getresponse()
            answer.read()
            cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
            connection.request("GET", "/sessions", headers={"Cookie": cookie})
            sessions = json.loads(connection.getresponse().read())["sessions"]

    assert (answer.status, cookie.partition("=")[0]) == (201, "__Host-jwt")
    assert "Secure" in attributes
    assert re.fullmatch("[0-9a-f-]{32,36}", answer.headers["X-Request-ID"])
    assert [session["ip"] for session in sessions] == ["127.0.0.1"]


def test_both_nginx_files_have_the_same_tls():
    """The file of forward authentication and the plain one speak the same TLS."""
    plain, forward = (
        re.findall(r"ssl_(?!certificate).*", (folder / "nginx.conf").read_text())
        for folder in (DEPLOY, EXAMPLES)
    )

    assert plain == forward
    assert plain
