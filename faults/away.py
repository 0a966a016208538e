"""Check that session checks end soon while a PostgreSQL server is away, and go on when it is back.

Clients check a session again and again, over kept-alive connections, on a service of two workers
with a server of its own. In each round the server is killed and started again, one of its backends
is killed, and it hangs for a while (SIGSTOP). No check may be answered by anything but 200 or 503,
none may take longer than LONGEST, and soon after the server is back all must be 200 again, without
a restart of the service. A session that was ended must be dead after each fault.

`--spoilt` serves with deadlines that nobody would wait for: then the script must find broken
promises.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from faults.cluster import DURABLE, Cluster, running_cluster, why_none
from faults.harness import HOST, PATIENCE, NoStartError, Service, conclude, parser, start

CLIENTS = 8
LONGEST = 3.0  # seconds of a check: the deadline is 1, and this machine may be busy
AWAY = 3.0  # seconds that the server hangs; it is killed for a third of it
SOON = 10.0  # seconds until all checks are answered after the server is back
USER = {"username": "crispengari", "email": "crispengari@gmail.com", "password": "crispengari"}
LOGIN = {"usernameOrEmail": USER["username"], "password": USER["password"]}
SPOILT = (sys.executable, "-m", "faults.spoilt", "patient")


class Checks(threading.Thread):
    """A client that checks a session until it is told to end; it notes statuses and seconds."""

    def __init__(self, port: int, token: str) -> None:
        """Name the service's port."""
        super().__init__(daemon=True)
        self._port, self._token = port, token
        self._told = threading.Event()
        self.seen: list[tuple[int, float]] = []  # 0 for a check without an answer

    def run(self) -> None:
        """Check again and again."""
        with closing(HTTPConnection(HOST, self._port, timeout=PATIENCE)) as connection:
            while not self._told.is_set():
                began = time.monotonic()
                try:
                    status = status_of(connection, self._token)
                except (OSError, HTTPException):
                    status = 0
                    connection.close()
                self.seen.append((status, time.monotonic() - began))
                if status != 200:
                    time.sleep(0.01)

    def stop(self) -> None:
        """End it, and wait for it."""
        self._told.set()
        self.join()


def ask(port: int, path: str, body: dict[str, str], token: str = "") -> tuple[int, str]:
    """Post a body; return the status, and the token of the answer."""
    headers = {"Content-Type": "application/json", "Cookie": f"jwt={token}"}
    with closing(HTTPConnection(HOST, port, timeout=PATIENCE)) as connection:
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        cookies = answer.headers.get_all("Set-Cookie", [])
    tokens = [each.partition(";")[0] for each in cookies if each.startswith("jwt=")]
    return answer.status, "".join(tokens).removeprefix("jwt=")


def answered(port: int, path: str, body: dict[str, str], token: str = "") -> str:
    """Post a body until the answer is 200, soon after a fault; return the token of the answer."""
    for _ in range(int(SOON / 0.1)):
        status, new_token = ask(port, path, body, token)
        if status == 200:
            return new_token
        time.sleep(0.1)
    raise NoStartError(f"{path} was not answered 200 within {SOON:.0f} s after a fault")


def status_of(connection: HTTPConnection, token: str) -> int:
    """Check a session; return the status."""
    connection.request("GET", "/user", headers={"Cookie": f"jwt={token}"})
    with connection.getresponse() as answer:
        answer.read()
        return answer.status


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait for a condition, for so many seconds at most; return whether it came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def checking(port: int, token: str) -> Iterator[list[Checks]]:
    """Run the clients while the block runs."""
    clients = [Checks(port, token) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stop()


def kill(cluster: Cluster) -> None:
    """Kill the server, and start it again after a moment."""
    cluster.kill()
    time.sleep(AWAY / 3)
    within(PATIENCE, cluster.restarted)


def kill_backend(cluster: Cluster) -> None:
    """Kill one of the connections' processes: the server then ends all, and starts anew."""
    os.kill(max(cluster.children()), signal.SIGKILL)


def hang(cluster: Cluster) -> None:
    """Let the server hang for a while."""
    with cluster.hanging():
        time.sleep(AWAY)


def run_fault(fault: Callable[[Cluster], None], cluster: Cluster, port: int) -> list[str]:
    """Run one fault while clients check; print the figures, and return what is broken."""
    name, broken = fault.__name__, []
    token, ended = answered(port, "/login", LOGIN), answered(port, "/login", LOGIN)
    answered(port, "/logout", {}, ended)
    with checking(port, token) as clients:
        time.sleep(0.5)
        fault(cluster)
        back = time.monotonic()
        all_well = within(SOON, lambda: all(each.seen[-1][0] == 200 for each in clients))
        after = time.monotonic() - back
    seen = [one for client in clients for one in client.seen]
    refusals = [seconds for status, seconds in seen if status == 503]
    longest = max(seconds for _, seconds in seen)
    print(
        f"{name:>12}: {len(seen):6,} checks, {len(refusals):5,} of them 503 (median "
        f"{statistics.median(refusals or [0]) * 1_000:.1f} ms), the longest {longest:.2f} s, "
        f"all well after {after:.2f} s",
        flush=True,
    )
    statuses = {status for status, _ in seen}
    if not statuses <= {200, 503}:
        broken.append(f"{name}: a check was answered {sorted(statuses - {200, 503})}")
    if longest > LONGEST:
        broken.append(f"{name}: a check took {longest:.2f} s")
    if not all_well:
        broken.append(f"{name}: not all checks were answered {SOON:.0f} s after the fault")
    with closing(HTTPConnection(HOST, port, timeout=PATIENCE)) as connection:
        dead = status_of(connection, ended)
    if dead == 200:
        broken.append(f"{name}: a session that was ended is alive")
    return broken


def served(folder: Path, cluster: Cluster, *, spoilt: bool) -> Service:
    """Start the service on the server."""
    environ = {
        "AUTHAPI_DATABASE_URL": cluster.url,
        "AUTHAPI_SECRET_KEY": os.urandom(32).hex(),
        "AUTHAPI_WORKERS": "2",
    }
    return start(folder, SPOILT, **environ) if spoilt else start(folder, **environ)


def main(arguments: list[str] | None = None) -> int:
    """Run the rounds; return the exit status."""
    options = parser(__doc__ or "", 3, "of each fault")
    options.add_argument("--spoilt", action="store_true", help="serve without deadlines")
    given = options.parse_args(arguments)
    reason = why_none()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    broken: list[str] = []
    with tempfile.TemporaryDirectory() as folder, running_cluster(**DURABLE) as cluster:
        service = served(Path(folder), cluster, spoilt=given.spoilt)
        try:
            ask(service.port, "/register", USER)
            for _ in range(given.rounds):
                for fault in (kill, kill_backend, hang):
                    broken += run_fault(fault, cluster, service.port)
        except NoStartError as error:
            broken.append(str(error))
        finally:
            service.process.terminate()
            service.process.communicate()
    return conclude(broken)


if __name__ == "__main__":
    sys.exit(main())
