"""Session checks of the service and its peers on one PostgreSQL server, and their CPU time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import load
import session
from contestants import OURS, Contestant, Installed, Ours
from figures import Figure, Goal, ratios
from harness import Bench, Server
from peers import PEERS, MissingError, default_home
from postgresql import PostgreSQL, cpu_of
from results import OWN

CONNECTIONS = (1, 8, 32)


@dataclass
class Found:
    """What was measured of one service over a number of connections, round by round."""

    rates: list[float] = field(default_factory=list)
    service: list[float] = field(default_factory=list)  # CPU for one answer, in us
    database: list[float] = field(default_factory=list)


def contestants(bench: Bench, server: PostgreSQL) -> list[Contestant]:
    """Return the service on SQLite and on the server, and the peers that can be installed."""
    home = default_home()
    home.mkdir(parents=True, exist_ok=True)
    found: list[Contestant] = [
        Ours("sqlite", "authapi on SQLite", OURS, {}),
        Ours("authapi", "authapi", OURS, server.variables("authapi")),
    ]
    for peer in PEERS:
        if peer.postgresql:
            try:
                peer.install(home / peer.name)
            except MissingError as error:
                bench.commands[f"Left out: {error}"] = None
            else:
                url = server.url(peer.name)
                found.append(Installed(peer.name, peer.title, peer, peer, home / peer.name, url))
    return found


def measure(bench: Bench, server: PostgreSQL) -> list[Figure]:
    """Measure session checks of all services, in turn, and the CPU time that each one costs."""
    local = replace(bench, variables=None)
    everyone = contestants(local, server)
    for one in everyone:
        one.prepare(local, OWN)
    found = {(one.name, count): Found() for one in everyone for count in CONNECTIONS}
    with ExitStack() as stack:
        running = {one.name: stack.enter_context(one.running(local, OWN)) for one in everyone}
        for one in everyone:  # the warm-up
            load.session_checks(local, one, running[one.name], OWN, CONNECTIONS[-1])
        for turn in range(bench.rounds):
            first = turn % len(everyone)
            for count in CONNECTIONS:
                for one in everyone[first:] + everyone[:first]:
                    target = running[one.name]
                    add_checks(local, server, one, target, found[one.name, count], count)
    return list(check_figures(everyone, found))


def measure_turns(bench: Bench, server: PostgreSQL) -> list[Figure]:
    """Measure checks of one session and of many in turn, and the CPU time of the latter."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    its = Found()
    with bench.authapi("sessions", **session.ROTATED) as target:
        one, many = session.rotation(bench, target)
        for _ in range(bench.rounds):
            for is_many, options in ((False, one), (True, many)):
                before = cpu_of(target), server.cpu()
                rate = session.per_second(bench, target, CONNECTIONS[-1], *options)
                rates[is_many].append(rate)
                if is_many:
                    answers = rate * bench.seconds / 1e6
                    its.service.append((cpu_of(target) - before[0]) / answers)
                    its.database.append((server.cpu() - before[1]) / answers)
    return [
        *session.turn_figures(rates[False], rates[True]),
        Figure("  CPU of the service for one", its.service, "us"),
        Figure("  CPU of the database for one", its.database, "us", Goal("<=", 15)),
    ]


def add_checks(  # noqa: PLR0913, PLR0917 - what, where and how much
    bench: Bench,
    server: PostgreSQL,
    one: Contestant,
    target: Server,
    found: Found,
    connections: int,
) -> None:
    """Add one round's session checks of one service."""
    before = cpu_of(target), server.cpu()
    done = load.session_checks(bench, one, target, OWN, connections)
    found.rates.append(done.rate)
    found.service.append(1e6 * (cpu_of(target) - before[0]) / done.answers)
    found.database.append(1e6 * (server.cpu() - before[1]) / done.answers)


def check_figures(
    everyone: list[Contestant], found: dict[tuple[str, int], Found]
) -> Iterator[Figure]:
    """Yield the figures, and the goals at the most connections."""
    for count in CONNECTIONS:
        at = f"{count} connection{'s'[: count > 1]}"
        is_most = count == CONNECTIONS[-1]
        for one in everyone:
            its = found[one.name, count]
            yield Figure(f"{one.title}, {at}", its.rates, "/s")
            yield Figure(f"  CPU of the service for one, {at}", its.service, "us")
            if one.name != "sqlite":
                goal = Goal("<=", 15) if one.name == "authapi" and is_most else None
                yield Figure(f"  CPU of the database for one, {at}", its.database, "us", goal)
        for one in everyone:
            if one.name != "authapi":
                goal = Goal(">=", 0.85 if one.name == "sqlite" else 8) if is_most else None
                values = ratios(found["authapi", count].rates, found[one.name, count].rates)
                yield Figure(f"authapi : {one.title}, {at}", values, "", goal)
