"""Load on a contestant: session checks, logins, and both at once."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace

import openloop
from contestants import Contestant, raw_post
from harness import Bench, BenchError, Server, number
from peers import Cost

CONNECTIONS = 8  # of session checks, for each process
LOGIN_CONNECTIONS = 4
LOGIN_TIMES = 2  # times as long as session checks, because logins are few
SETTLE_TIME = 1.5  # seconds to finish the logins that wrk left behind
STORM = 5  # times the logins that a contestant can do
LEAD = 0.5  # seconds of the storm before session checks are counted

CHECK_SCRIPT = """\
function done(summary, latency)
  print("requests: " .. summary.requests)
  print("bytes: " .. summary.bytes)
  print("microseconds: " .. summary.duration)
  print("p99: " .. latency:percentile(99))
  print("refused: " .. summary.errors.status)
  print("late: " .. summary.errors.timeout)
  print("broken: " .. summary.errors.connect + summary.errors.read + summary.errors.write)
end
"""

LOGIN_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "%s"
wrk.body = [[%s]]
succeeded, overloaded, failed = 0, 0, 0

function setup(thread)
  only_thread = thread
end

function response(status, headers)
  local cookie = headers["Set-Cookie"] or headers["set-cookie"]
  if status == %d and cookie then
    succeeded = succeeded + 1
  elseif status == 503 then
    overloaded = overloaded + 1
  else
    failed = failed + 1
  end
end

function done(summary)
  print("microseconds: " .. summary.duration)
  for _, name in ipairs({"succeeded", "overloaded", "failed"}) do
    print(name .. ": " .. only_thread:get(name))
  end
end
"""


@dataclass(frozen=True)
class Checks:
    """Session checks under load: answers per second, and their p99 in ms."""

    answers: int
    rate: float
    p99: float
    bad: int = 0  # refused, late or broken


@dataclass(frozen=True)
class Storm:
    """Session checks before and during a storm, and the results of the logins."""

    offered: float  # logins per second
    calm: Checks
    checks: Checks
    logins: openloop.Outcome
    success: str  # the status of a successful login

    @property
    def kept(self) -> float:
        """Return the share of the calm rate of session checks that was left, in percent."""
        return 100 * self.checks.rate / self.calm.rate

    def figures(self) -> dict[str, float]:
        """Return all figures by name; shares are in percent of the logins sent."""
        done = self.logins.latencies.get(self.success, [])
        shed = self.logins.latencies.get("503", [])
        other = self.logins.due - len(done) - len(shed)
        share = 100 / self.logins.due
        return {
            "kept": self.kept,
            "calm p99": self.calm.p99,
            "p99": self.checks.p99,
            "bad": self.checks.bad,
            "offered": self.offered,
            "logins done": share * len(done),
            "logins shed": share * len(shed),
            "logins unanswered": share * other,
            "login time": statistics.median(done) if done else math.nan,
        }


def session_checks(  # noqa: PLR0913 - what, where, how much and how strictly
    bench: Bench,
    contestant: Contestant,
    server: Server,
    cost: Cost,
    connections: int = CONNECTIONS,
    *,
    strict: bool = True,
) -> Checks:
    """Load it with session checks. Raises BenchError if any answer was wrong.

    Each answer must be as long as the one that was checked before. If not strict, only wrk's own
    errors are counted, and nothing is raised.
    """
    size = contestant.check(server, cost) if strict else 0
    script = bench.directory / "check.lua"
    script.write_text(CHECK_SCRIPT)
    path = contestant.service.check
    options = ["-H", f"Cookie: {contestant.cookies[cost]}", "-s", str(script)]
    output = bench.wrk(server, path, connections, *options, strict=strict)
    requests, read = number("requests:", output), number("bytes:", output)
    bad = sum(int(number(name, output)) for name in ("refused:", "late:", "broken:"))
    if strict and (bad or not 0 <= read - requests * size <= connections * size):
        raise BenchError(f"{contestant.title} gave wrong answers to session checks: {output}")
    rate = requests / number("microseconds:", output) * 1e6
    p99 = number("p99:", output) / 1_000 if requests else math.nan
    return Checks(int(requests), rate, p99, bad)


def logins(bench: Bench, contestant: Contestant, server: Server) -> float:
    """Return the logins per second that set a cookie. Raises BenchError if one was refused."""
    login = contestant.service.login
    script = bench.directory / "login.lua"
    script.write_text(LOGIN_SCRIPT % (login.content_type, login.body, login.status))
    bench = replace(bench, seconds=LOGIN_TIMES * bench.seconds)
    output = bench.wrk(server, login.path, LOGIN_CONNECTIONS, "-s", str(script), strict=False)
    time.sleep(SETTLE_TIME)
    succeeded, refused = number("succeeded:", output), number("failed:", output)
    if refused or not succeeded or number("overloaded:", output):
        raise BenchError(f"{contestant.title} refused logins: {output}")
    return succeeded / number("microseconds:", output) * 1e6


def storm(
    bench: Bench, contestant: Contestant, server: Server, cost: Cost, capacity: float
) -> Storm:
    """Measure session checks without logins, and then with more logins than it can do."""
    calm = session_checks(bench, contestant, server, cost)
    request = raw_post(server, contestant.service.login)
    offered, seconds = STORM * capacity, bench.seconds + LEAD
    with openloop.running(server.port, request, offered, seconds) as outcomes:
        time.sleep(LEAD)
        checks = session_checks(bench, contestant, server, cost, strict=False)
    success = str(contestant.service.login.status)
    return Storm(offered, calm, checks, outcomes[0], success)
