"""Standard input, output and error, which another file must never take the numbers of."""

from __future__ import annotations

import os


def open_standard_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file that is opened gets its number, such as a library's or the database.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
