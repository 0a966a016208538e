"""Session checks while five times the possible logins are sent (the storm)."""

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

from authapi.settings import WorkerSettings

CONNECTIONS = 8  # of session checks
OFFERED = 5  # times the calm rate of logins
LEAD = 1.0  # seconds of the storm before session checks are counted
UNITS = {"us": 0.001, "ms": 1, "s": 1_000}  # milliseconds


@dataclass(frozen=True)
class Round:
    """The results of one round: rates per second, times in milliseconds."""

    calm: float
    calm_p99: float
    checks: float
    p99: float
    calm_logins: float
    logins: float
    refused: list[float]


def measure(bench: Bench, kept: float = 0.80) -> list[Figure]:
    """Measure session checks in calm and in a storm, in turn, and the results of the logins.

    `kept` is the goal for the share of the calm rate. With a hash slot for each CPU, the default,
    hashes alone can fill the machine: what session checks keep, logins lose. With one slot fewer
    there is a CPU for session checks.
    """
    every = bench.settings.of(WorkerSettings).hash_slots
    fewer = max(1, every - 1)
    return [figure for slots in (every, fewer) for figure in measure_with(bench, slots, kept)]


def measure_with(bench: Bench, slots: int, kept: float) -> list[Figure]:
    """Measure the same with a number of hash slots."""
    with bench.authapi(f"storm-{slots}", AUTHAPI_HASH_SLOTS=str(slots)) as server:
        register(server)
        check_login(server)
        cookie = visitor(server)
        rounds = [play(bench, server, cookie) for _ in range(bench.rounds)]
    return figures(rounds, f"{slots} hash slot{'s'[: slots > 1]}", kept)


def visitor(server: Server) -> str:
    """Return the cookie of another user, because a login ends a user's oldest of 100 sessions."""
    user = {**USER, "username": "visitor", "email": "visitor@example.com"}
    status, headers, body = ask(server.port, "POST", "/register", user)
    if status != 201:
        raise BenchError(f"POST /register was answered {status}: {body!r}")
    return headers["Set-Cookie"].partition(";")[0]


def figures(rounds: list[Round], slots: str, kept: float) -> list[Figure]:
    """Return the figures of the rounds."""
    calm, checks = [r.calm for r in rounds], [r.checks for r in rounds]
    calm_p99, p99 = [r.calm_p99 for r in rounds], [r.p99 for r in rounds]
    calm_logins, logins = [r.calm_logins for r in rounds], [r.logins for r in rounds]
    shed = (
        [percentile(r.refused, 0.5) for r in rounds],
        [percentile(r.refused, 0.99) for r in rounds],
    )
    return [
        Figure(f"session checks, calm, {slots}", calm, "/s"),
        Figure(f"session checks, storm, {slots}", checks, "/s"),
        Figure(
            f"storm : calm, session checks, {slots}", ratios(checks, calm), "", Goal(">=", kept)
        ),
        Figure(f"p99 of a session check, calm, {slots}", calm_p99, "ms"),
        Figure(f"p99 of a session check, storm, {slots}", p99, "ms"),
        Figure(f"storm : calm, p99, {slots}", ratios(p99, calm_p99), "", Goal("<=", 3)),
        Figure(f"logins, calm, {slots}", calm_logins, "/s"),
        Figure(f"logins, storm, {slots}", logins, "/s"),
        Figure(f"storm : calm, logins, {slots}", ratios(logins, calm_logins), "", Goal(">=", 0.85)),
        Figure(f"median of a 503, {slots}", shed[0], "ms"),
        Figure(f"p99 of a 503, {slots}", shed[1], "ms", Goal("<=", 50)),
    ]


def play(bench: Bench, server: Server, cookie: str) -> Round:
    """Measure one round: logins alone, session checks alone, both."""
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
    """Return the bytes of a login."""
    body = json.dumps(LOGIN)
    return (
        f"POST /login HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()


def session_checks(bench: Bench, server: Server, cookie: str) -> tuple[float, float]:
    """Return GET /user per second, and its p99 in milliseconds."""
    output = bench.wrk(server, "/user", CONNECTIONS, "--latency", "-H", f"Cookie: {cookie}")
    found = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", output)
    if "Non-2xx" in output or found is None:
        raise BenchError(f"GET /user was refused under load: {output}")
    return number("Requests/sec:", output), float(found[1]) * UNITS[found[2]]


def percentile(values: list[float], share: float) -> float:
    """Return the value at a percentile."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else math.nan
