"""Exports: all users as JSON Lines, with their hashes, which `authapi import` reads.

Endpoints: none. Command: `authapi export`. Table: none of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from authapi.commands import Argument, Call, Command, CommandError
from authapi.core import Core
from authapi.times import timestamp

REQUIRES = ("users",)

PAGE = 500  # rows
COLUMNS = (
    *("id", "username_key", "email", "email_key", "password_hash", "password_version"),
    *("credentials_version", "email_verified_at", "roles", "disabled_at", "created_at"),
    *("updated_at", "username"),
)
DERIVED = {"username_key", "email_key"}


def users(core: Core, *, with_hashes: bool) -> Iterator[dict[str, object]]:
    """Yield every user, as `authapi import` reads them, by id."""
    read = core.database.statements("copy").users
    after = 0
    while rows := read(after=after, at_most=PAGE):
        for row in rows:
            yield _shown(dict(zip(COLUMNS, row, strict=True)), with_hashes=with_hashes)
        after = rows[-1][0]


def _shown(user: dict[str, Any], *, with_hashes: bool) -> dict[str, object]:
    left_out = DERIVED if with_hashes else DERIVED | {"password_hash"}
    return {
        name: timestamp(value) if name.endswith("_at") else value
        for name, value in user.items()
        if name not in left_out
    }


@contextmanager
def _output(path: str) -> Iterator[TextIO]:
    """Open a new file that nobody else can read, for the block; it is gone if the block fails.

    `-` is standard output. Raises CommandError.
    """
    if path == "-":
        yield sys.stdout
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise CommandError(f"{path} is there already: name a new file.", "file_exists") from error
    except OSError as error:
        raise CommandError(f"{path} cannot be written ({error.strerror}).", "no_file") from error
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
    except BaseException as error:
        Path(path).unlink()
        if isinstance(error, OSError):
            text = f"{path} cannot be written ({error.strerror})."
            raise CommandError(text, "no_file") from error
        raise


def _run(call: Call) -> None:
    path, count = call.arguments.file, 0
    # NOTE: the file is opened before root becomes the owner of the database.
    with _output(path) as output, call.service(), call.console.progress("Exporting users") as tick:
        for user in users(call.core, with_hashes=not call.arguments.no_hashes):
            line = json.dumps(user)
            if output is sys.stdout:
                call.console.write(line)
            else:
                output.write(f"{line}\n")
            count += 1
            tick()
    number = "1 user" if count == 1 else f"{count} users"
    if path == "-":
        call.console.say(f"Exported {number}.")
    else:
        call.console.show({"exported": count, "file": path}, f"Exported {number} to {path}.")


COMMANDS = (
    Command(
        "export",
        description="Write all users to a new file, or to standard output, as JSON Lines with the "
        "hashes of their passwords. authapi import makes the same users of it again.",
        run=_run,
        needs_service=False,
        arguments=(
            Argument(
                "file", "the file, default standard output", metavar="FILE", nargs="?", default="-"
            ),
            Argument("--no-hashes", "leave the hashes out", action="store_true"),
        ),
    ),
)
