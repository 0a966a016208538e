"""Operator commands: what a feature declares of one, and the service that it works on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from authapi.errors import StartError
from authapi.settings import DatabaseSettings, Settings

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from authapi.app import AuthAPI
    from authapi.core import Core


class CommandError(Exception):
    """Raised when a command cannot do what it is asked for; its text is one sentence."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a command, as `argparse.ArgumentParser.add_argument` takes it.

    `name` is a name such as `name`, or an option such as `--all`.
    """

    name: str
    help: str
    metavar: str | None = None
    type: Callable[[str], object] | None = None
    action: str | None = None
    nargs: str | None = None

    def add_to(self, parser: ArgumentParser) -> None:
        """Add the argument to a command's parser."""
        keywords = {"metavar": self.metavar, "type": self.type}
        keywords |= {"action": self.action, "nargs": self.nargs}
        given: dict[str, Any] = {name: each for name, each in keywords.items() if each is not None}
        parser.add_argument(self.name, help=self.help, **given)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `authapi`. A feature declares its own in `COMMANDS`.

    `run(core, arguments)` gets the core of an existing service and the parsed arguments, returns
    the text to print, and raises CommandError. The service may run at the same time.
    """

    name: str
    description: str
    run: Callable[[Core, Namespace], str]
    arguments: tuple[Argument, ...] = ()


def utf8(text: str) -> str:
    """Return an argument that is UTF-8: a `type` for argparse. Raises ValueError."""
    text.encode()
    return text


@contextmanager
def existing_service(settings: Settings) -> Iterator[AuthAPI]:
    """Open the application of an existing service for the block, and close it.

    Raises StartError where the database or its keys are missing, and makes neither.
    """
    from authapi.app import create_app  # noqa: PLC0415 - `authapi --help` loads no service
    from authapi.database.opening import lacks_database  # noqa: PLC0415
    from authapi.keys import lacks_keys  # noqa: PLC0415

    is_server = settings.of(DatabaseSettings).is_postgresql
    if not is_server and (lacks_database(settings) or lacks_keys(settings)):
        path = settings.of(DatabaseSettings).database_path
        raise StartError(
            f"There is no database {path}, or it has no keys: "
            "run this with the settings of the service, in its directory."
        )
    app = create_app(settings)
    try:
        yield app
    finally:
        app.close()
