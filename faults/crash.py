"""Check that acknowledged changes survive kill -9, and others are there wholly or not at all.

Clients register, log in and out, end sessions, change passwords, rename and delete over real
sockets. At a random moment a process of the service is killed. Then the database must hold exactly
what was acknowledged: every account, session, password version and audit log entry. Of each request
in flight it must hold all or nothing. The restarted service must answer every token and password,
valid or not, as it should.

service   the only process is killed, in every fourth round also while it restarts
worker    one of two workers is killed; the service must go on answering, and start it again
parent    the parent of two workers is killed; they must exit, and the port must be free again

`--spoilt` serves with faults.spoilt, which answers first and commits later: then the script must
find broken promises.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import SIGKILL

from faults.accounts import Account, Ledger
from faults.harness import (
    DATABASE,
    PATIENCE,
    RUN,
    Client,
    NoStartError,
    Service,
    Writer,
    children,
    conclude,
    end,
    launch,
    parser,
    send,
    start,
)
from faults.stored import Stored

WRITERS = 6
FEWEST, MOST = 10, 150  # acknowledged writes between two kills
A_MOMENT = 0.005  # seconds: about a request
START = 0.6  # seconds within which a start is killed
KILLS_OF_WORKERS = 4  # of one parent, which gives up if workers crash again and again
TWO = {"AUTHAPI_WORKERS": "2"}
LATE = (sys.executable, "-m", "faults.spoilt", "late")
LISTENS = "0A"


@dataclass
class Crash:
    """The database, what was acknowledged in it, and the figures."""

    folder: Path
    rng: random.Random
    command: tuple[str, ...] = RUN
    ledger: Ledger = field(default_factory=Ledger)
    kills: int = 0
    in_flight: int = 0
    kept: int = 0
    _process: subprocess.Popen[str] | None = None
    _proven: int = 0  # accounts before this one did not change since the last check

    def __str__(self) -> str:
        """Return the figures."""
        return (
            f"{self.kills} kills, {self.ledger.acknowledged} acknowledged writes in "
            f"{len(self.ledger.accounts)} accounts, {self.in_flight} requests in flight "
            f"({self.kept} kept), {len(self.ledger.broken)} broken promises"
        )

    def kill_service(self, rounds: int) -> None:
        """Kill the only process, again and again."""
        for number in range(rounds):
            if number % 4 == 0:
                self._kill_start()
            service = self._start()
            self._learn()
            self._prove(service)
            writers = self._write_a_while(service)
            self._kill(service.pid)
            service.kill()
            end(writers)
        service = self._start()
        self._learn()
        self._end(service)

    def kill_worker(self, rounds: int) -> None:
        """Kill one of two workers, again and again."""
        while rounds:
            service = self._start(**TWO)
            kills = min(KILLS_OF_WORKERS, rounds)
            for _ in range(kills):
                self._kill_one_worker(service)
            rounds -= kills
            self._end(service)

    def kill_parent(self, rounds: int) -> None:
        """Kill the parent of two workers, again and again, and restart on its port."""
        service = self._start(**TWO)
        for _ in range(rounds):
            orphans = children(service.pid)
            writers = self._write_a_while(service)
            self._kill(service.pid)
            service.process.wait()
            self._expect("workers go on without their parent", partial(are_gone, orphans))
            service.kill()
            end(writers)
            service = self._start(AUTHAPI_PORT=str(service.port), **TWO)
            self._learn()
            self._prove(service)
        self._end(service)

    def _start(self, **environ: str) -> Service:
        service = start(self.folder, self.command, **environ)
        self._process = service.process
        return service

    def abandon(self) -> None:
        """Kill all processes."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def _kill_start(self) -> None:
        """Kill the service while it starts."""
        process = launch(self.folder, self.command)
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.rng.uniform(0, START))
            raise NoStartError(f"a start ended by itself with status {process.returncode}")
        self._kill(process.pid)
        process.communicate()

    def _write_a_while(self, service: Service, *, goes_on: bool = False) -> list[Writer]:
        """Let writers work until a random number of writes are acknowledged."""
        writers = [
            Writer(self.ledger, service.port, self._random(), goes_on=goes_on)
            for _ in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        self._wait_for(self.rng.randint(FEWEST, MOST))
        return writers

    def _random(self) -> random.Random:
        return random.Random(self.rng.random())

    def _wait_for(self, more: int) -> None:
        if not self.ledger.wait_for(self.ledger.acknowledged + more, PATIENCE):
            self.ledger.broken.append("the service does not answer")

    def _kill(self, pid: int) -> None:
        """Kill a process, a moment after the last answer."""
        time.sleep(self.rng.uniform(0, A_MOMENT))
        send(pid, SIGKILL)
        self.kills += 1

    def _kill_one_worker(self, service: Service) -> None:
        """Kill a worker under load, and check that the other goes on and the first is replaced."""
        self._expect("no two workers listen", lambda: listeners(service.port) == 2)
        before = children(service.pid)
        writers = self._write_a_while(service, goes_on=True)
        self._kill(self.rng.choice(sorted(before)))
        self._wait_for(2 * WRITERS)
        self._expect("a fallen worker is not started again", lambda: back(service, before))
        end(writers)
        self._learn()
        self._prove(service)

    def _learn(self) -> None:
        """Compare the database with the ledger, and settle the requests in flight.

        NOTE: only while the service runs, or after a clean end. Recovery after a crash is the
        service's task, and any other program that opens the database would do it.
        """
        stored = Stored.read(self.folder / DATABASE)
        ledger = self.ledger
        ledger.broken += stored.faults([(one, one.allowed()) for one in ledger.accounts])
        for account in ledger.accounts:
            if missing := account.logged_ids - stored.request_ids:
                ledger.broken.append(f"{account.email}: {missing} are not in the audit log")
                account.logged_ids -= missing
            account.user_id = stored.find(account)
            found = stored.state(account.user_id)
            self.in_flight += account.pending is not None
            self.kept += account.pending is not None and not account.state.allows(found)
            account.settle(found)

    def _prove(self, service: Service, *, everything: bool = False) -> None:
        """Compare the service's answers with the ledger, for accounts that changed since."""
        accounts = self.ledger.accounts
        with closing(Client(service.port)) as client:
            for account in accounts if everything else accounts[self._proven :]:
                self._prove_account(account, client)
        self._proven = len(accounts)

    def _prove_account(self, account: Account, client: Client) -> None:
        for step in account.proofs():
            self.ledger.perform(account, step, client)

    def _end(self, service: Service) -> None:
        """Check everything a last time, and stop."""
        self._prove(service, everything=True)
        service.stop()
        self._learn()

    def _expect(self, otherwise: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise NoStartError(otherwise)
            time.sleep(0.01)


def are_gone(pids: set[int]) -> bool:
    """Return whether processes have ended, including zombies."""
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            if not Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z"):
                return False
    return True


def back(service: Service, before: set[int]) -> bool:
    """Return whether the service has two workers, which listen and are not those of before."""
    now = children(service.pid)
    return len(now) == 2 and now != before and listeners(service.port) == 2


def listeners(port: int) -> int:
    """Return how many sockets listen on a port."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[3] == LISTENS and int(line[1].partition(":")[2], 16) == port for line in lines)


MODES: dict[str, Callable[[Crash, int], None]] = {
    "service": Crash.kill_service,
    "worker": Crash.kill_worker,
    "parent": Crash.kill_parent,
}


def run(folder: Path, mode: str, rounds: int, seed: int, command: tuple[str, ...] = RUN) -> Crash:
    """Run one mode on a database of its own; the ledger has the broken promises."""
    crash = Crash(folder, random.Random(seed), command)
    try:
        MODES[mode](crash, rounds)
    except NoStartError as error:
        crash.ledger.broken.append(str(error))
    finally:
        crash.abandon()
    return crash


def main() -> int:
    """Run the modes; return the exit status."""
    options = parser(__doc__, 50, "kills in each mode")
    options.add_argument("--mode", choices=MODES, action="append", help="one of them alone")
    options.add_argument("--spoilt", action="store_true", help="answer before the commit")
    given = options.parse_args()
    broken = []
    for mode in given.mode or (["service"] if given.spoilt else MODES):
        with tempfile.TemporaryDirectory() as folder:
            command = LATE if given.spoilt else RUN
            crash = run(Path(folder), mode, given.rounds, given.seed, command)
        print(f"{mode}: {crash}", flush=True)
        broken += crash.ledger.broken
    return conclude(broken)


if __name__ == "__main__":
    sys.exit(main())
