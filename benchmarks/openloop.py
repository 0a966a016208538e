"""Open-loop load: one request at a fixed rate, whether or not those before it were answered.

Run as `python openloop.py --port N --rate N --seconds N`, with the raw request on standard input.
It prints an Outcome as JSON. A process of its own, so that it shares no interpreter with what
starts it; each request is sent on a connection of its own, as those of many people would be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
GRACE = 1.0  # seconds that the last ones are waited for
MOST_IN_FLIGHT = 500


@dataclass
class Outcome:
    """What became of the requests, and when: seconds from when each was due to its answer's end.

    `unsent` are those that were due when the most were in flight, `unanswered` those that had no
    answer when the waiting ended, `lost` those whose connection broke.
    """

    latencies: dict[str, list[float]] = field(default_factory=dict)  # by status
    unsent: int = 0
    unanswered: int = 0
    lost: int = 0

    @property
    def due(self) -> int:
        """How many there were in all."""
        answered = sum(map(len, self.latencies.values()))
        return answered + self.unsent + self.unanswered + self.lost


@contextmanager
def running(port: int, request: bytes, rate: float, seconds: float) -> Iterator[list[Outcome]]:
    """Send the load while the block runs; the list has its Outcome after the block."""
    options = {"--port": port, "--rate": rate, "--seconds": seconds}
    words = [str(word) for pair in options.items() for word in pair]
    command = [sys.executable, str(Path(__file__)), *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    found: list[Outcome] = []
    try:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the load has no pipes")
        process.stdin.write(request)
        process.stdin.close()
        yield found
        found.append(Outcome(**json.loads(process.stdout.read())))
    finally:
        process.kill()
        process.wait()


async def send_all(port: int, request: bytes, rate: float, seconds: float) -> Outcome:
    """Send them when they are due, then wait a little for the last."""
    outcome = Outcome()
    flying: set[asyncio.Task[None]] = set()
    began = asyncio.get_running_loop().time()
    for number in range(round(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        if len(flying) >= MOST_IN_FLIGHT:
            outcome.unsent += 1
            continue
        task = asyncio.create_task(send(outcome, port, request, due))
        flying.add(task)
        task.add_done_callback(flying.discard)
    if flying:
        await asyncio.wait(flying, timeout=GRACE)
    outcome.unanswered = len(flying)
    return outcome


async def send(outcome: Outcome, port: int, request: bytes, due: float) -> None:
    """Send one, read its answer to the end."""
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(request)
        answer = await reader.read(-1)
        writer.close()
    except OSError:
        outcome.lost += 1
        return
    words = answer.split(b" ", 2)
    if len(words) < 2:
        outcome.lost += 1
    else:
        latency = asyncio.get_running_loop().time() - due
        outcome.latencies.setdefault(words[1].decode(), []).append(latency)


def main() -> None:
    """Send what is on standard input."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests per second")
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    request = sys.stdin.buffer.read()
    outcome = asyncio.run(send_all(options.port, request, options.rate, options.seconds))
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
