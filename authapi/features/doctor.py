"""Doctor: whether the settings, the machine and the database fit each other.

Endpoints: none. Command: `authapi doctor`. Table: none of its own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

from authapi.commands import Argument, Call, Command, as_owner
from authapi.database import Database
from authapi.database.findings import Finding, fault, ok, warn
from authapi.database.opening import missing_migrations, open_as_it_is
from authapi.errors import StartError, Unavailable
from authapi.features.database_check import database_findings, show
from authapi.hosts import are_same_site, host_of
from authapi.public_suffixes import problem_of
from authapi.settings import (
    DatabaseSettings,
    PasswordSettings,
    ServerSettings,
    SessionSettings,
    Settings,
    WorkerSettings,
)

REQUIRES = ("database_check",)

DAY = 86_400
OLDEST_BACKUP = 7 * DAY
SLOW_CLOCK = 300  # seconds
LITTLE_ROOM = 64 << 20  # bytes, beside the database's own size
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def findings(settings: Settings, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Yield what is found, with an ok for each check that finds nothing."""
    yield from _address(settings)
    yield from _proxy(settings)
    yield from _origins(settings)
    yield from _cookie(settings)
    yield from _hashing(settings)
    yield from _memory(settings)
    yield from _room(settings)
    yield from database_findings(settings, deep=False)
    try:
        with open_as_it_is(settings) as database:
            yield from _of_rows(settings, database, now())
    except (StartError, Unavailable):  # the check of the database says so
        return


def _address(settings: Settings) -> Iterator[Finding]:
    server = settings.of(ServerSettings)
    if server.https:
        yield ok("public URL", f"{server.public_url}: cookies are Secure.")
    elif host_of(server.public_url) in LOOPBACK:
        yield warn(
            "public URL",
            f"{server.public_url} is this machine alone: set AUTHAPI_PUBLIC_URL to the https "
            "address that browsers see.",
        )
    else:
        yield fault(
            "public URL",
            f"{server.public_url} is not https, so cookies and passwords can be read on the way: "
            "let a proxy end TLS, and set AUTHAPI_PUBLIC_URL.",
        )


def _proxy(settings: Settings) -> Iterator[Finding]:
    from authapi.server.forwarded import resolved  # noqa: PLC0415 - waitress is slow to import

    server = settings.of(ServerSettings)
    try:
        proxies = resolved(server.trusted_proxy)
    except StartError as error:
        yield fault("proxy", str(error))
        return
    if proxies:
        yield ok("proxy", f"X-Forwarded-For is believed from {', '.join(proxies.split())}.")
    elif server.https:
        yield warn(
            "proxy",
            "The public URL is https, and no proxy is trusted, so all clients would share the "
            "limits of one address: set AUTHAPI_TRUSTED_PROXY.",
        )
    else:
        yield ok("proxy", "No proxy is trusted.")


def _origins(settings: Settings) -> Iterator[Finding]:
    server = settings.of(ServerSettings)
    others = [each for each in sorted(server.origins) if not are_same_site(each, server.public_url)]
    if others:
        yield warn(
            "origins",
            f"Browsers send no cookie from {', '.join(others)}, another site than "
            f"{server.public_url}: open both by names of one domain, and by one scheme, or let "
            "its pages keep tokens (docs/features/tokens.md).",
        )
    else:
        yield ok("origins", f"{len(server.origins)} other origins may call the service.")


def _cookie(settings: Settings) -> Iterator[Finding]:
    domain = settings.of(SessionSettings).cookie_domain
    problem, place = problem_of(domain), domain or "its own host"
    found = fault if problem else ok
    yield found("cookie domain", problem or f"The cookie goes to {place}.")


def _hashing(settings: Settings) -> Iterator[Finding]:
    """Look whether hashing threads may lower their priority and keep their memory."""
    from authapi.passwords.hash_lane import lower_priority  # noqa: PLC0415
    from authapi.passwords.hashing import Arena  # noqa: PLC0415

    refused: list[OSError] = []

    def lower() -> None:
        try:
            lower_priority(settings.of(WorkerSettings).hash_nice)
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=lower)  # a thread never gets its priority back
    thread.start()
    thread.join()
    if refused:
        yield warn(
            "priority",
            f"Hashing cannot lower its priority ({refused[0].strerror}), so session checks wait "
            "for logins: allow setpriority, which ~@resources of systemd forbids.",
        )
    else:
        yield ok("priority", "Hashing runs at a lower priority than session checks.")
    try:
        Arena(settings.of(PasswordSettings).argon2_memory_kib)
        yield ok("hash memory", "Hashing keeps its memory from one password to the next.")
    except (MemoryError, OSError) as error:
        yield warn(
            "hash memory",
            f"The system refuses the memory that hashing keeps ({error}), so each hash takes twice "
            "the CPU time: raise the memory limit, or update libffi to 3.4.",
        )


def _memory(settings: Settings) -> Iterator[Finding]:
    from authapi.machine import memory_limit  # noqa: PLC0415
    from authapi.server.capacity import memory_needed  # noqa: PLC0415

    try:
        needed = memory_needed(settings)
    except StartError as error:
        yield fault("memory", str(error))
        return
    limit = memory_limit()
    of = f"of the limit of {limit >> 20:,} MiB" if limit else "and no limit is set"
    yield ok("memory", f"The service takes up to {needed}, {of}.")


def _room(settings: Settings) -> Iterator[Finding]:
    database = settings.of(DatabaseSettings)
    if database.is_postgresql:
        return
    path = database.database_path.resolve()
    size = path.stat().st_size if path.exists() else 0
    place = path.parent
    if not place.is_dir():
        yield fault("room", f"There is no directory {place}: make it, for the service's user.")
        return
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    text = f"{free >> 20:,} MiB are free in {place}"
    if free < size + LITTLE_ROOM:
        yield warn("room", f"{text}: make room, an update copies the database of {size >> 20} MiB.")
    else:
        yield ok("room", f"{text}.")
    if not os.access(place, os.W_OK):
        yield fault(
            "directory", f"This user cannot write in {place}: chown it, or run as its user."
        )


def _of_rows(settings: Settings, database: Database, now: float) -> Iterator[Finding]:
    """Look at what needs the tables of this release."""
    if missing_migrations(database):
        return
    contents = database.statements("contents")
    shared = database.clock(time.time)() if not database.is_local else now
    newest = database.statements("audit").newest_time() or 0
    ahead = max(newest - now, abs(shared - now))
    if ahead > SLOW_CLOCK:
        yield warn(
            "clock",
            f"The clock is {ahead:.0f} seconds off the "
            f"{'newest audit entry' if database.is_local else 'server'}: let NTP set it.",
        )
    else:
        yield ok("clock", f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now))} UTC.")
    if database.is_local:
        yield from _backup(contents.newest_backup(), now)
    else:
        yield from _connections(settings, contents.connections()[1])


def _backup(made_at: int | None, now: float) -> Iterator[Finding]:
    if made_at is None:
        yield warn("backup", "The audit log knows no backup: make one with authapi db backup.")
        return
    age = now - made_at
    text = f"The newest backup is {age / DAY:.1f} days old"
    if age > OLDEST_BACKUP:
        yield warn("backup", f"{text}: make one with authapi db backup, each day.")
    else:
        yield ok("backup", f"{text}.")


def _connections(settings: Settings, most: int) -> Iterator[Finding]:
    workers = settings.of(WorkerSettings).workers
    needed = workers * (settings.of(DatabaseSettings).database_connections + 1)
    text = f"This node opens up to {needed} of the server's {most} connections"
    if needed >= most:
        yield fault(
            "node", f"{text}: raise max_connections, or lower AUTHAPI_DATABASE_CONNECTIONS."
        )
    else:
        yield ok("node", f"{text}.")


def _doctor(call: Call) -> int:
    settings = as_owner(call.settings)
    return show(call, findings(settings), strict=call.arguments.strict)


COMMANDS = (
    Command(
        "doctor",
        description="Check the settings, the machine, the database and its keys, a line each: ok, "
        "warn, or fault, and what to do. Nothing is changed. The exit status is 1 if there is a "
        "fault.",
        run=_doctor,
        arguments=(Argument("--strict", "exit with 1 for a warning too", action="store_true"),),
        needs_service=False,
    ),
)
