"""Check that every mail arrives, whatever statement of the sender a kill meets.

A process sends what is due and kills itself at its first step, which is a statement or a mail. The
next one does so at its second step, and so on, until one comes to the end. After each kill another
process takes over when the claims have run out.

Before each kill four mails are written: a note, one that the relay refuses, one that it puts off
once, and the link of a reset. In the end each note and each link has arrived once or more, all
copies of a mail have one Message-ID and one link, and each refused mail is dead, with one event.

`--spoilt` deletes a job when it is claimed: then the script must find mails that never arrived.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

from falcon.testing import TestClient

from authapi import AuthAPI, Settings, create_app, features, outbox
from authapi.database.sqlite.connections import Connection, Connections
from authapi.features.mail import Mails
from authapi.mail.kinds import Letter
from authapi.outbox import OutboxJob
from authapi.outbox.delivery import Refused
from faults.cluster import Cluster, running_cluster
from faults.harness import CHEAP, ROOT, conclude
from faults.nodes import node_environ
from faults.outbox import NOTE, SQL_WAITING, Relay, count, judge, notes, relay_environ, spoil

USER = {"username": "user", "email": "user@example.org", "password": "a password of a test"}
SQL_DEAD = "SELECT count(*) FROM outbox WHERE due_at IS NULL"
SQL_EVENTS = "SELECT count(*) FROM audit_log WHERE event = 'mail_failed'"
COMMAND = (sys.executable, "-m", "faults.outbox_statements")


@dataclass
class Written:
    """What was written: the numbers of notes, and how many others."""

    kills: int = 0
    notes: list[int] = field(default_factory=list)
    refused: int = 0
    links: int = 0


class Countdown:
    """Kills the process at one of its steps."""

    def __init__(self, left: int) -> None:
        """Take how many steps are made before."""
        self._left = left

    def step(self, *_: object) -> None:
        """Make a step, or end."""
        if self._left == 0:
            os.kill(os.getpid(), SIGKILL)
        self._left -= 1

    def count_statements(self) -> None:
        """Count the statements of each connection that is opened from now on."""
        step = self.step

        class Counted(Connection):
            def __init__(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - sqlite3's
                super().__init__(*args, **more)
                self.set_trace_callback(step)

        Connections.factory = Counted

    def count_exchanges(self) -> None:
        """Count what is said to a PostgreSQL server from now on."""
        from authapi.database.postgresql import connections  # noqa: PLC0415 - it may be missing

        wait, step = connections.Connection.wait, self.step

        def counted(self: Any, *args: Any, **more: Any) -> Any:  # noqa: ANN401 - psycopg's
            step()
            return wait(self, *args, **more)

        setattr(connections.Connection, "wait", counted)  # noqa: B010


class Sending:
    """An application whose mails are sent when it is told to, on a clock of its own."""

    def __init__(self) -> None:
        """Open the database of the settings, with a user."""
        settings = Settings.from_env(features=(*features.DEFAULT, notes()))
        self._ahead = 0
        self.app: AuthAPI = create_app(settings, clock=lambda: time.time() + self._ahead)
        self.client, self._mails = TestClient(self.app), self.app.core.of(Mails)
        self._mails.sender.pace = None
        self._send, self._mails.channel.send = self._mails.channel.send, self.send  # type: ignore[method-assign]
        self.sees: Callable[[OutboxJob], None] = lambda _: None
        assert self.client.simulate_post("/register", json=USER).status_code == 201

    def write(self, written: Written) -> None:
        """Write four mails."""
        numbers = [4 * written.links + each for each in range(3)]
        for number, fate in zip(numbers, ("", "refused", "put off"), strict=True):
            with self.app.core.database.transaction():
                self._mails.write(NOTE, data={"number": number, "fate": fate})
        body = {"usernameOrEmail": USER["email"]}
        assert self.client.simulate_post("/password/reset/request", json=body).status_code == 202
        written.notes += [numbers[0], numbers[2]]
        written.refused += 1
        written.links += 1

    def send(self, job: OutboxJob, parcel: Letter) -> None:
        """Send a mail. Raises Refused for those whose fate it is."""
        self.sees(job)
        fate = job.data.get("fate")
        if fate == "refused" or (fate == "put off" and not job.failures):
            raise Refused(fate, is_final=fate == "refused")
        self._send(job, parcel)

    def die_at(self, step: int) -> bool:
        """Send what is due in another process; return whether it was killed, at a step."""
        self.app.prepare_to_fork()
        if child := os.fork():
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status in {0, -SIGKILL}, status
            return status == -SIGKILL
        countdown = Countdown(step)
        self.sees = countdown.step
        if self.app.core.database.is_local:
            countdown.count_statements()
        else:
            countdown.count_exchanges()
        status = 1
        try:
            self._mails.sender.run_due()
            status = 0
        finally:
            os._exit(status)

    def take_over(self) -> None:
        """Send what a process has left, when its claims have run out; then what was put off."""
        for _ in range(2):
            self._ahead += outbox.LEASE
            self._mails.sender.run_due()


def write_and_die() -> Written:
    """Write mails, and kill what sends them at one step after another, until there is no other."""
    sending, written = Sending(), Written()
    for step in itertools.count():
        sending.write(written)
        was_killed = sending.die_at(step)
        sending.take_over()
        if not was_killed:
            break
        written.kills += 1
    return written


def run(
    folder: Path, *, spoilt: bool = False, cluster: Cluster | None = None
) -> tuple[str, list[str]]:
    """Do so in a process of its own; return the figures and the broken promises."""
    relay = Relay()
    relay.start()
    cheap = {f"AUTHAPI_{name.upper()}": str(value) for name, value in CHEAP.items()}
    ours = {"AUTHAPI_EMAIL_VERIFICATION": "off", "PYTHONPATH": str(ROOT), **relay_environ(relay)}
    database = node_environ(cluster.url) if cluster else {}
    said = subprocess.run(
        [*COMMAND, "--write", *(["--spoilt"] if spoilt else [])],
        cwd=folder,
        env={**os.environ, **cheap, **ours, **database},
        capture_output=True,
        text=True,
        check=True,
    )
    written = Written(**json.loads(said.stdout))
    dead, events, rows = (
        count(each, folder, cluster) for each in (SQL_DEAD, SQL_EVENTS, SQL_WAITING)
    )
    figures, broken = judge(relay.mails, written.notes, written.kills, rows - dead)
    if len(relay.links) != written.links:
        broken.append(f"{len(relay.links)} of {written.links} links arrived")
    broken += [f"{name} has {len(each)} links" for name, each in relay.links.items() if each[1:]]
    if {dead, events} != {written.refused}:
        broken.append(f"{dead} dead mails and {events} events of {written.refused} refused mails")
    return figures, broken


def main() -> int:
    """Run on one engine, or write and die; return the exit status."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--postgresql", action="store_true", help="on a PostgreSQL server")
    options.add_argument("--spoilt", action="store_true", help="delete jobs before they are sent")
    options.add_argument("--write", action="store_true", help="write and die, as the script calls")
    given = options.parse_args()
    if given.write:
        if given.spoilt:
            spoil()
        print(json.dumps(asdict(write_and_die())))
        return 0
    with (
        tempfile.TemporaryDirectory() as folder,
        running_cluster() if given.postgresql else nullcontext() as cluster,
    ):
        figures, broken = run(Path(folder), spoilt=given.spoilt, cluster=cluster)
    print(figures)
    return conclude(broken)


if __name__ == "__main__":
    sys.exit(main())
