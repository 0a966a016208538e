"""Measure look-ups among 1,000, 1,000,000 and 10,000,000 users, and the bytes for each user.

`python benchmarks/size.py` fills a database for each size by SQL. Each user has a session and the
audit log's entry of its login. They are inserted in random order, so that the indexes are as full
as after years of logins. 10,000,000 users take 9 GB of disk, 5 GB of memory and ten minutes.
`--directory` keeps the databases for another run, which adds its logins to the logs.

The service's own code is timed in one process, without a socket, on random users of the whole
table. The sizes take turns in every round, and a round's figure is the median of its calls.

- session check: `SessionRepository.authenticate`.
- GET /user: the whole application, with a token whose signature is cached. A new token costs the
  same at every size, and so much that it would hide the rest.
- login's statements: `by_identifier`, by username and by email in turn, and what the transaction
  does between BEGIN and COMMIT. The commit, which waits for the disk, is separate.

Warm are the system's page cache, because another connection has just read the same rows and index
entries, and in SQLite's cache (2 MiB for each connection) the upper pages of the indexes, or all of
a small database. Cold are the leaf pages of a large database in SQLite's cache. Nothing is timed
that must be read from the disk, because that depends on the machine's memory.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import os
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

from figures import Figure, Goal, ratios
from harness import Bench, BenchError

from authapi import Settings, create_app
from authapi.core import Core
from authapi.database.sqlite import SQLiteDatabase
from authapi.events import Caller
from authapi.features.audit import AuditRepository
from authapi.features.sessions import LoggedIn, SessionRepository
from authapi.features.users import UserRepository
from authapi.inline import IN_LOOP
from authapi.principal import Claims
from authapi.session_tokens import SessionTokens
from authapi.settings import SessionSettings

SIZES = (1_000, 1_000_000, 10_000_000)
ROUNDS = 10
CALLS = 1_000  # of each look-up, in each round; as many tokens as are cached
TURN = 50  # calls, before the other sizes' turn
LOGINS = 50  # in each round, each with its commit
WARM_UP = 20  # logins before
STEP = 250_000  # users between two lines of progress
MOST_CACHE = 4_194_304  # KiB of memory for filling
GOAL = Goal("<=", 1.3)
GOALS = ("session check", "GET /user", "login's statements")


IP = "203.0.113.195"
USER_AGENT = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36"
)
REQUEST_ID = "90c2f3a1be64d758"

FILLING = """
PRAGMA journal_mode = DELETE;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_size = -{kibibytes};
BEGIN;
"""

# Multiplied by an odd number, modulo 2**32, all are different: names in random order.
USERS = """
WITH RECURSIVE
numbers (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last),
names (n, name) AS (
    SELECT n,
           substr('alicebrunoclaradavidelenafelixgracehenryisaackarlalauranancy', 1 + n % 12 * 5, 5)
           || (n * 2654435761 % 4294967296)
      FROM numbers
)
INSERT INTO users (username, username_key, email, email_key, password_hash, created_at, updated_at)
SELECT name, name, name || '@gmail.com', name || '@gmail.com',
       '$argon2id$v=19$m=47104,t=1,p=1$' || substr(hex(randomblob(11)), 1, 22)
       || '$' || substr(hex(randomblob(22)), 1, 43),
       :now - 31536000 + 31536000 * n / :users, :now - 31536000 + 31536000 * n / :users
  FROM names;
"""

# The nth login was within two days, by another user than those before: 1000003 is a prime.
LOGINS_OF_EACH = """
WITH RECURSIVE
numbers (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last),
logins (n, user_id, time) AS (
    SELECT n, 1 + n * 1000003 % :users, :now - 172800 + 172800 * n / :users FROM numbers
)
"""

SESSIONS = f"""{LOGINS_OF_EACH},
seen (n, user_id, time, last) AS (
    SELECT n, user_id, time, time + abs(random()) % (:now - time + 1) FROM logins
)
INSERT INTO sessions
       (id_hash, user_id, created_at, authenticated_at, last_seen_at, expires_at, ip, user_agent)
SELECT session_id(n), user_id, time, time, last, last + :lifetime, :ip, :user_agent
  FROM seen;
"""

ENTRIES = f"""{LOGINS_OF_EACH}
INSERT INTO audit_log (created_at, event, user_id, session_id, ip, user_agent, request_id)
SELECT time, 'logged_in', user_id, session_id(n), :ip, :user_agent, :request_id
  FROM logins;
"""

A_MEMBER = """
SELECT sessions.id, users.id, users.username, users.email
  FROM sessions JOIN users ON users.id = sessions.user_id
 WHERE sessions.id >= :number
 ORDER BY sessions.id
 LIMIT 1;
"""

ALL_INDEXES = """
SELECT EXISTS (SELECT 1 FROM sessions WHERE id_hash = ?1),
       EXISTS (SELECT 1 FROM sessions WHERE user_id = ?2),
       EXISTS (SELECT 1 FROM audit_log WHERE user_id = ?2),
       EXISTS (SELECT 1 FROM users WHERE username_key = ?3),
       EXISTS (SELECT 1 FROM users WHERE email_key = ?4);
"""

# If `aggregate` is true, `pageno` is the number of pages; `pgsize` overflows at 2 GiB.
BYTES = """
SELECT tbl_name, sum(dbstat.pageno) * page_size
  FROM pragma_page_size, dbstat JOIN sqlite_schema USING (name)
 WHERE aggregate = TRUE AND tbl_name IN ('users', 'sessions', 'audit_log')
 GROUP BY tbl_name;
"""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Member:
    """A user, and the number of one of their sessions."""

    session: int
    id: int
    username: str
    email: str


class Service:
    """The service on a filled database. Its clock moves only by a second at each login."""

    def __init__(self, path: Path, users: int, pragmas: Sequence[str]) -> None:
        """Open it for the calling thread, with pragmas for its connection."""
        self.path = path
        self.users = users
        self._aside = sqlite3.connect(path, isolation_level=None)
        ((self.now, self._newest),) = self._aside.execute(
            "SELECT (SELECT max(created_at) FROM audit_log) + 1, (SELECT max(id) FROM sessions)"
        )
        self._app = create_app(settings_of(path), clock=lambda: self.now)
        self._core: Core = self._app.core
        self._database = cast("SQLiteDatabase", self._core.database)
        self._accounts = self._core.of(UserRepository)
        self._sessions = self._core.of(SessionRepository)
        self._log = self._core.of(AuditRepository)
        for pragma in pragmas:
            self._database.connection.execute(f"PRAGMA {pragma}")

    def close(self) -> None:
        """Close its connections, which removes the log."""
        self._aside.close()
        self._app.close()

    def draw(self, count: int) -> list[Member]:
        """Return random users with a session, whose pages another connection has just read."""
        numbers = (random.randrange(1, self._newest) for _ in range(count))
        rows = [self._aside.execute(A_MEMBER, (number,)).fetchone() for number in numbers]
        for number, *columns in rows:
            found = self._aside.execute(ALL_INDEXES, (session_id(number), *columns)).fetchone()
            if not all(found):
                raise BenchError(f"Session {number} and its user are not in all indexes.")
        return [Member(*row) for row in rows]

    def turns(self) -> Iterator[dict[str, list[float]]]:
        """Yield the parts of a round, so that others can take turns: microseconds by figure."""
        members = self.draw(CALLS)
        claims = [self._claims(member) for member in members]
        requests = [self._request(each) for each in claims]
        yield from timed("session check", self._authenticate, claims)
        yield from timed("GET /user, a new token", self._get_user, requests)
        yield from timed("GET /user", self._get_user, requests)
        yield from timed("user by username", self._find, [member.username for member in members])
        yield from timed("user by email", self._find, [member.email for member in members])
        for number, member in enumerate(self.draw(WARM_UP + LOGINS)):
            times = self._log_in(member)
            yield times if number >= WARM_UP else {}

    def sizes(self) -> Iterator[tuple[str, float]]:
        """Return the bytes for each user, of the file and of each table with its indexes."""
        yield "file", self.path.stat().st_size / self.users
        with suppress(sqlite3.OperationalError):  # this SQLite has no dbstat
            for table, size in self._aside.execute(BYTES):
                yield table, size / self.users

    def _claims(self, member: Member) -> Claims:
        """Return the claims of a token from within the last hour, which needs no renewal yet."""
        issued_at = self.now - random.randrange(3_600)
        return Claims(
            id=member.id,
            username=member.username,
            sub=str(member.id),
            iat=issued_at,
            exp=issued_at + self._core.settings.of(SessionSettings).session_lifetime,
            sid=secret_of(member.session),
        )

    def _request(self, claims: Claims) -> dict[str, Any]:
        """Return the environ that a server makes of GET /user."""
        token = self._core.of(SessionTokens).issue(claims)
        return {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/user",
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "3001",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": IP,
            "HTTP_HOST": "127.0.0.1:3001",
            "HTTP_USER_AGENT": USER_AGENT,
            "HTTP_COOKIE": f"{self._core.settings.of(SessionSettings).cookie_name}={token}",
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.input": io.BytesIO(),
            IN_LOOP: True,
        }

    def _authenticate(self, claims: Claims) -> bool:
        return self._sessions.authenticate(claims, self.now) is not None

    def _get_user(self, request: dict[str, Any]) -> bool:
        statuses: list[str] = []

        def start(status: str, _headers: object, _failure: object = None) -> Callable[..., None]:
            statuses.append(status)
            return statuses.clear  # the output, which nobody writes to

        return bool(b"".join(self._app(request, start))) and statuses == ["200 OK"]

    def _find(self, identifier: str) -> bool:
        return self._accounts.by_identifier(identifier) is not None

    def _log_in(self, member: Member) -> dict[str, list[float]]:
        """Do what a login does, without the password and the token. Return microseconds."""
        self.now, self._newest = self.now + 1, self._newest + 1
        changes = self._database.connection.total_changes
        identifier = member.username if self.now % 2 else member.email
        marks = [time.perf_counter_ns()]
        credential = self._accounts.by_identifier(identifier)
        marks.append(time.perf_counter_ns())
        if credential is None:
            raise BenchError(f"{identifier} is not found.")
        with self._database.transaction():
            marks.append(time.perf_counter_ns())
            caller = Caller(IP, USER_AGENT, REQUEST_ID)
            name = session_id(self._newest)
            lifetime = self._core.settings.of(SessionSettings).session_lifetime
            self._sessions.revoke_unused(member.id, kept=99, now=self.now)
            expires_at = self.now + lifetime
            self._sessions.insert(
                name,
                credential,
                caller,
                now=self.now,
                expires_at=expires_at,
                methods="pwd",
                second_factor_at=None,
            )
            self._log.insert(LoggedIn(member.id, caller, name), self.now)
            marks.append(time.perf_counter_ns())
        marks.append(time.perf_counter_ns())
        if self._database.connection.total_changes != changes + 2:
            raise BenchError("A login added other rows than a session and an entry of the log.")
        find, _begin, write, commit = ((end - start) / 1_000 for start, end in pairwise(marks))
        return {"login's statements": [find + write], "login's commit": [commit]}


def secret_of(session: int) -> str:
    """Return the secret of a session by its number, as long as a random one."""
    digest = hashlib.sha256(b"%d" % session).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def session_id(session: int) -> str:
    """Return the public id of a session by its number."""
    return hashlib.sha256(secret_of(session).encode()).hexdigest()


def timed(
    name: str, action: Callable[[Item], bool], items: list[Item]
) -> Iterator[dict[str, list[float]]]:
    """Yield the microseconds of an action on each item, TURN at a time. Raises BenchError."""
    for first in range(0, len(items), TURN):
        times = []
        for item in items[first : first + TURN]:
            began = time.perf_counter_ns()
            succeeded = action(item)
            times.append((time.perf_counter_ns() - began) / 1_000)
            if not succeeded:
                raise BenchError(f"{name}: nothing found for {item}.")
        yield {name: times}


def round_of(services: Sequence[Service]) -> dict[int, dict[str, float]]:
    """Return the medians of a round by size and figure. The services take turns."""
    times: dict[int, dict[str, list[float]]] = {service.users: {} for service in services}
    for turn in zip(*(service.turns() for service in services), strict=True):
        for service, measured in zip(services, turn, strict=True):
            for name, values in measured.items():
                times[service.users].setdefault(name, []).extend(values)
    return {
        users: {name: statistics.median(values) for name, values in named.items()}
        for users, named in times.items()
    }


def settings_of(path: Path) -> Settings:
    """Return the default settings for a benchmark's database."""
    return Settings(database_url=f"sqlite:///{path}")


def database_of(directory: Path, users: int) -> Path:
    """Return a database with this many users; fill it if it does not exist yet."""
    whole, partial = directory / f"{users}", directory / f"{users}.part"
    if not whole.exists():
        began = time.monotonic()
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        create_app(settings_of(partial / "authapi.db")).close()
        fill(partial / "authapi.db", users)
        partial.rename(whole)
        print(f"{users:,} users filled in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return whole / "authapi.db"


def fill(path: Path, users: int) -> None:
    """Insert the users, sessions and entries in one transaction, and sync them to the disk."""
    values = {
        "users": users,
        "now": int(time.time()),
        "lifetime": settings_of(path).of(SessionSettings).session_lifetime,
        "ip": IP,
        "user_agent": USER_AGENT,
        "request_id": REQUEST_ID,
    }
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("session_id", 1, session_id, deterministic=True)
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1_024
        connection.executescript(FILLING.format(kibibytes=min(MOST_CACHE, available // 2)))
        for first in range(1, users + 1, STEP):
            last = min(users, first + STEP - 1)
            for statement in (USERS, SESSIONS, ENTRIES):
                connection.execute(statement, values | {"first": first, "last": last})
            print(f"{last:,} of {users:,} users", end="\r", file=sys.stderr, flush=True)
        connection.execute("COMMIT")
    os.sync()


@contextmanager
def opened(
    directory: Path, sizes: Sequence[int], pragmas: Sequence[str]
) -> Iterator[list[Service]]:
    """Open the service on a database of each size while the block runs."""
    paths = [database_of(directory, users) for users in sizes]
    services = [Service(path, users, pragmas) for path, users in zip(paths, sizes, strict=True)]
    try:
        yield services
    finally:
        for service in services:
            service.close()


def measure(
    bench: Bench, sizes: Sequence[int] = SIZES, pragmas: Sequence[str] = ()
) -> list[Figure]:
    """Measure the times at each size, the ratio of the ends, and the bytes for each user."""
    directory = bench.directory / "size"
    directory.mkdir(parents=True, exist_ok=True)
    with opened(directory, sorted(set(sizes)), pragmas) as services:
        sized = [figure for service in services for figure in bytes_for_each(service)]
        round_of(services)  # warm-up
        rounds = [round_of(services[:: (-1) ** turn]) for turn in range(bench.rounds)]
    names = rounds[0][min(sizes)]
    return [figure for name in names for figure in figures_of(name, rounds)] + sized


def figures_of(name: str, rounds: list[dict[int, dict[str, float]]]) -> list[Figure]:
    """Return one measurement's time at each size, and the ratio of the ends."""
    times = {users: [medians[users][name] for medians in rounds] for users in sorted(rounds[0])}
    low, high = min(times), max(times)
    return [
        *(Figure(f"{name}, {users:,} users", values, "us") for users, values in times.items()),
        Figure(
            f"{name}, {high:,} : {low:,}",
            ratios(times[high], times[low]),
            goal=GOAL if name in GOALS else None,
        ),
    ]


def bytes_for_each(service: Service) -> list[Figure]:
    """Return the bytes for each user at one size."""
    return [
        Figure(f"{what} for each of {service.users:,} users", [size], "bytes")
        for what, size in service.sizes()
    ]


def positive(text: str) -> int:
    """Parse a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def arguments() -> argparse.Namespace:
    """Parse the command line's options."""
    parser = argparse.ArgumentParser(description="Measure look-ups among few and many users.")
    parser.add_argument("--users", type=positive, nargs="+", default=SIZES, help="the sizes")
    parser.add_argument("--rounds", type=positive, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--directory", type=Path, help="keeps the databases there; default: none")
    parser.add_argument(
        "--pragma",
        action="append",
        default=[],
        help="for the connections, such as cache_size=-8000",
    )
    return parser.parse_args()


def main() -> int:
    """Measure and print; return the exit status, 1 if a measurement failed."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="authapi-size-") as scratch:
        bench = Bench(options.rounds, 0, (options.directory or Path(scratch)).resolve(), Settings())
        try:
            figures = measure(bench, options.users, options.pragma)
        except BenchError as error:
            print(f"size.py: {error}", file=sys.stderr)
            return 1
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        name, median, span, unit = figure.row()
        verdict = figure.goal.verdict(figure.median) if figure.goal else ""
        print(f"{name:{width}}  {median:>8} {unit:5}  {span:17}  {verdict}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
