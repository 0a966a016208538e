"""A WSGI application of constant bytes on plain waitress, to compare session checks with.

Run as `python bare.py PORT BYTES [NAME=VALUE ...]`. The rest are waitress's own settings.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable

import waitress


def application(size: int) -> Callable[..., Iterable[bytes]]:
    """Return an application that answers every request with the same `size` bytes."""
    body = b"x" * size
    headers = [("Content-Type", "application/json"), ("Content-Length", str(size))]

    def answer(_environ: object, start_response: Callable[..., object]) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return [body]

    return answer


def main(port: str, size: str, *settings: str) -> None:
    """Serve on 127.0.0.1 until a signal."""
    # Silent as in the service: otherwise each request that waits for a thread logs a line.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    chosen = dict(setting.split("=", 1) for setting in settings)
    waitress.serve(application(int(size)), host="127.0.0.1", port=port, **chosen)


if __name__ == "__main__":
    main(*sys.argv[1:])
