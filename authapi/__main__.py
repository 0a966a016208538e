"""`python -m authapi` is `authapi`."""

import sys
from collections.abc import Sequence

from authapi.signals import end_at_once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status.

    NOTE: signals first, for all that is imported takes a good part of the start.
    """
    end_at_once()
    from authapi.cli import main as run  # noqa: PLC0415

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
