"""Values as text: tables and JSON Lines, and what is safe for a terminal."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Protocol

Record = Mapping[str, object]

MEASURED_ROWS = 100  # rows that a table's columns are measured by

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # categories that drive a terminal or lie
_WIDE = frozenset({"W", "F"})


class Output(Protocol):
    """What lines are written to."""

    def write(self, line: str) -> None:
        """Write a line."""

    def flush(self) -> None:
        """Write out what is still held."""


def printable(text: str) -> str:
    r"""Return a text in which control and format characters are escapes such as `\x1b`.

    SECURITY: a name or a User-Agent could otherwise drive the operator's terminal, or reorder what
    it shows.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        ascii(each)[1:-1] if unicodedata.category(each) in _UNSAFE else each for each in text
    )


class Table:
    """A list that is written as it comes. Its columns are as wide as the first rows need."""

    def __init__(self, output: Output, columns: Sequence[str] = (), *, as_json: bool) -> None:
        """Take the columns that people see; those of the first row if there are none."""
        self.count = 0
        self._output, self._columns, self._as_json = output, tuple(columns), as_json
        self._waiting: list[list[str]] | None = []  # None: the header was written
        self._widths: list[int] = []

    def add(self, row: Record) -> None:
        """Write a row, or keep it while the columns are measured."""
        self.count += 1
        if self._as_json:
            self._output.write(json.dumps(row))
            return
        self._columns = self._columns or tuple(row)
        cells = [cell(row[name]) for name in self._columns]
        if self._waiting is None:
            self._write(cells)
            return
        self._waiting.append(cells)
        if len(self._waiting) == MEASURED_ROWS:
            self._begin()

    def flush(self) -> None:
        """Write out all rows that were added."""
        if self._waiting:
            self._begin()
        self._output.flush()

    def _begin(self) -> None:
        """Measure the columns, and write the header and the rows that waited."""
        lines = [[label(name).upper() for name in self._columns], *(self._waiting or ())]
        self._widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
        self._waiting = None
        for cells in lines:
            self._write(cells)

    def _write(self, cells: list[str]) -> None:
        padded = (
            cell + " " * (width - _width(cell))
            for cell, width in zip(cells, self._widths, strict=True)
        )
        self._output.write("  ".join(padded).rstrip())


def label(name: str) -> str:
    """Return the name of a value as people read it."""
    return name.replace("_", " ")


def cell(value: object) -> str:
    """Return a value as people read it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell, value)) or "-"
    return printable(str(value))


def _width(text: str) -> int:
    """Return the number of a terminal's columns that a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(each) in {"Mn", "Me"} else 1 + (_is_wide(each)) for each in text
    )


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in _WIDE
