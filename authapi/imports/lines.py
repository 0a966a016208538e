"""Bytes as lines and as JSON, with bounds: a file may be of any size, a line or an object not."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO

from authapi.imports.records import EndOfInput, Fault

LONGEST = 1_048_576  # bytes of a line, or characters of an object in a JSON document
LONGEST_OTHER = 16_777_216  # characters of what is skipped in a JSON document
CHUNK = 65_536  # bytes

Read = tuple[int, "dict[str, object] | Fault"]  # the number of a row, and what it holds


class Twice:
    """What stands for a JSON object that has a name twice."""


def lines(file: BinaryIO) -> Iterator[tuple[int, str | Fault]]:
    """Yield the lines of a file by number. Bytes that are no UTF-8 become lone surrogates.

    A line that is too long is a Fault.
    """
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) <= LONGEST or line.endswith(b"\n"):
            yield number, line.decode(errors="surrogateescape")
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST)
        yield number, Fault(f"The line is longer than {LONGEST} bytes.", "too_long")


def json_lines(file: BinaryIO) -> Iterator[Read]:
    """Yield the JSON object on each line that is not blank."""
    for number, line in lines(file):
        if isinstance(line, Fault):
            yield number, line
        elif not line.isspace():
            yield number, _object_on(line)


def json_elements(file: BinaryIO, key: str | None) -> Iterator[Read]:
    """Yield the objects in a JSON array by number, from 1.

    The array is the whole document, or the value of a key of an object that is. Raises EndOfInput
    where the document cannot be read further.
    """
    document = _Document(file)
    if key is not None and document.next() == "{":
        document.skip("{")
        while document.value() != key:
            document.skip(":")
            document.value(LONGEST_OTHER)
            if document.next() == "}":
                raise EndOfInput(f"The JSON document has no {key!r}.", "not_json")
            document.skip(",")
        document.skip(":")
    document.skip("[")
    number = 0
    while document.next() != "]":
        number += 1
        yield number, _checked(document.value())
        if document.next() != "]":
            document.skip(",")


class _Document:
    """A JSON document that is read a value at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape")
        self._text, self._at = "", 0

    def next(self) -> str:
        """Return the next character that is no white space. Raises EndOfInput at the end."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            if not self._read():
                raise EndOfInput("The JSON document ends too early.", "not_json")

    def skip(self, character: str) -> None:
        """Pass a character. Raises EndOfInput where another one follows."""
        if self.next() != character:
            raise EndOfInput(f"The JSON document lacks {character!r} here.", "not_json")
        self._at += 1

    def value(self, longest: int = LONGEST) -> object:
        """Pass a value and return it. Raises EndOfInput for what is no JSON, or longer."""
        self.next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                unread = len(self._text) - self._at
                may_go_on = isinstance(error, ValueError) and unread <= longest
                if may_go_on and self._read(unread):
                    continue
                raise EndOfInput(
                    f"Here stands no JSON value of at most {longest} characters.", "not_json"
                ) from error
            self._at = end
            return value

    def _read(self, least: int = 0) -> bool:
        """Read on, by as much again as is there; return False at the end."""
        data = self._file.read(max(CHUNK, least))
        self._text = self._text[self._at :] + self._decoder.decode(data, final=not data)
        self._at = 0
        return bool(data)


def _object_on(line: str) -> dict[str, object] | Fault:
    try:
        return _checked(_DECODER.decode(line))
    except (ValueError, RecursionError):
        return Fault("The line is not JSON.", "not_json")


def _checked(value: object) -> dict[str, object] | Fault:
    if isinstance(value, Twice):
        return Fault("A name stands twice in the JSON object.", "not_json")
    return value if isinstance(value, dict) else Fault("It is no JSON object.", "not_json")


def _unique(pairs: list[tuple[str, object]]) -> object:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Twice()


def _refuse(text: str) -> object:
    raise ValueError(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
