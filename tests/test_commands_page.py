"""The page of commands, the manual page and the completions are what the parser takes."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from authapi.commands.parser import command_parser
from tools.shell_files import COMMON, SHARE, actions_of, commands_of, made

PAGE = (Path(__file__).parent.parent / "docs" / "commands.md").read_text()


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
        taken = {argument(each) for each in actions_of(parser)} - COMMON
        assert arguments_on(rows[name]) == taken, name


@pytest.mark.parametrize("path", made(), ids=lambda path: path.name)
def test_shell_files(path):
    """The files are made from the parser: run `python tools/shell_files.py` after a change."""
    assert path.read_text() == made()[path]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["us"], ["user"]),
        (["session", ""], ["list", "end"]),
        (["user", "add", "--pass"], ["--password-stdin"]),
        (["hash", "--t"], ["--target-ms"]),
    ],
)
def test_bash(words, found):
    """Bash completes commands and options."""
    script = (
        'source "$1"; shift; COMP_WORDS=(authapi "$@"); COMP_CWORD=$#;'
        ' _shtab_authapi; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = SHARE / "bash-completion" / "completions" / "authapi"

    shown = subprocess.check_output(["bash", "-c", script, "bash", path, *words], text=True)

    assert shown.split() == found


def test_the_manual_page():
    """The manual page has each command, and `man` has nothing to warn of."""
    page = SHARE / "man" / "man1" / "authapi.1"
    for name in commands_of(command_parser()):
        assert f".SS authapi {name}\n" in page.read_text()
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    command = ["groff", "-man", "-Tutf8", "-Kutf8", "-ww", "-P-cbou", page]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "--password-stdin" in done.stdout
