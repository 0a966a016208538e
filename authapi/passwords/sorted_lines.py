"""Binary search in a sorted text file, on disk."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

LONGEST_LINE = 256  # bytes; a longer one is not found
SAMPLES = 256  # lines that `sample` reads of a large file


class SortedLines:
    """A file of lines sorted by their bytes. It stays open, also across a fork.

    A look-up reads about log2(size) blocks of LONGEST_LINE bytes. All methods raise OSError.
    """

    def __init__(self, path: Path) -> None:
        """Open the file."""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)
        self._size = os.fstat(self._file).st_size

    def find(self, key: bytes) -> bool:
        """Return whether there is a line `key`, or one that begins with `key` and a colon."""
        low, high = 0, self._size
        while high - low > 4 * LONGEST_LINE:
            middle = (low + high) // 2
            start, line = self._line_after(middle)
            if _begins(line, key):
                return True
            low, high = (start, high) if line < key else (low, start)
        lines = os.pread(self._file, high - low + LONGEST_LINE, low).splitlines()
        return any(_begins(line, key) for line in lines)

    def sample(self) -> list[bytes]:
        """Return lines from all over the file, in order; all lines of a small file."""
        if self._size <= SAMPLES * LONGEST_LINE:
            return os.pread(self._file, self._size, 0).splitlines()
        step = self._size // SAMPLES
        return [self._line(0), *(self._line_after(step * n)[1] for n in range(1, SAMPLES - 1))]

    def _line_after(self, offset: int) -> tuple[int, bytes]:
        """Return the offset of the next line, and the line."""
        start = offset + os.pread(self._file, LONGEST_LINE, offset).find(b"\n") + 1
        return start, self._line(start)

    def _line(self, start: int) -> bytes:
        return os.pread(self._file, LONGEST_LINE, start).partition(b"\n")[0].rstrip(b"\r")


def _begins(line: bytes, key: bytes) -> bool:
    return line == key or line.startswith(key + b":")
