"""The command line: `authapi serve` and `authapi unlock`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import authapi
from authapi.errors import StartError
from authapi.secret_files import become_owner
from authapi.setting import SettingError
from authapi.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 2 for a bad setting, 1 for a start that failed."""
    options = vars(_parser().parse_args(arguments))
    command, names = options.pop("command"), options.pop("names", [])
    try:
        command(Settings.from_env(**options), *names)
    except SettingError as error:
        return _refuse(error, 2)
    except StartError as error:
        return _refuse(error, 1)
    return 0


def _refuse(error: Exception, status: int) -> int:
    print(f"authapi: {error}", file=sys.stderr)  # noqa: T201 - the one sentence of a refused start
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="authapi", description="A small, fast, self-hosted authentication service."
    )
    parser.add_argument("--version", action="version", version=f"authapi {authapi.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="run the service",
        description="Run the service. Every setting is an environment variable, AUTHAPI_…; "
        "these options stand before theirs.",
    )
    serve.set_defaults(command=_serve)
    serve.add_argument("--host", help="the address to listen on (AUTHAPI_HOST)")
    serve.add_argument("--port", help="the port to listen on (AUTHAPI_PORT)")
    serve.add_argument("--public-url", help="where clients see it (AUTHAPI_PUBLIC_URL)")
    unlock = commands.add_parser(
        "unlock",
        help="let a user log in who was locked out",
        description="Have the failed logins forgotten of a user, also while the service runs. "
        "It needs the settings of the service: its database and its keys.",
    )
    unlock.set_defaults(command=_unlock)
    unlock.add_argument("names", nargs=1, type=_text, metavar="NAME", help="username or email")
    for command in (serve, unlock):
        command.add_argument("--database-url", help="sqlite:///PATH (AUTHAPI_DATABASE_URL)")
    return parser


def _serve(settings: Settings) -> None:
    from authapi.serve import serve  # noqa: PLC0415 - waitress is for this command alone

    serve(settings)


def _unlock(settings: Settings, name: str) -> None:
    from authapi.app import unlock  # noqa: PLC0415 - `--help` does not load the service
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
