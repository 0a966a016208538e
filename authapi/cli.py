"""The command line: `authapi serve` and `authapi unlock`."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence

import authapi
from authapi.errors import StartError
from authapi.secret_files import become_owner
from authapi.settings import SettingError, Settings, declared_settings, variable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 2 for a bad setting, 1 for a start that failed."""
    parser = _parser()
    known, others = parser.parse_known_args(arguments)
    options = vars(known)
    command, names = options.pop("command"), options.pop("names", [])
    try:
        _refuse_others(parser, others)
        command(Settings.from_env(**options), *names)
    except SettingError as error:
        return _refuse(error, 2)
    except StartError as error:
        return _refuse(error, 1)
    return 0


def _refuse_others(parser: argparse.ArgumentParser, others: list[str]) -> None:
    """Refuse arguments that are none of ours. Raises SettingError for the name of a setting."""
    if not others:
        return
    option = others[0].partition("=")[0]
    name = option.removeprefix("--").replace("-", "_")
    if option.startswith("--") and name in {each.name for each in declared_settings()}:
        raise SettingError(
            f"{option} is no option of this command: set the environment variable {variable(name)}."
        )
    parser.error(f"unrecognized arguments: {' '.join(others)}")


def _refuse(error: Exception, status: int) -> int:
    print(f"authapi: {error}", file=sys.stderr)  # noqa: T201 - the one sentence of a refused start
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="authapi",
        description="A small, fast, self-hosted authentication service.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"authapi {authapi.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Command)
    serve = commands.add_parser(
        "serve",
        help="run the service",
        description="Run the service. Every setting is an environment variable. An option\n"
        "wins over its variable.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    serve.set_defaults(command=_serve)
    serve.shows_settings = True
    serve.add_argument("--host", help="the address to listen on (AUTHAPI_HOST)")
    serve.add_argument("--port", help="the port to listen on (AUTHAPI_PORT)")
    serve.add_argument("--public-url", help="where clients see it (AUTHAPI_PUBLIC_URL)")
    unlock = commands.add_parser(
        "unlock",
        help="let a user log in who was locked out",
        description="Have the failed logins forgotten of a user, also while the service runs. "
        "It needs the settings of the service: its database and its keys.",
        allow_abbrev=False,
    )
    unlock.set_defaults(command=_unlock)
    unlock.add_argument("names", nargs=1, type=_text, metavar="NAME", help="username or email")
    for command in (serve, unlock):
        command.add_argument("--database-url", help="sqlite:///PATH (AUTHAPI_DATABASE_URL)")
    return parser


class _Command(argparse.ArgumentParser):
    """A command, whose help may list the settings: to know them all takes a while."""

    shows_settings = False

    def format_help(self) -> str:
        """Return the help."""
        if self.shows_settings:
            self.epilog = _settings()
        return super().format_help()


def _settings() -> str:
    """Return what each setting is, for the help."""
    lines = ["settings (docs/settings.md has more of each):"]
    for declared in declared_settings():
        text = textwrap.fill(
            declared.metadata["help"], 78, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
        lines += [f"  {variable(declared.name)}", text]
    return "\n".join(lines)


def _serve(settings: Settings) -> None:
    from authapi.server import serve  # noqa: PLC0415 - waitress is for this command alone

    serve(settings)


def _unlock(settings: Settings, name: str) -> None:
    from authapi.commands import unlock  # noqa: PLC0415 - `--help` does not load the service
    from authapi.keys import with_secret_key  # noqa: PLC0415

    settings = with_secret_key(settings)  # which root alone may be able to read
    become_owner(settings.database_path)
    forgotten = unlock(settings, name)
    if forgotten is None:
        raise StartError(f"There is no user {name!r}, and no failed login with this name.")
    print("Unlocked." if forgotten else "There were no failed logins.")  # noqa: T201


def _text(argument: str) -> str:
    """An argument that is UTF-8. Raises ValueError."""
    argument.encode()
    return argument
