"""Session checks per second, compared with a server of constant bytes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from figures import Figure, Goal, ratios
from harness import (
    LOGIN,
    Bench,
    BenchError,
    Server,
    ask,
    check_answer,
    check_user,
    number,
    register,
)

CONNECTIONS = (1, 8, 32)
SESSIONS = 1_500  # sessions in turn, more than any of the service's caches holds
SESSIONS_CONNECTIONS = 8
ROTATED = {"AUTHAPI_ARGON2_MEMORY_KIB": "8", "AUTHAPI_MAX_SESSIONS": "10000"}

ROTATION = """\
local cookies, next_one = {}, 0
for cookie in io.lines("%s") do
  cookies[#cookies + 1] = cookie
end

function request()
  next_one = next_one %% #cookies + 1
  return wrk.format("GET", nil, {["Cookie"] = cookies[next_one]})
end
"""


def measure(bench: Bench) -> list[Figure]:
    """Measure session checks per second, and the bare server's answers in the same round."""
    with bench.authapi("session") as server:
        cookie = register(server)
        size = len(check_user(server, cookie))
        with bench.bare(size) as bare:
            if len(ask(bare.port, "GET", "/user")[2]) != size:
                raise BenchError("The bare server's answer has another size than GET /user's.")
            rates = rates_of(bench, {"authapi": server, "bare": bare}, cookie)
        check_user(server, cookie)
    figures = chain.from_iterable(figures_of(rates, count) for count in CONNECTIONS)
    return [*figures, *measure_many(bench)]


def measure_many(bench: Bench) -> list[Figure]:
    """Measure checks of so many sessions in turn that no cache holds one until its next check."""
    with bench.authapi("sessions", **ROTATED) as server:
        one, many = rotation(bench, server)
        rates = [
            [per_second(bench, server, SESSIONS_CONNECTIONS, *options) for options in (one, many)]
            for _ in range(bench.rounds)
        ]
    return turn_figures(*map(list, zip(*rates, strict=True)))


def rotation(bench: Bench, server: Server) -> tuple[list[str], list[str]]:
    """Open the sessions; return wrk's options for checks of one, and of all in turn."""
    cookies = [register(server), *(log_in(server) for _ in range(SESSIONS - 1))]
    (bench.directory / "cookies.txt").write_text("\n".join(cookies))
    script = bench.directory / "rotation.lua"
    script.write_text(ROTATION % (bench.directory / "cookies.txt"))
    return ["-H", f"Cookie: {cookies[0]}"], ["-s", str(script)]


def turn_figures(one: list[float], many: list[float]) -> list[Figure]:
    """Return the figures of checks of one session, and of all in turn."""
    return [
        Figure(f"session checks, {SESSIONS} sessions in turn", many, "/s"),
        Figure(f"{SESSIONS} sessions : one", ratios(many, one)),
    ]


def log_in(server: Server) -> str:
    """Return the cookie of another session of the example user."""
    status, headers, body = ask(server.port, "POST", "/login", LOGIN)
    check_answer("POST /login", status, body)
    return headers["Set-Cookie"].partition(";")[0]


def rates_of(
    bench: Bench, servers: Mapping[str, Server], cookie: str
) -> dict[tuple[str, int], list[float]]:
    """Return answers per second by server and number of connections, for each round.

    Servers take turns, and the first one changes from round to round. Round 0 is the warm-up.
    """
    rates: dict[tuple[str, int], list[float]] = {}
    for turn in range(bench.rounds + 1):
        order = sorted(servers, reverse=bool(turn % 2))
        for count in CONNECTIONS if turn else CONNECTIONS[-1:]:
            for name in order:
                rate = per_second(bench, servers[name], count, "-H", f"Cookie: {cookie}")
                if turn:
                    rates.setdefault((name, count), []).append(rate)
    return rates


def figures_of(rates: Mapping[tuple[str, int], list[float]], count: int) -> list[Figure]:
    """Return the figures of one number of connections."""
    at = f"{count} connection{'s'[: count > 1]}"
    checks, answers = rates["authapi", count], rates["bare", count]
    return [
        Figure(f"session checks, {at}", checks, "/s"),
        Figure(f"bare answers, {at}", answers, "/s"),
        Figure(f"session check : bare, {at}", ratios(checks, answers), goal=Goal(">=", 0.85)),
    ]


def per_second(bench: Bench, server: Server, connections: int, *options: str) -> float:
    """Return GET /user per second. Raises BenchError if one was refused."""
    output = bench.wrk(server, "/user", connections, *options)
    if "Non-2xx" in output:
        raise BenchError(f"GET /user was refused under load: {output}")
    return number("Requests/sec:", output)
