"""Check that acknowledged changes survive a power cut.

kill -9 cannot show that, because the system still writes. So the service runs under strace, on a
new database, while clients write. Each run ends by SIGTERM, or by kill -9, and the next one
continues with the files that are left. The record has every write, sync and name in the directory,
and every answer, in order. Then the files are rebuilt as a cut at some moment leaves them: with
only what was synced (just before a sync, when the least is on the disk), and with a random part of
the rest, torn and reordered. faults.disk_model has the model.

The service's own code starts on each of these. Every account, session, password version and audit
log entry must be as of the last answer before the cut, or as of the request that was being
answered. SQLite must find no damage. Tokens and passwords, valid or not, must be answered as they
should, for the accounts of the last answers and a few more.

`--synchronous NORMAL` serves with that PRAGMA: then the script must find broken promises.

This needs Linux, and strace with the permission to trace.
"""

from __future__ import annotations

import bisect
import json
import random
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

from falcon import testing

from authapi import AuthAPI, Settings, create_app
from authapi.errors import StartError
from faults import recording
from faults.accounts import Account, Answer, Ledger, State, Step
from faults.disk_model import Disk
from faults.harness import (
    CHEAP,
    DATABASE,
    PATIENCE,
    RUN,
    NoStartError,
    Service,
    Writer,
    children,
    conclude,
    parser,
    positive,
    send,
    start,
)
from faults.recording import Answered, Recording, Sync, Write
from faults.stored import Stored

WRITERS = 4
STEPS = 60  # of each writer in each run: more than one checkpoint of the log
CUTS = 2_000
LEVELS = ("OFF", "NORMAL", "FULL", "EXTRA")
PROVEN = 2  # accounts of the last answers before a cut, and as many others
MEMORY = Path("/dev/shm")  # if there is one: nothing here needs a disk


@dataclass
class PowerCut:
    """A recording, the acknowledged writes with their times, and the figures."""

    rng: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    events: list[recording.Event] = field(default_factory=list)
    cuts: int = 0
    broken_cuts: int = 0
    _sent: dict[str, int] = field(default_factory=dict)  # the event of each answer
    _settled: dict[str, int] = field(default_factory=dict)  # the event of a settled step

    def __str__(self) -> str:
        """Return the figures."""
        writes, syncs = (
            sum(isinstance(event, kind) for event in self.events) for kind in (Write, Sync)
        )
        return (
            f"{self.ledger.acknowledged} acknowledged writes, {writes} writes and {syncs} syncs "
            f"recorded, {self.cuts} cuts, {self.broken_cuts} of them with broken promises"
        )

    def record(self, folder: Path, runs: int, steps: int, command: tuple[str, ...]) -> None:
        """Run the service again and again, and record it. Raises NoStartError."""
        record = Recording(folder)
        for number in range(runs):
            output = folder / f"strace.{number}"
            service = start(folder, recording.command(output, command))
            self._settle(folder, len(record.events))
            (traced,) = children(service.pid)
            self._write(service, steps, traced if number % 2 else None)
            send(traced, SIGTERM)
            service.process.communicate()
            record.read(output)
        self._settle(folder, len(record.events))
        self._time(record.events)

    def _write(self, service: Service, steps: int, victim: int | None) -> None:
        """Let clients write; kill a process meanwhile, if one is given."""
        before = self.ledger.acknowledged
        writers = [
            Writer(self.ledger, service.port, self._random(), at_most=steps) for _ in range(WRITERS)
        ]
        for writer in writers:
            writer.start()
        if victim is not None:
            self.ledger.wait_for(before + WRITERS * steps // 2, PATIENCE)
            send(victim, SIGKILL)
        for writer in writers:
            writer.join()

    def _settle(self, folder: Path, event: int) -> None:
        """Settle the requests in flight after a kill, by a copy of the files.

        Their effect counts as present from the next answer on.
        """
        with tempfile.TemporaryDirectory() as copy:
            for path in folder.glob(f"{DATABASE}*"):
                shutil.copy(path, copy)
            stored = Stored.read(Path(copy, DATABASE))
        for account in self.ledger.accounts:
            account.user_id = stored.find(account)
            account.settle(stored.state(account.user_id))
            if account.request_ids[-1:] == [""]:
                account.request_ids[-1] = f"settled at {event}"
                self._settled[account.request_ids[-1]] = event

    def _time(self, events: list[recording.Event]) -> None:
        """Find when each answer was sent."""
        answers = [n for n, event in enumerate(events) if isinstance(event, Answered)]
        self.events = events
        self._sent = {
            event.request_id: n for n, event in enumerate(events) if type(event) is Answered
        }
        for request_id, event in self._settled.items():
            later = bisect.bisect_left(answers, event)
            self._sent[request_id] = answers[later] if later < len(answers) else len(events)

    def _random(self) -> random.Random:
        return random.Random(self.rng.random())

    def moments(self, cuts: int) -> list[tuple[int, float]]:
        """Return moments to cut at, each before an event, with the share of unsynced data left."""
        ends = len(self.events)
        syncs = [n for n, event in enumerate(self.events) if isinstance(event, Sync)] + [ends]
        alone = self.rng.sample(syncs, min(cuts // 2, len(syncs)))
        random_ones = [
            (self.rng.choice([self.rng.choice(syncs), self.rng.randrange(ends)]), self.rng.random())
            for _ in range(cuts - len(alone))
        ]
        return sorted([(number, 0.0) for number in alone] + random_ones)

    def cut(self, cuts: int, folder: Path) -> None:
        """Cut at a number of moments, and check what is left."""
        disk, done = Disk(), 0
        for number, likely in self.moments(cuts):
            while done < number:
                disk.take(done, self.events[done])
                done += 1
            with tempfile.TemporaryDirectory(dir=folder) as left:
                disk.leave(Path(left), self.rng, likely)
                faults = list(self._faults(Path(left), number))
            self.cuts += 1
            self.broken_cuts += bool(faults)
            where = f"cut before event {number} of {len(self.events)}, {likely:.2f} of the unsynced"
            self.ledger.broken += [f"{where}: {fault}" for fault in faults]

    def _faults(self, folder: Path, number: int) -> Iterator[str]:
        """Return the promises that a cut before an event breaks."""
        try:
            with _opened(folder) as app:
                stored = Stored.read(folder / DATABASE)
                yield from self._lost(stored, number)
                yield from self._disproven(app, stored, number)
        except (StartError, sqlite3.Error) as error:
            yield f"the service does not start: {error}"

    def _lost(self, stored: Stored, number: int) -> Iterator[str]:
        """Return what the database lacks, or has too much."""
        accounts = self.ledger.accounts
        yield from stored.faults([(one, self._allowed(one, number)) for one in accounts])
        for account in accounts:
            sent = account.request_ids[: self._acknowledged(account, number)]
            if missing := account.logged_ids.intersection(sent) - stored.request_ids:
                yield f"{account.email}: {missing} are not in the audit log"

    def _disproven(self, app: AuthAPI, stored: Stored, number: int) -> Iterator[str]:
        """Return wrong answers of the service."""
        accounts = sorted(self.ledger.accounts, key=lambda one: self._last(one, number))
        chosen = accounts[-PROVEN:] + self.rng.sample(accounts, min(PROVEN, len(accounts)))
        for account in chosen:
            state = stored.state(stored.find(account))
            if any(allowed.allows(state) for allowed in self._allowed(account, number)):
                yield from _answers(app, account, state)

    def _acknowledged(self, account: Account, number: int) -> int:
        """Return how many of an account's steps were answered before an event."""
        return bisect.bisect_left(account.request_ids, number, key=self._sent.__getitem__)

    def _allowed(self, account: Account, number: int) -> list[State]:
        """Return the allowed states: as of the last answer, or of the request being answered."""
        acknowledged = self._acknowledged(account, number)
        return account.states[acknowledged : acknowledged + 2]

    def _last(self, account: Account, number: int) -> int:
        """Return when an account's last answer before an event was sent; -1 if there was none."""
        acknowledged = self._acknowledged(account, number)
        return self._sent[account.request_ids[acknowledged - 1]] if acknowledged else -1


@contextmanager
def _opened(folder: Path) -> Iterator[AuthAPI]:
    """Open the service on a database."""
    settings: dict[str, Any] = {"database_url": f"sqlite:///{folder / DATABASE}", **CHEAP}
    with closing(create_app(Settings(**settings))) as app:
        yield app


def _answers(app: AuthAPI, account: Account, state: State) -> Iterator[str]:
    """Return what is wrong with the answers to every token and password of an account."""
    client = testing.TestClient(app)
    seen = replace(account, states=[state], request_ids=[], tokens={**account.tokens})
    seen.logged_ids = set()
    for step in seen.proofs():
        if fault := seen.take(step, _ask(client, step)):
            yield fault


def _ask(client: testing.TestClient, step: Step) -> Answer:
    """Send a request to the service in this process."""
    headers = {"Cookie": f"jwt={step.token}"} if step.token else {}
    body = None
    if step.body is not None:
        headers["Content-Type"], body = "application/json", json.dumps(step.body)
    result = client.simulate_request(step.method, step.path, body=body, headers=headers)
    cookie = result.cookies.get("jwt")
    token = cookie.value if cookie else ""
    return Answer(result.status_code, result.json, token, result.headers["x-request-id"])


def run(runs: int, seed: int, cuts: int, steps: int = STEPS, synchronous: str = "") -> PowerCut:
    """Record, and cut; the ledger has the broken promises."""
    found = PowerCut(random.Random(seed))
    command = (sys.executable, "-m", "faults.spoilt", synchronous) if synchronous else RUN
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        served, left = Path(folder, "served"), Path(folder, "left")
        served.mkdir()
        left.mkdir()
        try:
            found.record(served, runs, steps, command)
        except NoStartError as error:
            found.ledger.broken.append(str(error))
        if not found.ledger.broken:
            found.cut(cuts, left)
    return found


def main() -> int:
    """Record and cut; return the exit status."""
    options = parser(__doc__, 4, "runs of the service that are recorded")
    options.add_argument("--cuts", type=positive, default=CUTS, help=f"moments to cut at ({CUTS})")
    options.add_argument(
        "--synchronous", choices=LEVELS, default="", help="PRAGMA synchronous (as served: FULL)"
    )
    given = options.parse_args()
    if reason := recording.why_not():
        print(f"powercut: nothing can be recorded: {reason}")
        return 2
    found = run(given.rounds, given.seed, given.cuts, synchronous=given.synchronous)
    print(f"powercut: {found}")
    return conclude(found.ledger.broken)


if __name__ == "__main__":
    sys.exit(main())
