"""The console of a command: data on standard output, all else on standard error, and questions."""

from __future__ import annotations

import getpass
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TextIO

from authapi.commands import CommandError
from authapi.commands.tables import Record, Table, cell, label, printable

LONGEST_INPUT = 65_536  # bytes of a password on standard input


class ReaderGone(Exception):
    """Raised when nobody reads standard output any more, as after `| head`."""


class Console:
    """Where a command writes and asks. With `as_json`, data is JSON: an object, or JSON Lines.

    NOTE: the JSON is ASCII, so it is the same in every locale and harmless to a terminal.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        """Take whether data is JSON."""
        self.as_json = as_json

    def show(self, record: Record, text: str | None = None) -> None:
        """Show one thing. People read `text` in its place, or else a line for each value."""
        if self.as_json:
            self.write(json.dumps(record))
        elif text is not None:
            self.write("\n".join(map(printable, text.split("\n"))))
        else:
            width = max(map(len, record), default=0)
            for name, value in record.items():
                self.write(f"{label(name):{width}}  {cell(value)}")

    def rows(self, rows: Iterable[Record], columns: Sequence[str] = (), empty: str = "") -> None:
        """Show a list, as it comes. People see a table of these columns, or of all.

        `empty` is said where there are no rows.
        """
        table = self.table(columns)
        for row in rows:
            table.add(row)
        table.flush()
        if empty and not table.count:
            self.say(empty)

    def table(self, columns: Sequence[str] = ()) -> Table:
        """Return a list to add rows to, as they come, and to flush."""
        return Table(self, columns, as_json=self.as_json)

    def write(self, line: str) -> None:
        """Write a line to standard output as it is. Raises CommandError, or ReaderGone."""
        with _output() as output:
            output.write(f"{line}\n")

    def flush(self) -> None:
        """Write out what standard output still holds. Raises CommandError, or ReaderGone."""
        if sys.stdout:  # nothing waits in a closed stream: `write` would have failed
            with _output() as output:
                output.flush()

    def say(self, text: str) -> None:
        """Tell people something, on standard error. With `as_json` nothing is said."""
        if not self.as_json:
            tell("\n".join(map(printable, text.split("\n"))))

    @contextmanager
    def progress(self, step: str) -> Iterator[Callable[[], None]]:
        """Yield a function to call often, which says after a second how long the step takes."""
        from authapi.database.progress import progress  # noqa: PLC0415 - for long commands

        with progress(step, output=io.StringIO() if self.as_json else None) as tick:
            yield tick

    def confirm(self, question: str, expected: str, *, yes: bool) -> None:
        """Ask for a text to be typed, unless `yes` was given. Raises CommandError for another.

        `question` is such as "Delete the user anna (id 7)".
        """
        if yes:
            return
        if not _is_interactive():
            raise CommandError(
                f"{question}? There is no terminal to ask on: add --yes.", "not_confirmed"
            )
        print(f"{printable(question)}? Type {expected!r} to go on: ", end="", file=sys.stderr)  # noqa: T201
        sys.stderr.flush()
        typed = sys.stdin.readline()
        if not typed.endswith("\n"):  # ^D
            tell("")
        if typed.removesuffix("\n") != expected:
            raise CommandError("It was not confirmed, so nothing is changed.", "not_confirmed")

    def password(self, *, from_stdin: bool) -> str:
        """Return a password: typed twice on a terminal, or all of standard input but a newline.

        `from_stdin` says whether `--password-stdin` was given. Raises CommandError, also without
        that option and a terminal.
        """
        is_interactive = _is_interactive()
        if not is_interactive and not from_stdin:
            raise CommandError(
                "There is no terminal to ask for the password on: pipe it in, with "
                "--password-stdin.",
                "no_terminal",
            )
        password = _typed_twice() if is_interactive else self.secret_from_stdin()
        if not password:
            raise CommandError("The password is empty.", "no_password")
        return password

    def secret_from_stdin(self) -> str:
        """Return all of standard input but one newline at its end. Raises CommandError."""
        data = sys.stdin.buffer.read(LONGEST_INPUT + 1) if sys.stdin else b""
        if len(data) > LONGEST_INPUT:
            raise CommandError(f"Standard input has more than {LONGEST_INPUT} bytes.", "too_long")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise CommandError("Standard input is not UTF-8.", "not_utf8") from error
        return text.removesuffix("\r\n" if text.endswith("\r\n") else "\n")


def tell(line: str) -> None:
    """Write a line to standard error, if it can be written."""
    if sys.stderr:
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - what a console is for


@contextmanager
def _output() -> Iterator[TextIO]:
    """Yield standard output to write to. Raises CommandError where it fails, or ReaderGone."""
    if sys.stdout is None:
        raise CommandError("Standard output is closed.", "output_failed")
    try:
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors != "backslashreplace":
            sys.stdout.reconfigure(errors="backslashreplace")
        yield sys.stdout
    except OSError as error:
        _discard_output()
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from error
        raise CommandError(
            f"Standard output cannot be written ({error.strerror}).", "output_failed"
        ) from error


def _discard_output() -> None:
    """Let what is still buffered go nowhere: the interpreter writes it out as it ends."""
    with suppress(OSError):  # standard output may be no file, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_interactive() -> bool:
    """Return whether there is a terminal to ask on."""
    return bool(sys.stdin and sys.stderr and sys.stdin.isatty() and sys.stderr.isatty())


def _typed_twice() -> str:
    try:
        typed = getpass.getpass("Password: ")
        again = getpass.getpass("Again: ")
    except EOFError as error:
        tell("")
        raise CommandError("No password was typed.", "no_password") from error
    except UnicodeDecodeError as error:
        raise CommandError("The password is not UTF-8.", "not_utf8") from error
    if typed != again:
        raise CommandError("These are two different passwords.", "passwords_differ")
    return typed
