"""The command line: `authapi serve`, and the commands that features declare."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Mapping, Sequence
from functools import partial
from types import ModuleType

import authapi
from authapi import features
from authapi.commands import Command, CommandError, existing_service
from authapi.errors import StartError
from authapi.feature import load
from authapi.secret_files import become_owner
from authapi.settings import DatabaseSettings, SettingError, Settings, declared_settings, variable

Listed = Mapping[str, tuple[str | ModuleType, str]]

SERVE_OPTIONS = {
    "host": "the address to listen on",
    "port": "the port to listen on",
    "public_url": "where clients see it",
}
OPTIONS = {"database_url": "sqlite:///PATH or postgresql://…"}  # of every command


def main(arguments: Sequence[str] | None = None, listed: Listed = features.COMMANDS) -> int:
    """Run a command; return its exit status: 2 for a bad setting, 1 for another failure.

    `listed` has the features' commands: for each name the feature, and the line of help.
    """
    arguments = _joined(sys.argv[1:] if arguments is None else arguments, listed)
    parser = _parser(arguments, listed)
    known, others = parser.parse_known_args(arguments)
    try:
        _refuse_others(parser, others)
        known.run(known)
    except SettingError as error:
        return _refuse(error, 2)
    except (StartError, CommandError) as error:
        return _refuse(error, 1)
    return 0


def _joined(arguments: Sequence[str], listed: Listed) -> Sequence[str]:
    """Return the arguments with a command's name of two words, such as `db copy`, as one."""
    name = " ".join(arguments[:2])
    return [name, *arguments[2:]] if name in listed else arguments


def _refuse_others(parser: argparse.ArgumentParser, others: list[str]) -> None:
    """Exit where arguments are left over. Raises SettingError for the name of a setting."""
    if not others:
        return
    option = others[0].partition("=")[0]
    name = option.removeprefix("--").replace("-", "_")
    if option.startswith("--") and name in {each.name for each in declared_settings()}:
        raise SettingError(
            f"{option} is not an option of this command: "
            f"set the environment variable {variable(name)}."
        )
    parser.error(f"unrecognized arguments: {' '.join(others)}")


def _refuse(error: Exception, status: int) -> int:
    print(f"authapi: {error}", file=sys.stderr)  # noqa: T201 - the one sentence of a failure
    return status


def _parser(arguments: Sequence[str], listed: Listed) -> argparse.ArgumentParser:
    """Return the parser of these arguments.

    NOTE: it knows every command by its line of help, and further only the one that is asked for.
    So `authapi --help` imports no feature, and a command imports its own.
    """
    parser = argparse.ArgumentParser(
        prog="authapi",
        description="A small, fast, self-hosted authentication service.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"authapi {authapi.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_CommandParser)
    _add_serve(commands.add_parser("serve", help="run the service", allow_abbrev=False))
    asked_for = next((each for each in arguments if not each.startswith("-")), None)
    for name, (feature, text) in listed.items():
        command = commands.add_parser(name, help=text, allow_abbrev=False)
        if name == asked_for:
            _add_declared(command, name, feature)
    return parser


class _CommandParser(argparse.ArgumentParser):
    """The parser of a command, whose help may list the settings: to load them all takes a while."""

    shows_settings = False

    def format_help(self) -> str:
        """Return the help."""
        if self.shows_settings:
            self.epilog = _settings()
        return super().format_help()


def _add_serve(parser: _CommandParser) -> None:
    parser.description = (
        "Run the service. Every setting is an environment variable. An option\n"
        "wins over its variable."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.shows_settings = True
    parser.set_defaults(run=_serve)
    _add_options(parser, SERVE_OPTIONS | OPTIONS)


def _add_declared(parser: _CommandParser, name: str, feature: str | ModuleType) -> None:
    """Add what a feature declares of a command."""
    declared = load([feature])[-1].commands
    command = next(each for each in declared if each.name == name)
    parser.description = command.description
    parser.set_defaults(run=partial(_run, command, feature))
    for argument in command.arguments:
        argument.add_to(parser)
    _add_options(parser, OPTIONS)


def _add_options(parser: argparse.ArgumentParser, options: Mapping[str, str]) -> None:
    """Add an option for each of these settings; it wins over the environment variable."""
    for name, text in options.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=variable(name),
            metavar=name.upper(),
            help=f"{text} ({variable(name)})",
        )


def _settings_of(known: argparse.Namespace, *further: str | ModuleType) -> Settings:
    """Return the settings of the environment and the options. Raises SettingError."""
    options = {name: getattr(known, variable(name), None) for name in SERVE_OPTIONS | OPTIONS}
    return Settings.from_env(features=(*features.DEFAULT, *further), **options)


def _settings() -> str:
    """Return the part of the help that lists the settings."""
    lines = ["settings (docs/settings.md has more of each):"]
    for declared in declared_settings():
        text = textwrap.fill(
            declared.metadata["help"], 78, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
        lines += [f"  {variable(declared.name)}", text]
    return "\n".join(lines)


def _serve(known: argparse.Namespace) -> None:
    from authapi.server import serve  # noqa: PLC0415 - waitress is for this command alone

    serve(_settings_of(known))


def _run(command: Command, feature: str | ModuleType, known: argparse.Namespace) -> None:
    """Run a feature's command on the service of the settings, and print what it returns."""
    from authapi.keys import with_secret_key  # noqa: PLC0415 - `authapi --help` loads no service

    settings = with_secret_key(_settings_of(known, feature))  # root alone may be able to read it
    database = settings.of(DatabaseSettings)
    if not database.is_postgresql:
        become_owner(database.database_path)
    with existing_service(settings) as app:
        print(command.run(app.core, known))  # noqa: T201 - what the command says
