"""The page of commands is what the parser takes."""

import re
from argparse import SUPPRESS, _SubParsersAction
from pathlib import Path

from authapi.command_parser import command_parser

PAGE = (Path(__file__).parent.parent / "docs" / "commands.md").read_text()
OF_ALL = {"-h", "--json", "--database-url", "--config"}


def commands_of(parser, prefix=""):
    """Return the parser of each command, by its name."""
    found = {}
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for word, each in action.choices.items():
                found |= commands_of(each, f"{prefix}{word} ") or {f"{prefix}{word}": each}
    return found


def argument(action):
    """Return an argument as the page writes it, without the value of an option."""
    if action.option_strings:
        return action.option_strings[0]
    return (action.metavar or action.dest.upper()) + ("…" if action.nargs in {"+", "*"} else "")


def arguments_on(text):
    """Return the arguments that a row of the page has, without the values of options."""
    text = re.sub(r"(--[a-z-]+) [A-Z_a-z|\\-]+…?(?=[]| ]|$)", r"\1", text.replace("[", " ["))
    return set(re.sub(r"[\[\]]|\\\|", " ", text).split())


def test_every_command_is_on_the_page():
    """Each command has a row, with all of its arguments."""
    rows = dict(re.findall(r"^\| `([a-z]+(?: [a-z]+)?)((?: [^`]+)?)` \|", PAGE, re.MULTILINE))
    parsers = commands_of(command_parser())

    assert {*rows} == {*parsers}
    for name, parser in parsers.items():
        taken = {argument(each) for each in parser._actions if each.help != SUPPRESS} - OF_ALL
        assert arguments_on(rows[name]) == taken, name
