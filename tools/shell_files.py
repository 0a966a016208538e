"""Make what shells and `man` know of the commands, from the parser: the files below `share/`.

Run it after a change to a command: `python tools/shell_files.py`. The wheel has the files as data.
"""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from pathlib import Path

import shtab

from authapi.commands.parser import command_parser
from authapi.features import COMMANDS

SHARE = Path(__file__).parent.parent / "share"
FILES = {"FILE", "CONFIG"}  # the arguments that are files
COMMON = {"-h", "--json", "--config", "--database-url"}
HEAD = r""".\" Made by tools/shell_files.py.
.TH AUTHAPI 1 "" "authapi" "User Commands"
.SH NAME
authapi \- run and operate the authentication service
.SH SYNOPSIS
.B authapi
.I COMMAND
[\fIargument\fR ...]
.SH DESCRIPTION
.B authapi serve
runs the service. The other commands are for its operator, while the service runs or not.
Run them with the service's settings.
.PP
Data is written to standard output, all else to standard error. A \fINAME\fR is a username,
an email, or an id as \fBid:7\fR.
.SH OPTIONS OF ALL COMMANDS
"""
TAIL = r""".SH ENVIRONMENT
Each setting is a variable \fBAUTHAPI_\fR...; \fBauthapi settings\fR shows them all.
.SH EXIT STATUS
.TP
.B 0
Done.
.TP
.B 1
Failed, or a check found a fault.
.TP
.B 2
A wrong argument or setting.
.TP
.B 130
Ended by ^C.
"""


def made() -> dict[Path, str]:
    """Return the text of each file, by its path."""
    parser = command_parser()
    commands = commands_of(parser)
    common = "".join(map(_argument, filter(_is_common, actions_of(commands["user list"]))))
    page = f"{HEAD}{common}.SH COMMANDS\n{''.join(map(_section, commands.items()))}{TAIL}"
    for name, each in commands.items():
        each.description = COMMANDS[name][1] if name in COMMANDS else "run the service"
        for action in actions_of(each):
            if action.metavar in FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return {
        SHARE / "bash-completion" / "completions" / "authapi": shtab.complete(parser, "bash"),
        SHARE / "zsh" / "site-functions" / "_authapi": shtab.complete(parser, "zsh"),
        SHARE / "man" / "man1" / "authapi.1": page,
    }


def commands_of(parser: ArgumentParser, prefix: str = "") -> dict[str, ArgumentParser]:
    """Return the parser of each command, by its name, such as `user add`."""
    found: dict[str, ArgumentParser] = {}
    for word, each in _choices(parser).items():
        found |= commands_of(each, f"{prefix}{word} ") or {f"{prefix}{word}": each}
    return found


def actions_of(parser: ArgumentParser) -> list[Action]:
    """Return the arguments of a parser that its help shows."""
    return [each for each in parser._actions if each.help != SUPPRESS]  # noqa: SLF001


def _choices(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    groups = (each for each in actions_of(parser) if isinstance(each, _SubParsersAction))
    return {word: each for group in groups for word, each in group.choices.items()}


def _section(command: tuple[str, ArgumentParser]) -> str:
    """Return the part of the manual page on a command."""
    name, parser = command
    description = _roff(" ".join((parser.description or "").split()))
    arguments = map(_argument, (each for each in actions_of(parser) if not _is_common(each)))
    return f".SS authapi {name}\n{description}\n{''.join(arguments)}"


def _is_common(action: Action) -> bool:
    return bool(COMMON.intersection(action.option_strings))


def _argument(action: Action) -> str:
    return f".TP\n\\fB{_roff(_shown(action))}\\fR\n{_roff(action.help or '')}\n"


def _shown(action: Action) -> str:
    """Return an argument with its value, such as `--limit N`."""
    value = str(action.metavar or action.dest.upper())
    if action.choices is not None:
        value = "|".join(map(str, action.choices))
    if not action.option_strings:
        return value
    return action.option_strings[0] + ("" if action.nargs == 0 else f" {value}")


def _roff(text: str) -> str:
    """Return a text as roff takes it."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^([.'])", r"\\&\1", text)


if __name__ == "__main__":
    for path, text in made().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
