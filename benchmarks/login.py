"""Logins per second, compared with argon2 alone."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from figures import Figure, Goal, ratios
from harness import LOGIN, USER, Bench, BenchError, Server, check_login, number, register

from authapi.passwords.hashing import SALT_LENGTH, TAG_LENGTH
from authapi.settings import PasswordSettings, WorkerSettings

SETTLE_TIME = 1  # seconds in which the service finishes the logins that wrk left behind

LOGIN_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[%s]]
succeeded, overloaded, failed = 0, 0, 0

function setup(thread)
  only_thread = thread
end

function response(status)
  if status == 200 then
    succeeded = succeeded + 1
  elseif status == 503 then
    overloaded = overloaded + 1
  else
    failed = failed + 1
  end
end

function done()
  for _, name in ipairs({"succeeded", "overloaded", "failed"}) do
    print(name .. ": " .. only_thread:get(name))
  end
end
"""


def measure(bench: Bench) -> list[Figure]:
    """Measure logins per second, and raw argon2 verifications in the same round."""
    logins, hashes, overloads = [], [], []
    with bench.authapi("login") as server:
        register(server)
        check_login(server)
        per_second(bench, server)  # warm-up
        for _ in range(bench.rounds):
            hashes.append(verifications_per_second(bench))
            rate, overloaded = per_second(bench, server)
            logins.append(rate)
            overloads.append(float(overloaded))
    return [
        Figure("logins", logins, "/s"),
        Figure("raw argon2 verifications", hashes, "/s"),
        Figure("logins answered 503", overloads, "answers"),
        Figure("login : raw argon2", ratios(logins, hashes), goal=Goal(">=", 1.8)),
    ]


def per_second(bench: Bench, server: Server) -> tuple[float, int]:
    """Return successful POST /login per second, and how many got 503.

    There is one connection more than hash slots, so that the next password waits while a session is
    committed.
    """
    script = bench.directory / "login.lua"
    script.write_text(LOGIN_SCRIPT % json.dumps(LOGIN))
    output = bench.wrk(
        server, "/login", bench.settings.of(WorkerSettings).hash_slots + 1, "-s", str(script)
    )
    time.sleep(SETTLE_TIME)
    succeeded, overloaded, failed = (
        int(number(f"{name}:", output)) for name in ("succeeded", "overloaded", "failed")
    )
    if failed or not succeeded:
        raise BenchError(f"POST /login was refused under load: {output}")
    share = succeeded / (succeeded + overloaded)
    return number("Requests/sec:", output) * share, overloaded


def verifications_per_second(bench: Bench) -> float:
    """Return raw argon2 verifications per second, in as many threads as there are hash slots.

    As with wrk's logins, those still running at the end do not count.
    """
    cost = bench.settings.of(PasswordSettings)
    slots = bench.settings.of(WorkerSettings).hash_slots
    hasher = PasswordHasher(
        time_cost=cost.argon2_time_cost,
        memory_cost=cost.argon2_memory_kib,
        parallelism=cost.argon2_lanes,
        hash_len=TAG_LENGTH,
        salt_len=SALT_LENGTH,
    )
    encoded = hasher.hash(USER["password"])
    deadline = time.monotonic() + bench.seconds

    def count(_thread: int) -> int:
        finished = 0
        while True:
            hasher.verify(encoded, USER["password"])
            if time.monotonic() > deadline:
                return finished
            finished += 1

    with ThreadPoolExecutor(slots) as pool:
        return sum(pool.map(count, range(slots))) / bench.seconds
