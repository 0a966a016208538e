"""Check that every mail of an acknowledged change arrives, however often the service is killed.

Clients write notes over real sockets; each note writes a mail in its transaction. At random moments
one of two workers, or their parent, is killed with SIGKILL. A relay records the mails. In the end
every acknowledged note has arrived once or more, all copies of a mail have one Message-ID, and the
outbox is empty. Then the sender is killed at each of its statements: see faults.outbox_statements.

`--postgresql` does the same on a PostgreSQL server. `--spoilt` deletes a job when it is claimed,
before it is sent: then the script must find mails that never arrived.
"""

from __future__ import annotations

import email.policy
import itertools
import os
import random
import re
import socket
import sqlite3
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext, suppress
from email import message_from_bytes
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from signal import SIGKILL
from typing import Any

import falcon
import msgspec

from authapi import AuthAPI, Settings, create_app, features, outbox
from authapi.answers import Answer
from authapi.core import Core
from authapi.features.mail import Mails
from authapi.mail.kinds import Letter, Mail
from authapi.operations import operation
from authapi.outbox import Outbox, OutboxJob, delivery
from authapi.outbox.sender import SenderPace
from authapi.server import serve
from faults.cluster import Cluster, running_cluster
from faults.harness import DATABASE, HOST, PATIENCE, Service, children, conclude, parser, start
from faults.nodes import node_environ

WRITERS = 4
WRITES_EVERY = 0.02  # seconds, so that few mails wait in the end
KILLS_EVERY = (0.05, 0.8)  # seconds
LEASE = 2  # seconds, in place of 120: the script waits for the claims of what was killed
SQL_WAITING = "SELECT count(*) FROM outbox"
COMMAND = (sys.executable, "-m", "faults.outbox")


class NoteBody(msgspec.Struct):
    """A note."""

    number: int


def letter(_core: Core, job: OutboxJob) -> Letter:
    """Return the mail of a note."""
    return Letter("user@example.org", {"time": f"note {job.data['number']}."})


NOTE = Mail("mail_test", lifetime=3_600, prepare=letter, values=("time",))


class NotesResource:
    """Takes notes from anybody."""

    public = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core

    @operation("Write a note.", body=NoteBody)
    def on_post(self, _req: falcon.Request, resp: falcon.Response, body: NoteBody) -> None:
        """Write a mail."""
        with self._core.database.transaction():
            self._core.of(Mails).write(NOTE, data={"number": body.number})
        self._core.wire.answer(resp, Answer(message="Written."))


def notes() -> types.ModuleType:
    """Return the feature."""
    module: Any = types.ModuleType("notes")

    def setup(app: AuthAPI, core: Core) -> None:
        core.of(Mails).add(NOTE)
        core.of(Mails).sender.pace = SenderPace(tick=0.02, look_every=0.2)
        app.add_route("/notes", NotesResource(core))

    module.REQUIRES, module.setup = ("mail",), setup
    return module  # type: ignore[no-any-return]


def spoil() -> None:
    """Let this process delete jobs when it claims them."""
    claim = Outbox.claim

    def claim_and_delete(self: Outbox, channel: str, at_most: int) -> list[OutboxJob]:
        jobs = claim(self, channel, at_most)
        for job in jobs:
            self.done(job)
        return jobs

    Outbox.claim = claim_and_delete  # type: ignore[method-assign]


def run_service() -> None:
    """Serve until a signal."""
    outbox.LEASE, delivery.STARTS_WITHIN = LEASE, 1
    serve(Settings.from_env(features=(*features.DEFAULT, notes())), create_app)


class Relay(threading.Thread):
    """A relay that keeps the note of each mail, or its link, and the Message-ID."""

    def __init__(self) -> None:
        """Listen."""
        super().__init__(daemon=True)
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self.mails: list[tuple[int, str]] = []
        self.links: dict[str, list[str]] = {}  # by Message-ID: those of all copies, each once

    def run(self) -> None:
        """Serve each client in a thread."""
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, client.makefile("rb") as lines:
            client.sendall(b"220 relay\r\n")
            for line in lines:
                if line.startswith((b"DATA", b"data")):
                    client.sendall(b"354 Go on\r\n")
                    self._take(b"".join(iter(lines.readline, b".\r\n")))
                client.sendall(b"250 OK\r\n")

    def _take(self, message: bytes) -> None:
        """Keep a mail, unless the connection broke before its end."""
        if not message.endswith(b"--\r\n"):
            return
        mail = message_from_bytes(message, policy=email.policy.default)
        plain = mail.get_body(("plain",))
        assert plain is not None
        text, name = plain.get_content(), mail["Message-ID"]
        self.mails += [(int(number), name) for number in re.findall(r"note (\d+)\.", text)]
        for link in re.findall(r"#token=(\S+)", text):
            links = self.links.setdefault(name, [])
            links += [link] * (link not in links)


class Writer(threading.Thread):
    """Writes notes, and keeps the numbers of those that were acknowledged."""

    numbers: Iterator[int] = itertools.count()

    def __init__(self, port: int) -> None:
        """Name the port."""
        super().__init__(daemon=True)
        self._port, self.ends = port, threading.Event()
        self.acknowledged: list[int] = []

    def run(self) -> None:
        """Write until the end."""
        while not self.ends.wait(WRITES_EVERY):
            number = next(self.numbers)
            with suppress(OSError, HTTPException), closing(self._connection()) as connection:
                body = f'{{"number": {number}}}'
                connection.request("POST", "/notes", body, {"Content-Type": "application/json"})
                if connection.getresponse().status == 200:
                    self.acknowledged.append(number)

    def _connection(self) -> HTTPConnection:
        return HTTPConnection(HOST, self._port, timeout=PATIENCE)


def relay_environ(relay: Relay) -> dict[str, str]:
    """Return the variables of a service that sends mails to a relay."""
    return {
        "AUTHAPI_MAIL_URL": f"smtp+plain://{HOST}:{relay.port}",
        "AUTHAPI_MAIL_FROM": "noreply@example.com",
        "AUTHAPI_PAGES_URL": "https://app.example.com",
    }


def run(
    folder: Path,
    rounds: int,
    seed: int,
    *,
    spoilt: bool = False,
    cluster: Cluster | None = None,
) -> tuple[str, list[str]]:
    """Kill the service in each round; return the figures and the broken promises."""
    rng, relay = random.Random(seed), Relay()
    relay.start()
    environ = {"AUTHAPI_WORKERS": "2", **relay_environ(relay)}
    environ |= node_environ(cluster.url) if cluster else {}
    command = (*COMMAND, "--serve", *(["--spoilt"] if spoilt else []))
    acknowledged: list[int] = []
    kills = 0
    for _ in range(rounds):
        service = start(folder, command, **environ)
        writers = [Writer(service.port) for _ in range(WRITERS)]
        for writer in writers:
            writer.start()
        kills += kill_at_random(service, rng)
        for writer in writers:
            writer.ends.set()
        for writer in writers:
            writer.join()
            acknowledged += writer.acknowledged
    service = start(folder, command, **environ)
    left = wait_until_empty(partial(count, SQL_WAITING, folder, cluster))
    service.stop()
    return judge(relay.mails, acknowledged, kills, left)


def count(statement: str, folder: Path, cluster: Cluster | None) -> int:
    """Return the number that a query of the service's database returns."""
    if cluster:
        return int(cluster.query(statement)[0][0])
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        return int(database.execute(statement).fetchone()[0])


def kill_at_random(service: Service, rng: random.Random) -> int:
    """Kill workers, and their parent in the end; return how many processes were killed."""
    kills = 0
    for _ in range(4):
        time.sleep(rng.uniform(*KILLS_EVERY))
        workers = sorted(children(service.pid))  # none while all are being started again
        if workers:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), SIGKILL)
                kills += 1
    time.sleep(rng.uniform(*KILLS_EVERY))
    service.kill()
    return kills + 1


def wait_until_empty(counted: Callable[[], int]) -> int:
    """Return how many jobs are left when they become no fewer."""
    left, deadline = counted(), time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        if (now := counted()) < left:
            left, deadline = now, time.monotonic() + PATIENCE
    return left


def judge(
    mails: list[tuple[int, str]], acknowledged: list[int], kills: int, waiting: int
) -> tuple[str, list[str]]:
    """Return the figures, and the broken promises."""
    names: dict[int, set[str]] = {}
    for note, name in mails:
        names.setdefault(note, set()).add(name)
    broken = [f"note {note} never arrived" for note in acknowledged if note not in names]
    broken += [f"note {note} has {len(each)} ids" for note, each in names.items() if len(each) > 1]
    broken += [f"{waiting} mails still wait"] if waiting else []
    figures = (
        f"{kills} kills, {len(acknowledged)} acknowledged notes, {len(mails)} mails "
        f"({len(mails) - len(names)} of them sent again), {len(broken)} broken promises"
    )
    return figures, broken


def main() -> int:
    """Run the rounds, or serve; return the exit status."""
    options = parser(__doc__, 10, "rounds, each with five kills or so")
    options.add_argument("--postgresql", action="store_true", help="on a PostgreSQL server")
    options.add_argument("--spoilt", action="store_true", help="delete jobs before they are sent")
    options.add_argument("--serve", action="store_true", help="serve, which the script calls")
    given = options.parse_args()
    if given.serve:
        if given.spoilt:
            spoil()
        run_service()
        return 0
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cluster() if given.postgresql else nullcontext() as cluster,
    ):
        figures, broken = run(
            Path(folder), given.rounds, given.seed, spoilt=given.spoilt, cluster=cluster
        )
    print(figures)
    return conclude(broken)


if __name__ == "__main__":
    sys.exit(main())
