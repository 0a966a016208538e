"""Session checks per second, beside a server that only answers constant bytes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from figures import Figure, Goal, ratios
from harness import Bench, BenchError, Server, ask, check_user, number, register

CONNECTIONS = (1, 8, 32)


def measure(bench: Bench) -> list[Figure]:
    """Session checks per second, beside the bare server's answers in the same round."""
    with bench.authapi("session") as server:
        cookie = register(server)
        size = len(check_user(server, cookie))
        with bench.bare(size) as bare:
            if len(ask(bare.port, "GET", "/user")[2]) != size:
                raise BenchError("The bare server's answer has another size than GET /user's.")
            rates = rates_of(bench, {"authapi": server, "bare": bare}, cookie)
        check_user(server, cookie)
    return list(chain.from_iterable(figures_of(rates, count) for count in CONNECTIONS))


def rates_of(
    bench: Bench, servers: Mapping[str, Server], cookie: str
) -> dict[tuple[str, int], list[float]]:
    """Answers per second of each server at each number of connections, of each round.

    They take turns, and who is first changes from round to round; round 0 is to warm up.
    """
    rates: dict[tuple[str, int], list[float]] = {}
    for turn in range(bench.rounds + 1):
        order = sorted(servers, reverse=bool(turn % 2))
        for count in CONNECTIONS if turn else CONNECTIONS[-1:]:
            for name in order:
                rate = per_second(bench, servers[name], count, cookie)
                if turn:
                    rates.setdefault((name, count), []).append(rate)
    return rates


def figures_of(rates: Mapping[tuple[str, int], list[float]], count: int) -> list[Figure]:
    """What one number of connections came to."""
    at = f"{count} connection{'s'[: count > 1]}"
    checks, answers = rates["authapi", count], rates["bare", count]
    return [
        Figure(f"session checks, {at}", checks, "/s"),
        Figure(f"bare answers, {at}", answers, "/s"),
        Figure(f"session check : bare, {at}", ratios(checks, answers), goal=Goal(">=", 0.80)),
    ]


def per_second(bench: Bench, server: Server, connections: int, cookie: str) -> float:
    """GET /user per second. Raises BenchError where one was refused."""
    output = bench.wrk(server, "/user", connections, "-H", f"Cookie: {cookie}")
    if "Non-2xx" in output:
        raise BenchError(f"GET /user was refused under load: {output}")
    return number("Requests/sec:", output)
