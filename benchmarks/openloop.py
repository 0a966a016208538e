"""Send requests at a fixed rate, whether or not earlier ones were answered (open-loop load).

Run as `python openloop.py --port N --rate N --seconds N`, with the raw request on standard input.
It prints an Outcome as JSON. It is a process of its own, to share no interpreter with its caller.
Each request has a connection of its own, as if it came from many people.
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
GRACE = 1.0  # seconds to wait for the last answers
MOST_IN_FLIGHT = 500


@dataclass
class Outcome:
    """The results of the requests: seconds from when each was due to the end of its answer.

    `unsent` requests were due when the maximum was in flight, `unanswered` ones had no answer when
    the waiting ended, and `lost` ones had their connection broken.
    """

    latencies: dict[str, list[float]] = field(default_factory=dict)  # by status
    unsent: int = 0
    unanswered: int = 0
    lost: int = 0

    @property
    def due(self) -> int:
        """Return how many requests there were."""
        answered = sum(map(len, self.latencies.values()))
        return answered + self.unsent + self.unanswered + self.lost


@contextmanager
def running(port: int, request: bytes, rate: float, seconds: float) -> Iterator[list[Outcome]]:
    """Send the load while the block runs; then the list has its Outcome."""
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
    """Send all requests when they are due, then wait a little for the last."""
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
    """Send one request and read its whole answer."""
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
    """Send the request on standard input."""
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
