"""The storm: logins offered at five times what the lane can do, while sessions are checked."""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass

import login
import openloop
from figures import Figure, Goal, ratios
from harness import (
    HOST,
    LOGIN,
    USER,
    Bench,
    BenchError,
    Server,
    ask,
    check_login,
    number,
    register,
)

CONNECTIONS = 8  # of session checks
OFFERED = 5  # times the calm rate of logins
LEAD = 1.0  # seconds for which the storm is under way before session checks are counted
UNITS = {"us": 0.001, "ms": 1, "s": 1_000}  # milliseconds


@dataclass(frozen=True)
class Round:
    """What one round saw: rates per second, times in milliseconds."""

    calm: float
    calm_p99: float
    checks: float
    p99: float
    calm_logins: float
    logins: float
    refused: list[float]


def measure(bench: Bench) -> list[Figure]:
    """Session checks in calm and in a storm, in turn, and what becomes of the logins."""
    with bench.authapi("storm") as server:
        register(server)
        check_login(server)
        cookie = visitor(server)
        rounds = [play(bench, server, cookie) for _ in range(bench.rounds)]
    return figures(rounds)


def visitor(server: Server) -> str:
    """The cookie of another user: a user's older sessions end when there are a hundred newer."""
    user = {**USER, "username": "visitor", "email": "visitor@example.com"}
    status, headers, body = ask(server.port, "POST", "/register", user)
    if status != 201:
        raise BenchError(f"POST /register was answered {status}: {body!r}")
    return headers["Set-Cookie"].partition(";")[0]


def figures(rounds: list[Round]) -> list[Figure]:
    """What the rounds came to."""
    calm, checks = [r.calm for r in rounds], [r.checks for r in rounds]
    calm_p99, p99 = [r.calm_p99 for r in rounds], [r.p99 for r in rounds]
    calm_logins, logins = [r.calm_logins for r in rounds], [r.logins for r in rounds]
    shed = (
        [percentile(r.refused, 0.5) for r in rounds],
        [percentile(r.refused, 0.99) for r in rounds],
    )
    return [
        Figure("session checks, calm", calm, "/s"),
        Figure("session checks, storm", checks, "/s"),
        Figure("storm : calm, session checks", ratios(checks, calm), goal=Goal(">=", 0.80)),
        Figure("p99 of a session check, calm", calm_p99, "ms"),
        Figure("p99 of a session check, storm", p99, "ms"),
        Figure("storm : calm, p99", ratios(p99, calm_p99), goal=Goal("<=", 3)),
        Figure("logins, no session checks", calm_logins, "/s"),
        Figure("logins, storm", logins, "/s"),
        Figure("storm : calm, logins", ratios(logins, calm_logins), goal=Goal(">=", 0.85)),
        Figure("median of a 503", shed[0], "ms"),
        Figure("p99 of a 503", shed[1], "ms", Goal("<=", 50)),
    ]


def play(bench: Bench, server: Server, cookie: str) -> Round:
    """One round: logins alone, session checks alone, both."""
    calm_logins, _ = login.per_second(bench, server)
    calm, calm_p99 = session_checks(bench, server, cookie)
    seconds = bench.seconds + LEAD
    with openloop.running(server.port, request(server), OFFERED * calm_logins, seconds) as outcomes:
        time.sleep(LEAD)
        checks, p99 = session_checks(bench, server, cookie)
    (outcome,) = outcomes
    if set(outcome.latencies) - {"200", "503"} or outcome.lost or outcome.unsent:
        raise BenchError(f"The storm was answered otherwise than by 200 and 503: {outcome}")
    refused = [1_000 * seconds for seconds in outcome.latencies.get("503", [])]
    done = len(outcome.latencies.get("200", [])) / seconds
    return Round(calm, calm_p99, checks, p99, calm_logins, done, refused)


def request(server: Server) -> bytes:
    """The bytes of a login."""
    body = json.dumps(LOGIN)
    return (
        f"POST /login HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()


def session_checks(bench: Bench, server: Server, cookie: str) -> tuple[float, float]:
    """GET /user per second, and the milliseconds that 99 of 100 take."""
    output = bench.wrk(server, "/user", CONNECTIONS, "--latency", "-H", f"Cookie: {cookie}")
    found = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", output)
    if "Non-2xx" in output or found is None:
        raise BenchError(f"GET /user was refused under load: {output}")
    return number("Requests/sec:", output), float(found[1]) * UNITS[found[2]]


def percentile(values: list[float], share: float) -> float:
    """The value that so many are not above."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else math.nan
