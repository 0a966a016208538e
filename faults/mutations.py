"""Check that mutations of valid requests are answered or disconnected, and harm no other client.

`python -m faults.mutations` takes requests that the service answers with 200, flips, cuts and
doubles some of their bytes, and sends each mutation on its own connection, many at once. Every
second client then ends its side of the connection; the rest wait until the service hangs up. After
each five hundred, the valid requests follow. The script fails on a client that is neither answered
nor disconnected, an answer of 500 or above (except 501 for an unknown transfer coding), a valid
request that does not get 200, and a fault in the log.
"""

from __future__ import annotations

import random
import re
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from faults.harness import HOST, PATIENCE, NoStartError, conclude, parser, start

LOGIN = b'{"usernameOrEmail":"crispengari","password":"crispengari"}'
REGISTRATION = (
    b'{"username":"crispengari","email":"crispengari@gmail.com","password":"crispengari"}'
)
HUNG_UP = b""
FAULT = re.compile(r"^Traceback| (?:ERROR|CRITICAL) ", re.MULTILINE)
AT_ONCE = 100  # connections
BATCH = 500  # mutations, then valid requests


def post(path: bytes, body: bytes) -> bytes:
    """Return a request with a JSON body of a declared length."""
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % path
    return b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)


def valid(token: bytes) -> list[bytes]:
    """Return requests that get 200, with a user's token."""
    head, _, body = post(b"/login", LOGIN).partition(b"\r\n\r\n")
    head = head[: head.index(b"Content-Length")] + b"Transfer-Encoding: chunked\r\n\r\n"
    return [
        post(b"/login", LOGIN),
        b"%s%x\r\n%s\r\n0\r\n\r\n" % (head, len(body), body),
        b"GET /user HTTP/1.1\r\nHost: x\r\nCookie: jwt=%s\r\n\r\n" % token,
    ]


def mutated(rng: random.Random, request: bytes) -> bytes:
    """Return a request with some bytes flipped, cut or doubled."""
    text = bytearray(request)
    for _ in range(rng.randint(1, 4)):
        begin = rng.randrange(len(text))
        end = min(len(text), begin + rng.randint(1, 20))
        match rng.randrange(3):
            case 0:
                text[begin] ^= 1 << rng.randrange(8)
            case 1:
                del text[begin:end]
            case 2:
                text[begin:begin] = text[begin:end]
        text = text or bytearray(b"x")
    return bytes(text)


def send(port: int, text: bytes, *, ends: bool) -> bytes:
    """Send bytes; return the beginning of an answer, or HUNG_UP.

    `ends` closes our side. Raises TimeoutError if nothing came.
    """
    with socket.create_connection((HOST, port), timeout=PATIENCE) as connection:
        try:
            connection.sendall(text)
            if ends:
                connection.shutdown(socket.SHUT_WR)
            return connection.recv(65_536)
        except ConnectionError:
            return HUNG_UP


def register(port: int) -> list[bytes]:
    """Register the user; return the valid requests."""
    found = re.search(rb"jwt=([^;]+)", send(port, post(b"/register", REGISTRATION), ends=False))
    if found is None:
        raise NoStartError("the registration was refused")
    return valid(found[1])


def status_of(answer: bytes) -> str:
    """Return the status of an answer, or a word if there is none."""
    return answer[9:12].decode("latin-1") if answer else "hung up"


def attack(port: int, texts: Sequence[bytes], *, end_all: bool) -> Iterator[str]:
    """Send each of many byte strings on its own connection; yield each result.

    With `end_all` each client ends its side, otherwise every second one.
    """

    def one(number: int) -> str:
        try:
            return status_of(send(port, texts[number], ends=end_all or number % 2 == 0))
        except TimeoutError:
            return f"nothing: {texts[number]!r}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(one, range(len(texts)))


def run(
    folder: Path, rounds: int, rng: random.Random, *, end_all: bool = False
) -> tuple[Counter[str], list[str]]:
    """Send a number of mutations; count the results, and return the broken promises.

    `end_all` makes all clients end their side, which is faster; otherwise every second one does.
    """
    service = start(folder, AUTHAPI_THREADS=str(4 * AT_ONCE))  # as many hash places as clients
    requests = register(service.port)
    led_to: Counter[str] = Counter()
    broken = []
    while (sent := led_to.total()) < rounds:
        texts = [mutated(rng, rng.choice(requests)) for _ in range(min(BATCH, rounds - sent))]
        led_to.update(attack(service.port, texts, end_all=end_all))
        after = [status_of(send(service.port, text, ends=False)) for text in requests]
        if after != ["200"] * len(requests):
            broken.append(f"after {led_to.total()} mutations, valid requests led to {after}")
    service.stop()
    broken += [what for what in led_to if what >= "5" and what not in {"501", "hung up"}]
    broken += FAULT.findall((folder / "log").read_text())
    return led_to, broken


def main() -> int:
    """Send the mutations, and print the results."""
    options = parser(__doc__, 10_000, "mutations")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        led_to, broken = run(Path(directory), given.rounds, random.Random(given.seed))
    counts = ", ".join(f"{n:,} {what}" for what, n in led_to.most_common())
    print(f"{led_to.total():,} mutations: {counts}; {len(broken)} broken promises")
    return conclude(broken)


if __name__ == "__main__":
    sys.exit(main())
