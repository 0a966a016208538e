"""Shared by the scripts: the service as a process, its clients, options, and the result."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from authapi.settings import PREFIX
from faults.accounts import BUSY, Account, Answer, Ledger, Step

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
PATIENCE = 60  # seconds until something counts as hanging
DATABASE = "authapi.db"
SHOWN = 10  # broken promises that are printed; the rest are counted

CHEAP = {
    "argon2_memory_kib": 8,
    "argon2_time_cost": 1,
    "argon2_lanes": 1,
    "max_sessions": 10_000,
    "rate_limits": "off",
}
RUN = (sys.executable, str(ROOT / "run.py"))


class NoStartError(Exception):
    """The service did not start or end as it should. The text is a broken promise."""


@dataclass(frozen=True)
class Service:
    """A service that runs as a process."""

    process: subprocess.Popen[str]
    port: int

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self.process.pid

    def kill(self) -> None:
        """Kill it, and wait for it."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> None:
        """Stop it as an operator does. Raises NoStartError if it does not end properly."""
        self.process.terminate()
        try:
            self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.process.returncode:
            raise NoStartError(f"a stop ended with status {self.process.returncode}")


def launch(folder: Path, command: Sequence[str] = RUN, **environ: str) -> subprocess.Popen[str]:
    """Start the service on the database in a folder, without waiting for it.

    None of our own AUTHAPI_… variables reaches it.
    """
    inherited = {key: text for key, text in os.environ.items() if not key.startswith(PREFIX)}
    cheap = {f"{PREFIX}{name.upper()}": str(value) for name, value in CHEAP.items()}
    ours = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", f"{PREFIX}PORT": "0"}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=inherited | cheap | ours | environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def start(folder: Path, command: Sequence[str] = RUN, **environ: str) -> Service:
    """Start the service, and wait until it listens. Raises NoStartError."""
    process = launch(folder, command, **environ)
    assert process.stdout is not None
    line = process.stdout.readline()
    port = re.search(r"listens on http://\S+?:(\d+),", line)
    if port is None:
        process.kill()
        process.communicate()
        said = (folder / "log").read_text()[-2_000:]
        raise NoStartError(f"the service did not start: {said}")
    return Service(process, int(port[1]))


class Client:
    """A client on a kept-alive connection, which it reopens if it breaks."""

    def __init__(self, port: int) -> None:
        """Name the port. Nothing is opened yet."""
        self._connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)

    def __call__(self, step: Step) -> Answer:
        """Send a step's request, and read the whole answer.

        Raises OSError or HTTPException if none comes.
        """
        headers = {"Cookie": f"jwt={step.token}"} if step.token else {}
        body = None
        if step.body is not None:
            headers["Content-Type"], body = "application/json", json.dumps(step.body)
        try:
            self._connection.request(step.method, step.path, body, headers)
            received = self._connection.getresponse()
            return answer(received.status, received.headers, received.read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class UnsureClient(Client):
    """A client of a node. A 503 is no answer: the commit may have been done when it was lost."""

    def __call__(self, step: Step) -> Answer:
        """Send a step's request. Raises OSError or HTTPException if the outcome is unknown."""
        answered = super().__call__(step)
        if answered.status == BUSY:
            raise ConnectionError(answered.body)
        return answered


class Writer(threading.Thread):
    """A client that performs one step after another in accounts of its own.

    It ends when it is told to, after `at_most` steps if given, or if no answer comes. With
    `goes_on` it then leaves the account and turns to another.
    """

    client: type[Client] = Client

    def __init__(
        self,
        ledger: Ledger,
        port: int,
        rng: random.Random,
        *,
        at_most: int = -1,
        goes_on: bool = False,
    ) -> None:
        """Name the service's port. `start` starts the client."""
        super().__init__(daemon=True)
        self._ledger, self._client, self._rng = ledger, self.client(port), rng
        self._left, self._goes_on = at_most, goes_on
        self._accounts: list[Account] = []
        self.unanswered = 0
        self._told = threading.Event()

    def stop(self) -> None:
        """End it, and wait for it."""
        self._told.set()
        self.join()

    def run(self) -> None:
        """Perform steps."""
        with closing(self._client):
            while not self._told.is_set() and self._left != 0:
                if not self._do_one() and not self._goes_on:
                    return
                self._left -= 1

    def _do_one(self) -> bool:
        """Perform a step; return False if no answer comes."""
        account = self._choose()
        try:
            self._ledger.perform(account, account.next_step(self._rng), self._client)
        except (OSError, http.client.HTTPException):
            self.unanswered += 1
            return False
        return True

    def _choose(self) -> Account:
        self._accounts = [one for one in self._accounts if not one.is_over and not one.pending]
        if len(self._accounts) < 2 or self._rng.random() < 0.05:
            self._accounts.append(self._ledger.open())
        return self._rng.choice(self._accounts)


class UnsureWriter(Writer):
    """A client of a node, whose step is of unknown outcome where the node says 503."""

    client = UnsureClient


def end(writers: Sequence[Writer]) -> None:
    """Stop writers, and wait for them."""
    for writer in writers:
        writer.stop()


def answer(status: int, headers: Message, body: bytes) -> Answer:
    """Return a received response as an Answer."""
    cookies = [line.partition(";")[0] for line in headers.get_all("Set-Cookie", [])]
    # A deleted cookie has the value `""`.
    tokens = [each.removeprefix("jwt=").strip('"') for each in cookies if each.startswith("jwt=")]
    return Answer(status, json.loads(body), "".join(tokens), headers["X-Request-ID"])


def children(pid: int) -> set[int]:
    """Return the running children of a process."""
    with suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        return {int(child) for child in text.split()}
    return set()


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def positive(text: str) -> int:
    """Parse a number of at least one. Raises ValueError."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def parser(doc: str, rounds: int, what: str) -> argparse.ArgumentParser:
    """Return a parser with the options of all scripts; the text is the script's docstring."""
    options = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=positive, default=rounds, help=f"{what} ({rounds})")
    options.add_argument("--seed", type=int, default=0, help="of all that is random (0)")
    return options


def conclude(broken: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Print the broken promises; return the exit status."""
    for text in broken[:SHOWN]:
        say(f"BROKEN: {text}")
    if len(broken) > SHOWN:
        say(f"... and {len(broken) - SHOWN} more")
    return int(bool(broken))


def conclude_all(broken: dict[str, list[str]], *, is_control: bool = False) -> int:
    """Print the promises that each mode broke; return the exit status.

    A control fails only if promises were broken in each of its modes.
    """
    unfound = [mode for mode, texts in broken.items() if not texts]
    status = conclude([f"{mode}: {text}" for mode, texts in broken.items() for text in texts])
    if is_control and unfound:
        print(f"the faults of the control were not found in {', '.join(unfound)}")
        return 0
    return status
