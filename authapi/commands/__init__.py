"""Operator commands: what a feature declares of one, and what it gets when it runs.

In this package, `parser` makes the parser of the command line, `cli` runs a command, `console` is
where a command writes and asks, and `tables` turns values into text.
"""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import authapi
from authapi.errors import OperatorError, StartError

LONGEST_NUMBER = 18  # digits

if TYPE_CHECKING:
    from argparse import Namespace, _ActionsContainer

    from authapi.app import AuthAPI
    from authapi.commands.console import Console
    from authapi.core import Core
    from authapi.events import Caller
    from authapi.settings import Settings


class CommandError(OperatorError):
    """Raised when a command cannot do what it is asked for."""

    def __init__(self, message: str, error: str = "failed") -> None:
        """Take the sentence and the name."""
        super().__init__(message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a command, as `argparse.ArgumentParser.add_argument` takes it.

    `name` is a name such as `name`, or an option such as `--all`. SECURITY: never a secret, because
    other users of the machine see arguments: read it with `Console.password`.
    """

    name: str
    help: str
    metavar: str | None = None
    type: Callable[[str], object] | None = None
    action: str | None = None
    nargs: str | None = None
    default: object = None
    choices: tuple[str, ...] | None = None
    required: bool | None = None

    def add_to(self, parser: _ActionsContainer) -> None:
        """Add the argument to a command's parser."""
        names = ("metavar", "type", "action", "nargs", "default", "choices", "required")
        keywords = {name: getattr(self, name) for name in names}
        given: dict[str, Any] = {name: each for name, each in keywords.items() if each is not None}
        parser.add_argument(self.name, help=self.help, **given)


class OneOf:
    """Options of which a command takes one at most, or exactly one."""

    def __init__(self, *options: Argument, required: bool = False) -> None:
        """Take the options, and whether one is required."""
        self._options, self._required = options, required

    def add_to(self, parser: _ActionsContainer) -> None:
        """Add the options to a command's parser."""
        group = parser.add_mutually_exclusive_group(required=self._required)
        for option in self._options:
            option.add_to(group)


YES = Argument("--yes", "do not ask", action="store_true")  # for `Console.confirm`
PASSWORD_STDIN = Argument(  # for `Console.password`
    "--password-stdin", "read the password from standard input", action="store_true"
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `authapi`. A feature declares its own in `COMMANDS`.

    `name` is one word, or a group and a verb: `user add`. `run(call)` writes to `call.console`, and
    raises CommandError or a `Failure` where it cannot do what it is asked for. It returns nothing,
    or the exit status: 1 where a check found a fault.

    A command with `needs_service` works on an existing service, which may run at the same time, and
    gets `call.core`. Any other has `call.settings` alone, which are read when it asks for them.
    """

    name: str
    description: str
    run: Callable[[Call], int | None]
    arguments: tuple[Argument | OneOf, ...] = ()
    needs_service: bool = True


class Call:
    """A run of a command: its arguments, its console, who runs it, and what it works on."""

    def __init__(
        self,
        arguments: Namespace,
        console: Console,
        read_settings: Callable[[], Settings],
    ) -> None:
        """Take the parsed arguments, the console and what reads the settings."""
        self.arguments = arguments
        self.console = console
        self._read_settings = read_settings
        self._core: Core | None = None

    @cached_property
    def settings(self) -> Settings:
        """Return the settings of the environment and the options. Raises SettingError."""
        return self._read_settings()

    @cached_property
    def operator(self) -> Caller:
        """Return the user who runs this process, as the caller of what the command changes."""
        return _operator()

    @property
    def core(self) -> Core:
        """Return the core of the service. Raises LookupError for a command that needs none."""
        if self._core is None:
            raise LookupError("this command does not declare needs_service")
        return self._core

    @contextmanager
    def service(self) -> Iterator[None]:
        """Open the service for the block, as the owner of its database. Raises StartError."""
        _ = self.operator  # whoever runs this, and not the owner
        with existing_service(as_owner(self.settings)) as app:
            self._core = app.core
            yield


def _operator() -> Caller:
    from pwd import getpwuid  # noqa: PLC0415 - for a command that runs

    from authapi.events import Caller  # noqa: PLC0415
    from authapi.middleware import new_request_id  # noqa: PLC0415

    uid = os.getuid()
    try:
        name = f" user={getpwuid(uid).pw_name}"
    except KeyError:  # it has no name, as in containers
        name = ""
    return Caller("", f"authapi-cli/{authapi.__version__} uid={uid}{name}", new_request_id())


def utf8(text: str) -> str:
    """Return an argument that is UTF-8: a `type` for argparse. Raises ValueError."""
    text.encode()
    return text


def natural(text: str) -> int:
    """Return the whole number of an argument: a `type` for argparse. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER):
        raise ArgumentTypeError(f"{text!r} is not a whole number of up to {LONGEST_NUMBER} digits")
    return int(text)


def as_owner(settings: Settings) -> Settings:
    """Switch from root to the owner of the database, if it is a file; return the settings.

    The secret key is read before, because root alone may be able to read it. Raises StartError.
    """
    from authapi.keys import with_secret_key  # noqa: PLC0415 - `authapi --help` loads no service
    from authapi.secret_files import become_owner  # noqa: PLC0415
    from authapi.settings import DatabaseSettings  # noqa: PLC0415

    settings = with_secret_key(settings)
    database = settings.of(DatabaseSettings)
    if not database.is_postgresql:
        become_owner(database.database_path)
    return settings


@contextmanager
def existing_service(settings: Settings) -> Iterator[AuthAPI]:
    """Open the application of an existing service for the block, and close it.

    Raises StartError where the database or its keys are missing, and makes neither, and where the
    schema is that of an older release. An empty PostgreSQL database gets its tables.
    """
    from authapi.app import create_app  # noqa: PLC0415 - `authapi --help` loads no service
    from authapi.database.opening import lacks_database, require_current  # noqa: PLC0415
    from authapi.keys import lacks_keys  # noqa: PLC0415
    from authapi.settings import DatabaseSettings  # noqa: PLC0415

    is_server = settings.of(DatabaseSettings).is_postgresql
    if not is_server and (lacks_database(settings) or lacks_keys(settings)):
        path = settings.of(DatabaseSettings).database_path
        raise StartError(
            f"There is no database {path}, or it has no keys: "
            "run this with the settings of the service, in its directory."
        )
    require_current(settings)
    app = create_app(settings)
    try:
        yield app
    finally:
        app.close()
