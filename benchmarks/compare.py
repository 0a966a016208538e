"""Measure this service and others in turn, and write RESULTS.md and results.svg: see README.md.

This needs wrk and authapi installed. The first run installs the other services. After that,
everything runs on 127.0.0.1, without any other network access.
"""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import load
import machine
import results
from bench import positive
from contestants import OURS, Bare, Contestant, Installed, Ours
from harness import Bench, BenchError, Server
from peers import PEERS, MissingError, avx2_argon2, default_home
from results import COSTS, OWN, Results

from authapi.settings import Settings

WARM_UP = 5  # seconds of session checks that do not count, while Node compiles
REST = 1  # seconds from the first answer to measuring memory
WORKERS = 2
BARE_ANSWER = 237  # bytes, as many as in an answer of GET /user


def installed(home: Path) -> tuple[list[Contestant], list[str]]:
    """Return the services that can take part, and why others cannot."""
    contestants: list[Contestant] = [Ours("authapi", "authapi", OURS, {})]
    absent = []
    try:
        avx2_argon2(home / "avx2")
        quick = {"PYTHONPATH": str(home / "avx2")}
        contestants.append(Ours("authapi_avx2", "authapi, argon2 built for AVX2", OURS, quick))
    except MissingError as error:
        absent.append(str(error))
    for peer in PEERS:
        try:
            peer.install(home / peer.name)
            contestants.append(
                Installed(peer.name, peer.title, peer, peer=peer, home=home / peer.name)
            )
        except MissingError as error:
            absent.append(str(error))
    contestants.append(Bare("bare", "bare waitress", OURS, BARE_ANSWER))
    return contestants, absent


def at_rest(bench: Bench, one: Contestant, found: Results) -> None:
    """Measure the start on an existing database, and memory after the first answer."""
    with one.running(bench, OWN) as server:
        time.sleep(REST)
        found.add("start", one, server.started_in)
        found.add("memory", one, server.shared_memory())


def under_checks(bench: Bench, one: Contestant, found: Results) -> None:
    """Measure the session checks of one process."""
    with one.running(bench, OWN) as server:
        warm_up(bench, one, server)
        checks = load.session_checks(bench, one, server, OWN)
        found.add("checks", one, checks.rate)
        found.add("checks p99", one, checks.p99)


def with_workers(bench: Bench, one: Contestant, found: Results) -> None:
    """Measure the session checks and the memory of two processes."""
    with one.running(bench, OWN, WORKERS) as server:
        time.sleep(REST)
        found.add("memory of 2", one, server.shared_memory())
        warm_up(bench, one, server, WORKERS)
        checks = load.session_checks(bench, one, server, OWN, WORKERS * load.CONNECTIONS)
        found.add("checks of 2", one, checks.rate)


def under_logins(bench: Bench, one: Contestant, found: Results) -> None:
    """Measure the logins at each cost."""
    for cost in COSTS:
        with one.running(bench, cost) as server:
            one.expect(server, one.service.login)
            found.add(f"logins {cost}", one, load.logins(bench, one, server))


def in_storm(bench: Bench, one: Contestant, found: Results) -> None:
    """Measure session checks while five times the measured logins are sent."""
    capacity = found.median(f"logins {OWN}", one.name)
    with one.running(bench, OWN) as server:
        warm_up(bench, one, server)
        storm = load.storm(bench, one, server, OWN, capacity)
    for name, value in storm.figures().items():
        found.add(f"storm {name}", one, value)


def warm_up(bench: Bench, one: Contestant, server: Server, workers: int = 1) -> None:
    """Run session checks that do not count."""
    for _ in range(math.ceil(WARM_UP / bench.seconds)):
        load.session_checks(bench, one, server, OWN, workers * load.CONNECTIONS)


def parts(one: Contestant) -> list[Callable[[Bench, Contestant, Results], None]]:
    """Return the measurements and their contestants."""
    if one.name == "bare":
        return [under_checks]
    if one.name == "authapi_avx2":
        return [under_logins]
    several = [with_workers] if one.service.workers else []
    return [at_rest, under_checks, *several, under_logins, in_storm]


def measure(bench: Bench, contestants: list[Contestant], found: Results) -> None:
    """Run all rounds. The first contestant changes from round to round, for each measurement."""
    for one in contestants:
        for cost in COSTS:
            one.prepare(bench, cost)
    for turn in range(bench.rounds):
        order = contestants[turn % len(contestants) :] + contestants[: turn % len(contestants)]
        for part in (at_rest, under_checks, with_workers, under_logins, in_storm):
            for one in order:
                if part in parts(one):
                    print(f"round {turn + 1}: {one.title}, {part.__name__}", flush=True)
                    part(bench, one, found)


def arguments() -> argparse.Namespace:
    """Parse the command line's options."""
    parser = argparse.ArgumentParser(description="Measure authapi beside its peers.")
    parser.add_argument("--rounds", type=positive, default=5, help="default: 5")
    parser.add_argument(
        "--seconds", type=positive, default=4, help="of each measurement; default: 4"
    )
    parser.add_argument("--home", type=Path, default=default_home(), help="where peers are put")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent, help="where the results are put"
    )
    return parser.parse_args()


def main() -> int:
    """Run the comparison; return its exit status, 1 if a measurement failed."""
    options = arguments()
    if shutil.which("wrk") is None:
        sys.exit("compare.py needs wrk, which is not installed: apt-get install wrk.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped
    home = options.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    contestants, absent = installed(home)
    print("\n".join(f"Left out: {reason}" for reason in absent))
    try:
        with tempfile.TemporaryDirectory(prefix="authapi-compare-") as directory:
            bench = Bench(options.rounds, options.seconds, Path(directory), Settings())
            found = Results(contestants, machine.describe(bench))
            measure(bench, contestants, found)
            results.write(options.out, bench, found, home, absent)
    except BenchError as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
