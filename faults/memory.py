"""Compare the memory that 1,000 hostile connections take with what a start counts.

Each attack opens 1,000 connections and sends what takes memory: unfinished headers and bodies,
pipelined requests, requests whose answers nobody reads. The peak of the service's resident memory
(VmHWM) must stay below what a start counts, less the kernel's memory for the connections.
"""

from __future__ import annotations

import argparse
import re
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from authapi.machine import PROCESS_MIB
from faults.harness import HOST, start

CONNECTIONS = 1_000
HELD = 3  # seconds
KERNEL_MIB = 26  # of the kernel, for the connections of one attack, at most
POST = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
GET = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
LOGIN = b'{"usernameOrEmail": "a", "password": "%s"}' % (b"b" * 65_000)
UNKNOWN = b"{" + b",".join(b'"%x":0' % number for number in range(7_000)) + b"}"

ATTACKS: dict[str, Callable[[int], bytes]] = {
    "silent": lambda _: b"",
    "unfinished headers": lambda _: b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 16_000,
    "unfinished bodies": lambda _: POST + b"Content-Length: 65536\r\n\r\n" + b"{" * 65_535,
    "unfinished chunks": lambda _: (
        POST + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + b"{" * 65_534
    ),
    "requests behind requests": lambda _: GET * 4_000,
    "long passwords": lambda _: POST + b"Content-Length: %d\r\n\r\n" % len(LOGIN) + LOGIN,
    "unknown fields": lambda _: POST + b"Content-Length: %d\r\n\r\n" % len(UNKNOWN) + UNKNOWN,
    "tokens": lambda number: b"".join(
        b"GET /verify HTTP/1.1\r\nHost: x\r\nCookie: jwt=%s%d.%d\r\n\r\n" % (b"a" * 800, number, n)
        for n in range(8)
    ),
    "unread answers": lambda _: (b"GET /" + b"<" * 4_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n") * 30,
}


def peak(pid: int) -> float:
    """Return the peak resident memory of a process, in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    (kib,) = re.findall(r"^VmHWM:\s+(\d+) kB$", text, re.MULTILINE)
    return int(kib) / 1_024


def attack(port: int, message: Callable[[int], bytes]) -> None:
    """Open the connections, send, hold them, and close them."""
    with ExitStack() as stack:
        for number in range(CONNECTIONS):
            with suppress(OSError):
                client = stack.enter_context(socket.create_connection((HOST, port), timeout=2))
                client.settimeout(0.2)
                client.sendall(message(number))
        time.sleep(HELD)


def main() -> int:
    """Attack a service in each way; return 1 if it took more than a start counts."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, hard), hard))
    most = 0.0
    with tempfile.TemporaryDirectory() as folder:
        service = start(Path(folder))
        for name, message in ATTACKS.items():
            attack(service.port, message)
            most = peak(service.pid)
            print(f"{name}: {most:.0f} MiB")
        service.stop()
    allowed = PROCESS_MIB - KERNEL_MIB
    print(f"at most {most:.0f} MiB of {allowed}, and {KERNEL_MIB} for the kernel's buffers")
    return most > allowed


if __name__ == "__main__":
    sys.exit(main())
