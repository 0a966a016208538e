"""Session checks in calm and in a storm of logins, with 500 mails waiting and with none."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import login
import openloop
import storm
from figures import Figure, Goal, ratios
from harness import HOST, START_DEADLINE, Bench, BenchError, Server, ask, check_login, register
from sink import Sink

MAILS = 500
MAIL = {
    "AUTHAPI_MAIL_FROM": "noreply@example.com",
    "AUTHAPI_MAIL_USER_LIMIT": "999999/second",
    "AUTHAPI_PAGES_URL": "http://localhost:3000",
    "AUTHAPI_EMAIL_VERIFICATION": "off",
    "AUTHAPI_SECURITY_NOTICES": "security",  # logins write none
}
COLUMNS = "channel, kind, user_id, address, data, language, created_at, expires_at, due_at"
SQL_FIRST = f"SELECT {COLUMNS} FROM outbox LIMIT 1"
SQL_WRITE = f"INSERT INTO outbox ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
SQL_LEFT = "SELECT count(*) FROM outbox"


@dataclass(frozen=True)
class Round:
    """Session checks a second, and mails a second where they wait."""

    calm: float
    calm_mails: float
    storm: float
    storm_mails: float
    sent: float
    sent_in_storm: float


class Mailing:
    """A service whose visitor gets mails, and the relay that takes them."""

    def __init__(self, server: Server, relay: Sink, path: Path) -> None:
        """Take the service, the relay and the database."""
        self.server, self.relay = server, relay
        self._path, self._renames = path, 0
        self.cookie = storm.visitor(server)

    @contextmanager
    def mails(self) -> Iterator[None]:
        """Let mails wait during the block. Raises BenchError if none is left in the end."""
        with closing(sqlite3.connect(self._path, timeout=START_DEADLINE)) as database:
            self._rename()
            mail = database.execute(SQL_FIRST).fetchone()
            if mail is None:
                raise BenchError("The mail was sent before it was read.")
            with database:
                database.executemany(SQL_WRITE, [mail] * MAILS)
            before = self.relay.taken
            while self.relay.taken == before:
                time.sleep(0.01)
            yield
            (left,) = database.execute(SQL_LEFT).fetchone()
            with database:
                database.execute("DELETE FROM outbox")
        if not left:
            raise BenchError(f"All {MAILS} mails were sent before the end: try fewer seconds.")

    def _rename(self) -> None:
        """Change the visitor's name, of which a mail tells."""
        self._renames += 1
        body = {"username": f"visitor{self._renames}"}
        status, headers, text = ask(self.server.port, "PATCH", "/user", body, Cookie=self.cookie)
        if status != 200:
            raise BenchError(f"PATCH /user was answered {status}: {text!r}")
        if renewed := headers["Set-Cookie"]:
            self.cookie = renewed.partition(";")[0]


def measure(bench: Bench) -> list[Figure]:
    """Measure session checks with mails and without, in turn."""
    with Sink() as relay:
        url = {"AUTHAPI_MAIL_URL": f"smtp+plain://{HOST}:{relay.port}"}
        with bench.authapi("storm-mail", **MAIL, **url) as server:
            register(server)
            check_login(server)
            mailing = Mailing(server, relay, bench.directory / "storm-mail" / "authapi.db")
            rounds = [play(bench, mailing) for _ in range(bench.rounds)]
    calm, with_mails = [each.calm for each in rounds], [each.calm_mails for each in rounds]
    alone, both = [each.storm for each in rounds], [each.storm_mails for each in rounds]
    return [
        Figure("session checks, calm", calm, "/s"),
        Figure("session checks, mails", with_mails, "/s"),
        Figure("session checks, storm", alone, "/s"),
        Figure("session checks, storm and mails", both, "/s"),
        Figure("mails : none, calm", ratios(with_mails, calm), "", Goal(">=", 0.8)),
        Figure("mails : none, storm", ratios(both, alone), "", Goal(">=", 0.8)),
        Figure("mails sent in calm", [each.sent for each in rounds], "/s"),
        Figure("mails sent in the storm", [each.sent_in_storm for each in rounds], "/s"),
    ]


def play(bench: Bench, mailing: Mailing) -> Round:
    """Measure one round."""
    rate, _ = login.per_second(bench, mailing.server)
    calm, _ = checks(bench, mailing)
    with mailing.mails():
        calm_mails, sent = checks(bench, mailing)
    with raging(bench, mailing, rate):
        alone, _ = checks(bench, mailing)
    with mailing.mails(), raging(bench, mailing, rate):
        both, sent_in_storm = checks(bench, mailing)
    return Round(calm, calm_mails, alone, both, sent, sent_in_storm)


@contextmanager
def raging(bench: Bench, mailing: Mailing, rate: float) -> Iterator[None]:
    """Send five times the possible logins during the block."""
    seconds, request = bench.seconds + storm.LEAD, storm.request(mailing.server)
    with openloop.running(mailing.server.port, request, storm.OFFERED * rate, seconds):
        time.sleep(storm.LEAD)
        yield


def checks(bench: Bench, mailing: Mailing) -> tuple[float, float]:
    """Return session checks and mails a second."""
    before = mailing.relay.taken
    rate, _ = storm.session_checks(bench, mailing.server, mailing.cookie)
    return rate, (mailing.relay.taken - before) / bench.seconds
