"""The service as a process: its start, its end, and real clients."""

import http.cookiejar
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import RUN, USER, ask_again, connected, process, request, start

import authapi

NOHUP = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, sys.argv[1]])
"""


def refused(folder, *arguments, **environ):
    """Start the service where it must refuse; give its exit status and what it said."""
    service = start(folder, *arguments, **environ)
    output, error = service.communicate()
    assert output == ""
    return service.returncode, error


@pytest.mark.parametrize("run", [(RUN,), (RUN.name,), ("-m", "authapi", "serve")])
def test_start(tmp_path, run):
    """A start says one line, makes database and keys, and answers; SIGTERM ends it with 0."""
    if run == (RUN.name,):
        shutil.copytree(RUN.parent / "authapi", tmp_path / "authapi")
        shutil.copytree(RUN.parent / "sql", tmp_path / "sql")
        shutil.copy(RUN, tmp_path)
    service = start(tmp_path, run=run, AUTHAPI_HASH_SLOTS="2")

    line = service.stdout.readline()
    port = int(re.search(r":(\d+)", line)[1])
    status, _, headers = request(f"http://127.0.0.1:{port}/user")
    service.send_signal(signal.SIGTERM)
    output, error = service.communicate()

    expected = (
        f"authapi listens on http://127.0.0.1:{port}, database {tmp_path}/authapi.db, "
        f"SQLite {sqlite3.sqlite_version}, "
        "memory up to 122 MiB (120 + 1 worker x 2 hash slots x 1)\n"
    )
    assert line == expected
    assert (status, headers["Server"]) == (401, None)
    assert (output, service.returncode) == ("", 0)
    assert "are below what OWASP recommends" in error
    made = {path.name for path in tmp_path.iterdir() if path.name.startswith("authapi.db")}
    endings = ("", ".key", ".lock", ".root", ".run")
    assert made == {f"authapi.db{ending}" for ending in endings}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_interrupt(tmp_path, number):
    """Ctrl-C ends it as SIGTERM does, and so does a terminal that is closed."""
    with process(tmp_path) as (service, _):
        service.send_signal(number)
        assert service.wait() == 0


def test_nohup(tmp_path):
    """Under `nohup` it outlives its terminal."""
    with process(tmp_path, run=("-c", NOHUP, RUN)) as (service, url):
        service.send_signal(signal.SIGHUP)
        assert request(f"{url}/user")[0] == 401
        service.terminate()
        assert service.wait() == 0


def test_flags(tmp_path):
    """The flags stand before the environment."""
    url = f"sqlite:///{tmp_path}/flag.db"
    flags = ("--host", "127.0.0.1", "--database-url", url, "--public-url", "https://x.example")

    with process(tmp_path, *flags, AUTHAPI_DATABASE_URL="sqlite:///env.db") as (_, address):
        _, _, headers = request(f"{address}/user")

    assert "Strict-Transport-Security" in headers
    assert (tmp_path / "flag.db").exists()
    assert not (tmp_path / "env.db").exists()


def test_version():
    """The command tells the version of the code that it runs."""
    command = [sys.executable, "-m", "authapi", "--version"]

    assert subprocess.check_output(command, text=True) == f"authapi {authapi.__version__}\n"


def test_running_requests_finish(tmp_path):
    """A login that runs when the stop comes is answered, and kept; then the exit status is 0."""
    with process(tmp_path, AUTHAPI_ARGON2_MEMORY_KIB="65536") as (service, address):
        port = int(address.rpartition(":")[2])
        with connected(port) as connection:
            body = json.dumps(USER).encode()
            connection.sendall(
                b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
            )
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body[:-1])
            service.send_signal(signal.SIGTERM)
            connection.sendall(body[-1:])
            answer = connection.recv(65_536)
        assert service.wait() == 0

    assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
    database = sqlite3.connect(tmp_path / "authapi.db")
    assert database.execute("SELECT username FROM users").fetchall() == [(USER["username"],)]
    database.close()


def test_taken_port(tmp_path):
    """A taken port stops the start with one sentence, before anything is made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, error = refused(tmp_path, AUTHAPI_PORT=port)

    assert status == 1
    assert error == (
        f"authapi: Cannot listen on 127.0.0.1:{port} (Address already in use): "
        "stop what listens there, or set another AUTHAPI_HOST or AUTHAPI_PORT.\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("environ", "status", "says"),
    [
        ({"AUTHAPI_PORT": "x"}, 2, "AUTHAPI_PORT must be a whole number"),
        ({"AUTHAPI_SECRET": "x"}, 2, "AUTHAPI_SECRET_KEY was likely meant"),
        ({"AUTHAPI_SECRET_KEY": "short"}, 2, "AUTHAPI_SECRET_KEY has 5 bytes"),
        ({"AUTHAPI_HOST": "203.0.113.1"}, 1, "Cannot listen on 203.0.113.1"),
        ({"AUTHAPI_HOST": "no such host"}, 2, "AUTHAPI_HOST must be an IP address"),
        ({"AUTHAPI_DATABASE_URL": "sqlite:////proc/a.db"}, 1, "/proc/a.db cannot be written"),
        ({"AUTHAPI_KEY_FILE": "/proc/a.key"}, 1, "The key file /proc/a.key cannot be used"),
        ({"AUTHAPI_DATABASE_URL": f"sqlite:///{RUN}"}, 1, "is not a usable SQLite database"),
    ],
)
def test_refused_starts(tmp_path, environ, status, says):
    """A refused start is one sentence on standard error, and an exit status."""
    found, error = refused(tmp_path, **environ)

    assert (found, error.count("\n")) == (status, 1)
    assert error.startswith("authapi: ")
    assert says in error


def curl(url, jar, *options):
    command = ["curl", "-s", "-b", jar, "-c", jar, "-w", "\n%{http_code}", *options, url]
    body, _, status = subprocess.check_output(command, text=True).rpartition("\n")
    return int(status), json.loads(body)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl(tmp_path):
    """A cookie jar of curl, from registration to logout."""
    jar = tmp_path / "jar"
    json_body = ("-H", "Content-Type: application/json", "-d")
    login = json.dumps({"usernameOrEmail": USER["email"], "password": USER["password"]})
    with process(tmp_path) as (_, url):
        assert curl(f"{url}/user", jar)[0] == 401
        assert curl(f"{url}/register", jar, *json_body, json.dumps(USER))[0] == 201
        assert curl(f"{url}/user", jar)[1]["user"]["email"] == USER["email"]
        assert curl(f"{url}/logout", jar, "-X", "POST")[0] == 200
        assert curl(f"{url}/user", jar)[1]["error"] == "not_authenticated"
        assert curl(f"{url}/login", jar, *json_body, login)[0] == 200
        assert curl(f"{url}/", jar)[0] == 200
        assert "jwt" in jar.read_text()
        assert curl(f"{url}/logout", jar, "-X", "POST")[1]["user"] is None
        assert "jwt" not in jar.read_text()


def test_cookiejar(tmp_path):
    """Python's own client, from login to logout; the jar is empty after it."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    login = {"usernameOrEmail": USER["username"], "password": USER["password"]}
    with process(tmp_path) as (_, url):
        assert request(f"{url}/register", USER)[0] == 201
        assert request(f"{url}/user", opener=opener)[0] == 401
        assert request(f"{url}/login", login, opener)[0] == 200
        (cookie,) = [each for each in jar if each.name != "device"]
        assert (cookie.name, cookie.path, cookie.has_nonstandard_attr("HttpOnly")) == (
            "jwt",
            "/",
            True,
        )
        assert request(f"{url}/user", opener=opener)[1]["user"]["username"] == USER["username"]
        assert request(f"{url}/logout", {}, opener)[0] == 200
        assert [each.name for each in jar] == ["device"]
        replay = request(f"{url}/user", Cookie=f"jwt={cookie.value}")
        assert replay[1]["error"] == "invalid_token"


def test_two_processes_on_one_database(tmp_path):
    """Two processes share users, sessions and keys; what one ends is dead in the other at once."""
    with process(tmp_path) as (_, one), process(tmp_path) as (_, other):
        _, _, headers = request(f"{one}/register", USER)
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{other}/user", Cookie=cookie)[0] == 200
        assert request(f"{other}/register", USER)[1]["error"] == "username_taken"

        def hammer(url):
            statuses = []
            for status in ask_again(f"{url}/user", 100_000, Cookie=cookie):
                statuses.append(status)
                if statuses.count(401) == 10:
                    break
            return statuses

        with ThreadPoolExecutor(4) as pool:
            hammering = [pool.submit(hammer, url) for url in (one, other, one, other)]
            assert request(f"{one}/logout", {}, Cookie=cookie)[0] == 200
            assert request(f"{other}/user", Cookie=cookie)[0] == 401
            for statuses in hammering:
                results = statuses.result()
                assert results == sorted(results)  # 200s, then 401s
                assert results[-1] == 401


def test_writers_in_two_processes(tmp_path):
    """Registrations in two processes at once are all kept, each once."""
    off = {"AUTHAPI_RATE_LIMITS": "off"}
    with process(tmp_path, **off) as (_, one), process(tmp_path, **off) as (_, other):

        def register(number):
            name = f"user{number // 2}"
            body = {**USER, "username": name, "email": f"{name}@example.com"}
            while True:
                status, _, _ = request(f"{(one, other)[number % 2]}/register", body)
                if status != 503:
                    return status

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(register, range(60)))

    assert sorted(statuses) == [201] * 30 + [409] * 30
    database = sqlite3.connect(tmp_path / "authapi.db")
    assert database.execute("SELECT count(*) FROM users").fetchone() == (30,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
