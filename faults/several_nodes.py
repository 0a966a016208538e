"""Check that several nodes on one PostgreSQL server behave as one service.

starts       40 nodes start at once on an empty database: all of them serve, on one schema
clocks       the clocks of two nodes are 60 s apart: a limit of 10 lets 10 wrong passwords through,
             and sessions of one node are good at the other
revocations  clients of four nodes behind nginx log in and out: no node takes an ended session, and
             none refuses a good one
connections  other programs hold all connections of the server: a node goes on with those that it
             has, one that starts says why it cannot, and all is well when they are free again

With `--control` the nodes migrate without the lock, or use their machines' clocks, or nginx keeps
answers for a second: then the script must find broken promises.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.cookies import SimpleCookie
from pathlib import Path

import psycopg

from faults.cluster import Cluster, free_port, running_cluster
from faults.harness import (
    HOST,
    PATIENCE,
    RUN,
    NoStartError,
    Service,
    conclude_all,
    launch,
    start,
)
from faults.nodes import is_ready, node_environ

STARTS, NODES, CLIENTS, ROUNDS = 40, 4, 8, 12
LIMIT, GUESSES = 10, 60
LIMITS = {
    "AUTHAPI_RATE_LIMITS": "on",
    "AUTHAPI_LOGIN_ACCOUNT_LIMIT": f"{LIMIT}/minute",
    "AUTHAPI_LOGIN_NETWORK_LIMIT": "100000/minute",
}
AWAY = "SELECT max(abs(created_at - extract(epoch FROM now()))) FROM sessions"
MOST_AWAY = 30  # seconds
CACHE = """
    proxy_cache_path {folder}/cache keys_zone=answers:1m;
    proxy_cache answers; proxy_cache_valid 200 1s; proxy_cache_key $uri$http_cookie;
    proxy_ignore_headers Cache-Control Set-Cookie Vary;
"""
SITE = """daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;
events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream authapi {{ {servers} }}
    {cache}
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://authapi; }} }}
}}
"""


def ask(
    port: int, method: str, path: str, body: dict[str, str] | None = None, token: str = ""
) -> tuple[int, str]:
    """Send a request on a connection of its own; return the status and the token that it sets."""
    headers = {"Cookie": f"jwt={token}"} if token else {}
    text = json.dumps(body) if body else None
    if body:
        headers["Content-Type"] = "application/json"
    with closing(http.client.HTTPConnection(HOST, port, timeout=PATIENCE)) as connection:
        connection.request(method, path, text, headers)
        answer = connection.getresponse()
        answer.read()
        cookies = SimpleCookie(answer.headers["Set-Cookie"] or "")
        return answer.status, cookies["jwt"].value if "jwt" in cookies else ""


def register(port: int, name: str) -> str:
    """Register a user; return the token."""
    body = {"username": name, "email": f"{name}@example.com", "password": f"{name} password"}
    return ask(port, "POST", "/register", body)[1]


def log_in(port: int, name: str, password: str = "") -> tuple[int, str]:
    """Log in; return the status and the token."""
    body = {"usernameOrEmail": name, "password": password or f"{name} password"}
    return ask(port, "POST", "/login", body)


def spoilt(fault: str) -> tuple[str, ...]:
    """Return the command of a node with a fault."""
    return (sys.executable, "-m", "faults.nodes", fault)


@contextmanager
def running(
    cluster: Cluster, folder: Path, *commands: tuple[str, ...], **environ: str
) -> Iterator[list[Service]]:
    """Run a node for each command."""
    nodes: list[Service] = []
    try:
        for command in commands:
            node = start(folder, command, **node_environ(cluster.url), **environ)
            nodes.append(node)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def starts(folder: Path, *, is_control: bool) -> Iterator[str]:
    """Start nodes at once on an empty database."""
    with running_cluster(max_connections="250") as cluster:
        command = spoilt("unlocked" if is_control else "slow")
        environ = node_environ(cluster.url)
        began = time.monotonic()
        processes = [launch(folder, command, **environ) for _ in range(STARTS)]
        try:
            lines = [process.stdout.readline() for process in processes if process.stdout]
            serving = sum("listens on" in line for line in lines)
            took = time.monotonic() - began
        finally:
            for process in processes:
                process.kill()
                process.communicate()
        print(f"starts: {serving} of {STARTS} nodes serve after {took:.1f} s")
        if serving != STARTS:
            yield f"{STARTS - serving} of {STARTS} nodes did not start"


def clocks(folder: Path, *, is_control: bool) -> Iterator[str]:
    """Let clocks differ by a minute."""
    ahead = spoilt("own-clock" if is_control else "ahead")
    with running_cluster() as cluster, running(cluster, folder, RUN, ahead, **LIMITS) as nodes:
        ports = [node.port for node in nodes]
        tokens = [register(ports[0], "alice"), *[log_in(port, "alice")[1] for port in ports]]
        pairs = itertools.product(ports, tokens)
        seen = Counter(ask(port, "GET", "/user", token=token)[0] for port, token in pairs)
        ((away,),) = cluster.query(AWAY)
        began = time.monotonic()
        guesses = Counter(
            log_in(ports[number % 2], "alice", "wrong password")[0] for number in range(GUESSES)
        )
        allowed = LIMIT + 1 + int((time.monotonic() - began) * LIMIT / 60)
    print(f"clocks: session checks {dict(seen)}, wrong passwords {dict(guesses)}")
    if set(seen) != {200}:
        yield f"sessions of the other node: {dict(seen)}"
    if away > MOST_AWAY:
        yield f"a session begins {away:.0f} s away from the server's time"
    if not LIMIT <= guesses[401] <= allowed:
        yield f"{guesses[401]} wrong passwords passed a limit of {LIMIT}"


def revocations(folder: Path, *, is_control: bool) -> Iterator[str]:
    """Log in and out behind nginx, and ask every node."""
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    with (
        running_cluster() as cluster,
        running(cluster, folder, *[RUN] * NODES) as nodes,
        nginx(folder, nodes, is_control=is_control) as port,
    ):
        direct = [node.port for node in nodes]
        threads = [
            threading.Thread(
                target=come_and_go, args=(f"user{number}", port, direct, wrong, counts)
            )
            for number in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(f"revocations: {dict(counts)}, {len(wrong)} wrong answers")
    yield from wrong
    if counts["ended sessions"] < CLIENTS * ROUNDS:
        yield "the clients did not finish"


def come_and_go(
    name: str, port: int, direct: list[int], wrong: list[str], counts: Counter[str]
) -> None:
    """Log in twice, check both sessions everywhere, let one end the other, and check again."""
    everywhere = [*direct, *[port] * len(direct)]
    register(port, name)
    for number in range(ROUNDS):
        ended, living = log_in(port, name)[1], log_in(port, name)[1]
        checks = [(where, token, 200) for where in everywhere for token in (ended, living)]
        wrong += differing(name, checks)
        how = ("POST", "/logout", ended) if number % 2 else ("DELETE", "/sessions", living)
        if ask(port, how[0], how[1], token=how[2])[0] != 200:
            wrong.append(f"{name}: {how[1]} failed")
        after = [
            (where, token, status)
            for where in everywhere
            for token, status in ((ended, 401), (living, 200))
        ]
        wrong += differing(name, after)
        counts["ended sessions"] += 1
        counts["checks"] += len(checks) + len(after)


def differing(name: str, checks: list[tuple[int, str, int]]) -> list[str]:
    """Check sessions; return the answers that are not as expected."""
    found = [(ask(port, "GET", "/user", token=token)[0], right) for port, token, right in checks]
    return [f"{name}: {status}, not {right}" for status, right in found if status != right]


@contextmanager
def nginx(folder: Path, nodes: list[Service], *, is_control: bool) -> Iterator[int]:
    """Run nginx before nodes, which it asks by turns; yield its port."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise NoStartError("there is no nginx here")
    port = free_port()
    cache = CACHE.format(folder=folder) if is_control else ""
    servers = " ".join(f"server {HOST}:{node.port} max_fails=0;" for node in nodes)
    site = folder / "nginx.conf"
    site.write_text(SITE.format(folder=folder, servers=servers, cache=cache, port=port))
    process = subprocess.Popen([program, "-p", folder, "-e", folder / "errors", "-c", site])
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError):
                ask(port, "GET", "/user")
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoStartError(f"nginx did not start: {(folder / 'errors').read_text()}")
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def connections(folder: Path, *, is_control: bool) -> Iterator[str]:  # noqa: ARG001 - has none
    """Take all connections of the server, and give them back."""
    held: list[psycopg.Connection] = []
    options = {"max_connections": "12", "superuser_reserved_connections": "0"}
    with running_cluster(**options) as cluster, running(cluster, folder, RUN) as nodes:
        port = nodes[0].port
        token = register(port, "alice")
        with suppress(psycopg.OperationalError):
            while True:
                held.append(psycopg.connect(cluster.url))
        checks = Counter(ask(port, "GET", "/user", token=token)[0] for _ in range(200))
        logins = Counter(log_in(port, "alice")[0] for _ in range(20))
        try:
            start(folder, RUN, **node_environ(cluster.url)).kill()
            yield "a node started without a connection"
        except NoStartError as error:
            said = str(error).splitlines()[-1]
        for connection in held:
            connection.close()
        deadline = time.monotonic() + PATIENCE
        while not is_ready(nodes[0]) and time.monotonic() < deadline:
            time.sleep(0.02)
        with running(cluster, folder, RUN) as others:
            after = log_in(others[0].port, "alice")[0]
    print(f"connections: {len(held)} held; checks {dict(checks)}, logins {dict(logins)}; {said}")
    if set(checks) != {200} or not set(logins) <= {200, 503}:
        yield f"without free connections: checks {dict(checks)}, logins {dict(logins)}"
    if after != 200:
        yield f"with free connections: {after}"


MODES: dict[str, Callable[..., Iterator[str]]] = {
    "starts": starts,
    "clocks": clocks,
    "revocations": revocations,
    "connections": connections,
}


CONTROLS = [mode for mode in MODES if mode != "connections"]


def run(folder: Path, mode: str, *, is_control: bool = False) -> list[str]:
    """Run one mode on a server of its own; return the broken promises."""
    try:
        return list(MODES[mode](folder, is_control=is_control))
    except NoStartError as error:
        return [str(error)]


def main() -> int:
    """Run the modes; return the exit status."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--mode", choices=MODES, action="append", help="one of them alone")
    options.add_argument("--control", action="store_true", help="with the fault of each mode")
    given = options.parse_args()
    broken = {}
    for mode in given.mode or (CONTROLS if given.control else MODES):
        with tempfile.TemporaryDirectory() as folder:
            broken[mode] = run(Path(folder), mode, is_control=given.control)
    return conclude_all(broken, is_control=given.control)


if __name__ == "__main__":
    sys.exit(main())
