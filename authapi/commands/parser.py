"""The parser of the command line, made of what features declare."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any, NoReturn

import authapi
from authapi.commands.console import Console, tell
from authapi.commands.tables import printable
from authapi.feature import load
from authapi.features import COMMANDS, GROUPS

PREFIX = "AUTHAPI_"

Listed = Mapping[str, tuple[str | ModuleType, str]]

SERVE_OPTIONS = {
    "host": "the address to listen on",
    "port": "the port to listen on",
    "public_url": "where clients see it",
}
OPTIONS = {  # of every command
    "config": "the settings file",
    "database_url": "sqlite:///PATH or postgresql://…",
}


class CommandParser(argparse.ArgumentParser):
    """The parser of a command. Its help may list the settings: to load them all takes a while."""

    shows_settings = False

    def __init__(self, *, as_json: bool = False, **keywords: Any) -> None:  # noqa: ANN401 - argparse's
        """Take whether an error is a JSON object, and what argparse takes."""
        super().__init__(**keywords, allow_abbrev=False)
        self.suggest_on_error = True  # from Python 3.14 on
        self._as_json = as_json

    def format_help(self) -> str:
        """Return the help."""
        if self.shows_settings:
            self.epilog = _settings()
        return super().format_help()

    def print_help(self, file: object = None) -> None:
        """Write the help to standard output. Raises CommandError, or ReaderGone."""
        del file  # argparse passes none, and ignores errors
        Console().write(self.format_help().rstrip())

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments, and exit with status 2."""
        message = printable(message)
        if not self._as_json:
            super().error(message)
        tell(json.dumps({"error": "usage", "message": message}))
        self.exit(2)


def command_parser(
    asked_for: str | None = None, listed: Listed = COMMANDS, *, as_json: bool = False
) -> CommandParser:
    """Return the parser.

    NOTE: it knows every command by its line of help, and further only the one that is `asked_for`,
    or all if that is None. So `authapi --help` imports no feature, and a command imports its own.
    """
    make = partial(CommandParser, as_json=as_json)
    parser = make(prog="authapi", description="A small, fast, self-hosted authentication service.")
    parser.add_argument("--version", action="version", version=f"authapi {authapi.__version__}")
    commands = _add_group(parser, make)
    _add_serve(commands.add_parser("serve", help="run the service"))
    groups: dict[str, Any] = {}
    for name, (feature, text) in listed.items():
        group, _, verb = name.rpartition(" ")
        if group and group not in groups:
            added = commands.add_parser(
                group, help=GROUPS.get(group), description=GROUPS.get(group)
            )
            groups[group] = _add_group(added, make)
        command = groups.get(group, commands).add_parser(verb, help=text)
        if asked_for in {name, None}:
            _add_declared(command, name, feature)
    return parser


def name_of(arguments: list[str], listed: Listed) -> str:
    """Return the name of the command that is asked for, or an empty text."""
    words = [each for each in arguments if not each.startswith("-")]
    names = (" ".join(words[:count]) for count in (2, 1))
    return next((name for name in names if name in listed), "")


def _add_group(parser: CommandParser, make: Any) -> Any:  # noqa: ANN401 - argparse's action is private
    """Let a parser take a command. Without one, the help is shown."""
    parser.set_defaults(declared=None, asked=parser)
    return parser.add_subparsers(metavar="COMMAND", parser_class=make, title="commands")


def _add_serve(parser: CommandParser) -> None:
    parser.description = (
        "Run the service. Every setting is an environment variable, or stands in the\n"
        "settings file. A variable wins over the file, and an option over both."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.shows_settings = True
    parser.set_defaults(declared="serve")
    _add_options(parser, SERVE_OPTIONS | OPTIONS)


def _add_declared(parser: CommandParser, name: str, feature: str | ModuleType) -> None:
    """Add what a feature declares of a command."""
    declared = load([feature])[-1]
    command = next(each for each in declared.commands if each.name == name)
    parser.description = command.description
    parser.set_defaults(declared=(command, declared))
    for argument in command.arguments:
        argument.add_to(parser)
    parser.add_argument("--json", action="store_true", help="write JSON, for programs")
    _add_options(parser, OPTIONS)


def _add_options(parser: argparse.ArgumentParser, options: Mapping[str, str]) -> None:
    """Add an option for each of these settings; it wins over the environment variable."""
    for name, text in options.items():
        variable = f"{PREFIX}{name.upper()}"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=variable,
            metavar=name.upper(),
            help=f"{text} ({variable})",
        )


def _settings() -> str:
    """Return the part of the help that lists the settings."""
    from authapi.settings import declared_settings, variable  # noqa: PLC0415 - for this help alone

    lines = ["settings (docs/settings.md has more of each):"]
    for declared in declared_settings():
        text = textwrap.fill(
            declared.metadata["help"], 78, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
        lines += [f"  {variable(declared.name)}", text]
    return "\n".join(lines)
