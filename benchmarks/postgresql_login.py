"""Logins on a PostgreSQL server, and the CPU time that one costs."""

from __future__ import annotations

import time

from contestants import post
from figures import Figure, Goal
from harness import Bench, BenchError, Server, number
from login import SETTLE_TIME
from peers import PASSWORD, Request
from postgresql import PostgreSQL, cpu_of

USERS = 100  # who log in in turn
CONNECTIONS = 3

LOGINS = """\
local next_one = 0

function setup(thread)
  only_thread = thread
end

function request()
  next_one = next_one %% %d + 1
  local body = '{"usernameOrEmail": "user' .. next_one .. '", "password": "%s"}'
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
end

function response(status)
  counted = (counted or 0) + (status == 200 and 1 or 0)
  last = status == 200 and last or status
end

function done(summary)
  print("succeeded: " .. (only_thread:get("counted") or 0))
  print("requests: " .. summary.requests)
  print("refused with: " .. (only_thread:get("last") or 0))
end
"""


def measure(bench: Bench, server: PostgreSQL) -> list[Figure]:
    """Measure logins of many users with the default limits, and the CPU time that each costs."""
    rates, service, database = [], [], []
    with bench.authapi("login", **unlimited()) as target:
        register_users(target)
        for turn in range(bench.rounds + 1):  # round 0 is the warm-up
            before = cpu_of(target), server.cpu()
            done, rate = users_log_in(bench, target)
            if turn:
                rates.append(rate)
                service.append(1e3 * (cpu_of(target) - before[0]) / done)
                database.append(1e3 * (server.cpu() - before[1]) / done)
    return [
        Figure(f"logins of {USERS} users in turn", rates, "/s"),
        Figure("CPU of the service for one", service, "ms"),
        Figure("CPU of the database for one", database, "ms", Goal("<=", 1)),
    ]


def unlimited() -> dict[str, str]:
    """Return settings with which tries are counted, but no address and no name has too many."""
    plenty = "1000000/hour"
    return {
        "AUTHAPI_RATE_LIMITS": "on",
        "AUTHAPI_LOGIN_NETWORK_LIMIT": plenty,
        "AUTHAPI_REGISTRATION_LIMIT": plenty,
    }


def register_users(target: Server) -> None:
    """Register the users who log in. Raises BenchError."""
    for place in range(1, USERS + 1):
        body = (
            f'{{"username": "user{place}", "email": "user{place}@example.com", '
            f'"password": "{PASSWORD}"}}'
        )
        status, _, answer = post(target, Request("/register", body, 201))
        if status != 201:
            raise BenchError(f"POST /register was answered {status}: {answer!r}")


def users_log_in(bench: Bench, target: Server) -> tuple[int, float]:
    """Return how many logins succeeded, and how many a second. Raises BenchError for others."""
    script = bench.directory / "logins.lua"
    script.write_text(LOGINS % (USERS, PASSWORD))
    output = bench.wrk(target, "/login", CONNECTIONS, "-s", str(script), strict=False)
    time.sleep(SETTLE_TIME)
    done, asked = (int(number(f"{name}:", output)) for name in ("succeeded", "requests"))
    if not done or done != asked:
        raise BenchError(f"POST /login was refused under load: {output}")
    return done, done / bench.seconds
