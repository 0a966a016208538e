"""Check that under mixed work nothing grows that should not, and no request fails.

Two workers serve clients that register, log in and out, end sessions, change passwords, rename and
delete, with each answer checked; one client whose session is renewed each second; and one that
sends garbage and hangs up. Memory (proportional, of all processes), open files, threads and the
size of the write-ahead log are sampled. The medians of the last quarter must equal those of the
second, within TOLERANCE; the first quarter is warm-up. At the end the database must hold what was
acknowledged. The script also fails on a request without an answer, an answer of 500 or above, a
traceback, and too little work.

The database itself grows: the audit log keeps its rows for 90 days.
"""

from __future__ import annotations

import argparse
import random
import re
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from faults.accounts import BUSY, Account, Ledger
from faults.harness import (
    DATABASE,
    HOST,
    Client,
    Service,
    Writer,
    conclude,
    positive,
    start,
)
from faults.stored import Stored

WRITERS = 3
PAUSE = 0.02  # seconds between two requests of clients that do not write
FEWEST_A_SECOND = 5  # of writes, and of session checks
TOLERANCE = {
    "memory, MiB": (1.10, 2.0),
    "files": (1.0, 4.0),
    "threads": (1.0, 2.0),
    "log, MiB": (1.25, 4.0),
}
SETTINGS = {"AUTHAPI_WORKERS": "2", "AUTHAPI_SESSION_RENEW_AFTER": "1"}


@dataclass(frozen=True)
class Sample:
    """The resources that the service uses at a moment, by name."""

    quarter: int
    sizes: dict[str, float]


def processes(pid: int) -> list[int]:
    """Return the ids of a process and all descendants."""
    found = [pid]
    for one in found:  # grows while it is read
        for task in Path(f"/proc/{one}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def measure(service: Service, folder: Path) -> dict[str, float]:
    """Return what the service uses now."""
    pids = processes(service.pid)
    pss = 0.0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        pss += sum(map(int, re.findall(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)))
    log = folder / f"{DATABASE}-wal"
    return {
        "memory, MiB": pss / 1_024,
        "files": float(sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)),
        "threads": float(sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)),
        "log, MiB": log.stat().st_size / 2**20 if log.exists() else 0.0,
    }


class Visitor(threading.Thread):
    """Sends requests with a session that is due for renewal each second, and counts the answers."""

    def __init__(self, port: int, over: threading.Event) -> None:
        """Name the port. `start` starts the client."""
        super().__init__(daemon=True)
        self._port, self._over = port, over
        self.account = Account("visitor")
        self.statuses: Counter[int] = Counter()

    def run(self) -> None:
        """Send requests with the newest token."""
        with closing(Client(self._port)) as client:
            account = self.account
            step = account.register()
            account.take(step, client(step))
            (token,) = account.tokens
            while not self._over.wait(PAUSE):
                answer = client(account.look(token))
                self.statuses[answer.status] += 1
                if answer.token:
                    account.tokens[answer.token] = account.tokens.pop(token)
                    token = answer.token


def vandalize(port: int, over: threading.Event, rng: random.Random) -> None:
    """Send garbage and halves of requests, and hang up or reset."""
    good = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    good += b"Content-Length: 2\r\n\r\n{}"
    while not over.wait(PAUSE):
        text = bytearray(good[: rng.randrange(1, len(good) + 1)])
        text[rng.randrange(len(text))] = rng.randrange(256)
        with suppress(OSError), socket.create_connection((HOST, port), timeout=10) as connection:
            if rng.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(text)
            if rng.random() < 0.3:
                connection.settimeout(0.2)
                connection.recv(4_096)


@dataclass(frozen=True)
class Work:
    """The work done, the resources used meanwhile, and the broken promises."""

    samples: list[Sample]
    ledger: Ledger
    checks: Counter[int]
    broken: list[str]

    def __str__(self) -> str:
        """Return the figures, and a row for each thing that is measured."""
        head = "| | quarter 1 | 2 | 3 | 4 | |\n|---|---|---|---|---|---|"
        figures = (
            f"{self.ledger.acknowledged:,} writes, {self.checks.total():,} session checks, "
            f"{self.ledger.busy} answers of {BUSY}"
        )
        return "\n".join([figures, head, *verdicts(self.samples)])


def run(folder: Path, seconds: float, seed: int) -> Work:
    """Work for some seconds, and compare the database with what was acknowledged."""
    service, over, ledger = start(folder, **SETTINGS), threading.Event(), Ledger()
    rng = random.Random(seed)
    visitor = Visitor(service.port, over)
    vandal = threading.Thread(
        target=vandalize, args=[service.port, over, random.Random(seed)], daemon=True
    )
    writers = [
        Writer(ledger, service.port, random.Random(rng.random()), goes_on=True)
        for _ in range(WRITERS)
    ]
    samples, began = [], time.monotonic()
    for thread in (visitor, vandal, *writers):
        thread.start()
    while (passed := time.monotonic() - began) < seconds:
        samples.append(Sample(int(4 * passed / seconds), measure(service, folder)))
        time.sleep(min(5.0, seconds / 40))
    over.set()
    for writer in writers:
        writer.stop()
    visitor.join()
    vandal.join()
    service.stop()
    unanswered = sum(writer.unanswered for writer in writers)
    broken = [*ledger.broken, *_lost(folder, ledger, visitor)]
    broken += [f"{unanswered} requests had no answer"] if unanswered else []
    fewest = min(ledger.acknowledged, visitor.statuses[200])
    if fewest < FEWEST_A_SECOND * seconds:
        broken.append(f"there were but {fewest} writes or session checks")
    return Work(samples, ledger, visitor.statuses, broken)


def _lost(folder: Path, ledger: Ledger, visitor: Visitor) -> Iterator[str]:
    """Return what the database lacks of the acknowledged changes, and failures of the service."""
    stored = Stored.read(folder / DATABASE)
    for events in stored.events.values():
        del events["session_renewed"]  # is no step of an account
    visited = (visitor.account, [stored.state(stored.find(visitor.account))])
    yield from stored.faults([visited, *((one, one.allowed()) for one in ledger.accounts)])
    yield from (f"a session check: {status}" for status in visitor.statuses if status != 200)
    if ledger.busy:
        yield f"{ledger.busy} answers of {BUSY}"
    if "Traceback" in (folder / "log").read_text():
        yield "there is a traceback in the log"


def verdicts(samples: list[Sample]) -> list[str]:
    """Yield a row for each thing that is measured, with a mark on those that grew."""
    rows = []
    for name, (factor, extra) in TOLERANCE.items():
        medians = [
            statistics.median([s.sizes[name] for s in samples if s.quarter == quarter])
            for quarter in range(4)
        ]
        grew = medians[3] > medians[1] * factor + extra
        figures = " | ".join(f"{median:.1f}" for median in medians)
        rows.append(f"| {name} | {figures} | {'GREW' if grew else 'flat'} |")
    return rows


def main() -> int:
    """Work, print the results, and return 1 if something grew or failed."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--minutes", type=positive, default=20, help="of work (20)")
    options.add_argument("--seed", type=int, default=1, help="of all that is random (1)")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        work = run(Path(directory), given.minutes * 60, given.seed)
        size = (Path(directory) / DATABASE).stat().st_size / 2**20
    print(f"{work}\nthe database is {size:.0f} MiB")
    return conclude([*work.broken, *(row for row in verdicts(work.samples) if "GREW" in row)])


if __name__ == "__main__":
    sys.exit(main())
