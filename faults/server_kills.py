"""Check that PostgreSQL loses no acknowledged change when it, or a node, is killed.

Two nodes share a server, and clients work on both as in faults.crash. After each kill the database
must hold exactly what was acknowledged, and the other node must answer every token and password as
it should. Of a request that got a 503 it must hold all or nothing.

server      all processes of the server are killed at once, and it is started again
backend     the process of one connection is killed; the server restarts all of them
node        a node is killed and started again; no transaction of it stays open
failover    a synchronous standby takes over after the primary was cut off from it, and killed

With `--control` the server acknowledges before it is safe (`synchronous_commit=off`, and for
failover a standby that is not synchronous): then the script must find broken promises.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from faults.accounts import Ledger
from faults.cluster import DURABLE, Cluster, running_cluster
from faults.crash import are_gone
from faults.harness import (
    PATIENCE,
    Client,
    NoStartError,
    Service,
    UnsureWriter,
    conclude_all,
    end,
    parser,
    send,
    start,
)
from faults.nodes import is_ready, node_environ
from faults.stored import Stored

WRITERS = 6
FEWEST, MOST = 40, 150  # acknowledged writes between two kills
CUT_OFF = 0.5  # seconds in which the primary works without its standby
NOT_YET = {"synchronous_commit": "off", "wal_writer_delay": "2s"}
CLIENTS = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
OTHERS = f"{CLIENTS} AND pid != pg_backend_pid()"
OPEN = f"{OTHERS} AND state LIKE 'idle in transaction%'"
STREAMS = "SELECT pid FROM pg_stat_replication WHERE state = 'streaming'"
SYNCHRONOUS = "SELECT pid FROM pg_stat_replication WHERE sync_state = 'sync'"


@dataclass
class Kills:
    """A server, its nodes, what was acknowledged, and the figures."""

    cluster: Cluster
    folder: Path
    rng: random.Random
    is_control: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    nodes: list[Service] = field(default_factory=list)
    kills: int = 0
    unknown: int = 0
    urls: str = ""
    standby: Cluster | None = None
    recovery: float = 0.0

    def __str__(self) -> str:
        """Return the figures."""
        return (
            f"{self.kills} kills, {self.ledger.acknowledged} acknowledged writes, {self.unknown} "
            f"of unknown outcome, all nodes ready again after {self.recovery:.1f} s at most, "
            f"{len(self.ledger.broken)} broken promises"
        )

    def kill_server(self) -> None:
        """Kill the server, and start it again."""
        self.cluster.kill_all()
        self.expect("the server does not start again", self.cluster.restarted)

    def kill_backend(self) -> None:
        """Kill the process of one of the nodes' connections."""
        pids = {pid for (pid,) in self.cluster.query(OTHERS)}
        send(self.rng.choice(sorted(pids)), signal.SIGKILL)
        self.expect("the server keeps the other connections", partial(are_gone, pids))

    def kill_node(self) -> None:
        """Kill a node; the server undoes what it was about to do. Start it again on its port."""
        self.nodes[0].kill()
        self.expect("a transaction of a killed node is open", lambda: not self.cluster.query(OPEN))
        self.nodes[0] = self.start_node(AUTHAPI_PORT=str(self.nodes[0].port))

    def fail_over(self) -> None:
        """Cut the standby off, kill the primary a moment later, and promote the standby."""
        for (pid,) in self.cluster.query(STREAMS):
            send(pid, signal.SIGSTOP)
        time.sleep(CUT_OFF)
        self.cluster.kill_all()
        assert self.standby is not None
        self.cluster = self.standby
        self.cluster.promote()

    def run(self, kill: Callable[[Kills], None], rounds: int) -> None:
        """Let clients work, kill, and compare, again and again."""
        self.urls = self.cluster.url
        if kill == Kills.fail_over:
            self._replicate()
        self.nodes = [self.start_node(), self.start_node()]
        self.cluster.query("CHECKPOINT")  # so that the tables outlive also the control
        for _ in range(rounds):
            writers = self._write_a_while()
            kill(self)
            self.kills += 1
            began = time.monotonic()
            self.expect("a node does not recover", lambda: all(map(is_ready, self.nodes)))
            self.recovery = max(self.recovery, time.monotonic() - began)
            end(writers)
            self._learn()
            self._prove()
        for node in self.nodes:
            node.stop()

    def start_node(self, **environ: str) -> Service:
        """Start a node."""
        return start(self.folder, **node_environ(self.urls), **environ)

    def abandon(self) -> None:
        """Kill the nodes, and a standby."""
        for node in self.nodes:
            node.kill()
        if self.standby:
            with suppress(subprocess.CalledProcessError):
                self.standby.stop()

    def expect(self, otherwise: str, condition: Callable[[], bool]) -> None:
        """Wait until something is so. Raises NoStartError."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise NoStartError(otherwise)
            time.sleep(0.02)

    def _replicate(self) -> None:
        standby = self.standby = self.cluster.standby()
        self.expect("the standby does not stream", lambda: bool(self.cluster.query(STREAMS)))
        if not self.is_control:
            self.cluster.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self.cluster.query("SELECT pg_reload_conf()")
            self.expect("it is not synchronous", lambda: bool(self.cluster.query(SYNCHRONOUS)))
        hosts = f"127.0.0.1:{self.cluster.port},127.0.0.1:{standby.port}"
        self.urls = f"postgresql://postgres@{hosts}/postgres"

    def _write_a_while(self) -> list[UnsureWriter]:
        ports = [self.nodes[number % 2].port for number in range(WRITERS)]
        writers = [
            UnsureWriter(self.ledger, port, random.Random(self.rng.random())) for port in ports
        ]
        for writer in writers:
            writer.start()
        more = self.rng.randint(FEWEST, MOST)
        if not self.ledger.wait_for(self.ledger.acknowledged + more, PATIENCE):
            self.ledger.broken.append("the nodes do not answer")
        return writers

    def _learn(self) -> None:
        """Compare the database with the ledger, and settle the requests of unknown outcome."""
        stored, ledger = Stored.query(self.cluster.query), self.ledger
        ledger.broken += stored.faults([(one, one.allowed()) for one in ledger.accounts])
        for account in ledger.accounts:
            if missing := account.logged_ids - stored.request_ids:
                ledger.broken.append(f"{account.email}: {missing} are not in the audit log")
                account.logged_ids -= missing
            account.user_id = stored.find(account)
            self.unknown += account.pending is not None
            account.settle(stored.state(account.user_id))

    def _prove(self) -> None:
        """Compare the second node's answers with the ledger."""
        with closing(Client(self.nodes[1].port)) as client:
            for account in self.ledger.accounts[-2 * WRITERS :]:
                for step in account.proofs():
                    self.ledger.perform(account, step, client)


MODES: dict[str, Callable[[Kills], None]] = {
    "server": Kills.kill_server,
    "backend": Kills.kill_backend,
    "node": Kills.kill_node,
    "failover": Kills.fail_over,
}


def run(folder: Path, mode: str, rounds: int, seed: int, *, is_control: bool = False) -> Kills:
    """Run one mode on a server of its own; the ledger has the broken promises."""
    options = DURABLE | (NOT_YET if is_control and mode != "failover" else {})
    with running_cluster(**options) as cluster:
        kills = Kills(cluster, folder, random.Random(seed), is_control)
        try:
            kills.run(MODES[mode], 1 if mode == "failover" else rounds)
        except NoStartError as error:
            kills.ledger.broken.append(str(error))
        finally:
            kills.abandon()
    return kills


def main() -> int:
    """Run the modes; return the exit status."""
    options = parser(__doc__, 5, "kills in each mode but failover, which is done once")
    options.add_argument("--mode", choices=MODES, action="append", help="one of them alone")
    options.add_argument("--control", action="store_true", help="acknowledge what is not safe")
    given = options.parse_args()
    broken = {}
    for mode in given.mode or (["server", "failover"] if given.control else MODES):
        with tempfile.TemporaryDirectory() as folder:
            kills = run(Path(folder), mode, given.rounds, given.seed, is_control=given.control)
        print(f"{mode}: {kills}", flush=True)
        broken[mode] = kills.ledger.broken
    return conclude_all(broken, is_control=given.control)


if __name__ == "__main__":
    sys.exit(main())
