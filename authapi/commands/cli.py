"""The command line: `authapi serve`, and the commands that features declare."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

from authapi import features
from authapi.commands import Call, Command
from authapi.commands.console import Console, ReaderGone, tell
from authapi.commands.parser import (
    OPTIONS,
    SERVE_OPTIONS,
    CommandParser,
    Listed,
    command_parser,
    name_of,
)
from authapi.commands.tables import printable
from authapi.errors import Failure, OperatorError, StartError
from authapi.signals import Ended, raising

if TYPE_CHECKING:
    from authapi.app import AuthAPI
    from authapi.feature import Feature
    from authapi.settings import Settings

ENDED = 128  # added to a signal's number, as shells do
FAULT = 500  # the least status of a failure that is not the operator's


def main(arguments: Sequence[str] | None = None, listed: Listed = features.COMMANDS) -> int:
    """Run a command; return its exit status.

    It is 1 for a failure, 2 for a bad setting, and 128 and the number for a signal. Raises
    SystemExit for `--help`, and with status 2 for arguments that the command does not take.
    `listed` has the features' commands: for each name the feature, and the line of help.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(as_json="--json" in given or _logs_json(given))
    try:
        try:
            return _run(given, listed, console)
        finally:
            console.flush()
    except ReaderGone:
        return ENDED + signal.SIGPIPE
    except KeyboardInterrupt:
        return ENDED + signal.SIGINT
    except Ended as signalled:
        return ENDED + signalled.number
    except OperatorError as error:
        return _refuse(console, error.error, str(error), error.exit_status)
    except Failure as failure:
        is_fault = failure.status >= FAULT and failure.__cause__
        cause = f" ({failure.__cause__})" if is_fault else ""
        return _refuse(console, failure.error, f"{failure.message}{cause}", 1)


def _logs_json(arguments: list[str]) -> bool:
    """Return whether a service is started whose log is JSON: why it does not start is JSON too."""
    form = os.environ.get("AUTHAPI_LOG_FORMAT", "").casefold()
    return arguments[:1] == ["serve"] and (form == "json" or (form == "auto" and not os.isatty(2)))


def _run(arguments: list[str], listed: Listed, console: Console) -> int:
    """Run the command of the arguments; return its exit status."""
    if arguments[:1] == ["serve"]:
        listed = {}  # the parsers of the other commands take 5 ms, and stay while the service runs
    name = name_of(arguments, listed)
    parser = command_parser(name, listed, as_json=console.as_json)
    known, others = parser.parse_known_args(arguments)
    _refuse_others(parser, others)
    if known.declared is None:  # a group, or nothing
        tell(known.asked.format_help().rstrip())
        return 2
    if known.declared == "serve":
        _serve(known)
        return 0
    command, feature = known.declared
    from authapi.commands.log import told  # noqa: PLC0415 - `--help` logs nothing

    with raising(), _progress_of(console), told(console):
        return _run_declared(
            command, feature, Call(known, console, partial(_settings_of, known, feature))
        )


def _serve(known: Namespace) -> None:
    """Run the service.

    NOTE: what a start imports is hardly ever garbage: to look for some takes 10 ms. `serve` lets
    the collector look only at what is made later.
    """
    gc.disable()
    try:
        from authapi.app import create_app  # noqa: PLC0415 - for this command alone, as waitress
        from authapi.commands.log import kept  # noqa: PLC0415
        from authapi.server import serve  # noqa: PLC0415

        with kept() as log:
            settings = _settings_of(known)

        def create(settings: Settings) -> AuthAPI:
            log()  # `serve` has set up the log
            return create_app(settings)

        serve(settings, create)
    finally:
        gc.enable()


def _progress_of(console: Console) -> AbstractContextManager[None]:
    """Show no progress in the block if a program reads standard error."""
    if not console.as_json:
        return nullcontext()
    from authapi.database.progress import silenced  # noqa: PLC0415 - `ping` is to be quick

    return silenced()


def _run_declared(command: Command, feature: Feature, call: Call) -> int:
    """Run a feature's command; return its exit status. Raises StartError if the feature is off."""
    if not command.needs_service:
        return command.run(call) or 0
    on = call.settings.features
    if feature not in on:
        off = [each for each in (feature, *feature.requires) if each.enabled_by and each not in on]
        needed = f": set AUTHAPI_{off[0].enabled_by.upper()}" if off else ""
        raise StartError(f"The feature {feature.name} is off{needed}.")
    with call.service():
        return command.run(call) or 0


def _refuse_others(parser: CommandParser, others: list[str]) -> None:
    """Exit where arguments are left over. Raises SettingError for the name of a setting."""
    if not others:
        return
    from authapi.settings import SettingError, declared_settings, variable  # noqa: PLC0415

    option = others[0].partition("=")[0]
    name = option.removeprefix("--").replace("-", "_")
    if option.startswith("--") and name in {each.name for each in declared_settings()}:
        raise SettingError(
            f"{option} is not an option of this command: "
            f"set the environment variable {variable(name)}."
        )
    parser.error(f"unrecognized arguments: {' '.join(others)}")


def _refuse(console: Console, error: str, message: str, status: int) -> int:
    """Say why a command failed; return the exit status."""
    if console.as_json:
        tell(json.dumps({"error": error, "message": message}))
    else:
        tell(f"authapi: {printable(message)}")
    return status


def _settings_of(known: Namespace, *further: Feature) -> Settings:
    """Return the settings of the environment and the options. Raises SettingError."""
    from authapi.settings import Settings, variable  # noqa: PLC0415 - `--help` reads none

    options = {name: getattr(known, variable(name), None) for name in SERVE_OPTIONS | OPTIONS}
    modules: Iterable[ModuleType] = (each.module for each in further)
    return Settings.from_env(features=(*features.DEFAULT, *modules), **options)
