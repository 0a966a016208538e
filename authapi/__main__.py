"""`python -m authapi` is `authapi`."""

import sys
from collections.abc import Sequence

from authapi.descriptors import open_standard_streams
from authapi.signals import end_at_once, end_by


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit status.

    NOTE: signals first, because the imports take a good part of the start; and the streams, because
    libraries that are imported keep files open.
    """
    end_at_once()
    open_standard_streams()
    from authapi.commands.cli import main as run  # noqa: PLC0415

    status = run(arguments)
    if status > 128:  # so that a shell ends a loop, too
        end_by(status - 128)
    return status


if __name__ == "__main__":
    sys.exit(main())
