"""The console of commands: data, messages and questions, on a terminal and in a pipe."""

import json
import subprocess
from pathlib import Path

import pytest
from example_commands import HOSTILE, LISTED, THINGS
from terminal import EXAMPLES, environment, in_pipe, on_terminal

from authapi.commands.cli import main

TABLE = r"""
ID  NAME                             MADE AT               ON   NOTES
1   anna                             1970-01-01T00:00:00Z  yes  -
22  Zoë ☕ 東京                      1970-01-01T00:00:01Z  no   a, b
3   a\x1b[2Jb\u202ec\x9bd\U000e0041  1970-01-01T00:00:02Z  yes  -
"""


def run(capsys, *arguments):
    """Run a command in this process; return its status, its output and its errors."""
    status = main(["example", *arguments], LISTED)
    return (status, *capsys.readouterr())


def test_one_thing(capsys):
    """A thing is a line for each value, or a JSON object."""
    assert run(capsys, "show", "0") == (
        0,
        "id       1\nname     anna\nmade at  1970-01-01T00:00:00Z\non       yes\nnotes    -\n",
        "",
    )
    status, shown, _ = run(capsys, "show", "2", "--json")
    assert (status, json.loads(shown)) == (0, THINGS[2])
    assert shown.isascii()


def test_a_list(capsys):
    """A list is a table, whose columns are aligned, or JSON Lines."""
    status, shown, _ = run(capsys, "list", "3")
    assert status == 0
    assert shown == TABLE.lstrip()

    _, shown, _ = run(capsys, "list", "3", "--json")
    assert [json.loads(line) for line in shown.splitlines()] == list(THINGS)


def test_columns(capsys):
    """People see the columns that matter; programs get all."""
    assert run(capsys, "list", "1", "--columns", "id", "on")[1] == "ID  ON\n1   yes\n"
    assert json.loads(run(capsys, "list", "1", "--json", "--columns", "id")[1]) == THINGS[0]


def test_an_empty_list(capsys):
    """An empty list is no output, and a word to people."""
    assert run(capsys, "list", "0") == (0, "", "There is nothing.\n")
    assert run(capsys, "list", "0", "--json") == (0, "", "")


@pytest.mark.parametrize("command", [["show", "2"], ["list", "3"], ["list", "3", "--json"]])
def test_hostile_text(command):
    """No control character of a value reaches a terminal, and nothing reorders what is shown."""
    status, shown = on_terminal(*EXAMPLES, "example", *command)

    assert status == 0
    assert not set(HOSTILE.replace("a", "")) & set(shown) - set("[2Jbcd")
    assert "\\x1b[2Jb\\u202ec" in shown or "\\u001b[2Jb\\u202ec" in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_that_lacks_a_character(encoding):
    """What the terminal's encoding lacks is written as an escape."""
    shown = subprocess.check_output(
        [*EXAMPLES, "example", "show", "1"], env=environment(PYTHONIOENCODING=encoding)
    )

    assert b"\\u6771" in shown


def test_a_failure(capsys):
    """A failure is a sentence, or one JSON object, on standard error."""
    assert run(capsys, "fail") == (
        1,
        "",
        "About to fail.\nauthapi: It failed, by \\x1b[31mplan.\n",
    )
    status, shown, said = run(capsys, "fail", "--json")
    assert (status, shown) == (1, "")
    assert json.loads(said) == {"error": "planned", "message": "It failed, by \x1b[31mplan."}


def test_a_check_that_finds_a_fault(capsys):
    """A command may return the exit status."""
    assert run(capsys, "check") == (1, "", "")


@pytest.mark.parametrize(
    "arguments",
    [["delete", "--json", "anna"], ["show", "--json", "one"], ["--json"], ["password", "--json"]],
)
def test_wrong_arguments_as_json(capsys, arguments):
    """With --json, wrong arguments are one JSON object too."""
    further = ["--no-password", "--password-stdin"] if arguments[0] == "password" else []
    with pytest.raises(SystemExit, match="2"):
        main(["example", *arguments, *further], LISTED)

    said = json.loads(capsys.readouterr().err)
    assert said["error"] == "usage"
    assert said["message"]


def test_a_group_without_a_command(capsys):
    """A group alone shows its commands, and is no success."""
    assert main(["example"], LISTED) == 2
    said = capsys.readouterr().err
    assert "usage: authapi example" in said
    assert "To delete." in said


def test_a_question():
    """On a terminal, the name is to be typed."""
    ask = (*EXAMPLES, "example", "delete")
    prompt = "Delete anna? Type 'anna' to go on: "

    assert on_terminal(*ask, answers=[(prompt, "anna\n")]) == (0, f"{prompt}anna\nDeleted anna.\n")
    status, shown = on_terminal(*ask, answers=[(prompt, "y\n")])
    assert (status, shown.splitlines()[-1]) == (
        1,
        "authapi: It was not confirmed, so nothing is changed.",
    )


def test_a_question_without_a_terminal():
    """In a pipe nothing is asked: the sentence names the option that answers."""
    ask = (*EXAMPLES, "example", "delete")

    assert in_pipe(*ask, given="anna\n") == (
        1,
        "",
        "authapi: Delete anna? There is no terminal to ask on: add --yes.\n",
    )
    assert in_pipe(*ask, "--yes") == (0, "Deleted anna.\n", "")


def test_a_typed_password():
    """On a terminal a password is typed twice, and never shown."""
    ask = (*EXAMPLES, "example", "password")

    status, shown = on_terminal(
        *ask, answers=[("Password: ", "pässwort\n"), ("Again: ", "pässwort\n")]
    )
    assert (status, shown) == (0, "Password: \nAgain: \nThe password is 'pässwort'.\n")
    status, shown = on_terminal(*ask, answers=[("Password: ", "one\n"), ("Again: ", "two\n")])
    assert (status, shown.splitlines()[-1]) == (1, "authapi: These are two different passwords.")
    status, shown = on_terminal(*ask, answers=[("Password: ", "\x04")])
    assert (status, shown.splitlines()[-1]) == (1, "authapi: No password was typed.")


@pytest.mark.parametrize(
    ("given", "password"),
    [("secret\n", "secret"), ("secret", "secret"), ("secret\r\n", "secret"), (" a\n\n", " a\n")],
)
def test_a_piped_password(given, password):
    """A piped password loses one newline, and no more."""
    command = (*EXAMPLES, "example", "password", "--password-stdin", "--json")

    status, shown, _ = in_pipe(*command, given=given)

    assert (status, json.loads(shown)) == (0, {"password": password})


def test_a_password_that_cannot_be_read():
    """Without a terminal the option is named; what is no text, or no end, is refused."""
    ask = (*EXAMPLES, "example", "password")

    status, _, said = in_pipe(*ask, given="secret")
    assert (status, said.endswith("pipe it in, with --password-stdin.\n")) == (1, True)
    assert in_pipe(*ask, "--password-stdin", given=b"\xff")[::2] == (
        1,
        "authapi: Standard input is not UTF-8.\n",
    )
    assert in_pipe(*ask, "--password-stdin", given="a" * 65_537)[::2] == (
        1,
        "authapi: Standard input has more than 65536 bytes.\n",
    )


@pytest.mark.parametrize(("prompt", "verb"), [("Password: ", "password"), ("go on: ", "delete")])
def test_an_interrupt(prompt, verb):
    """^C ends a command as a signal does, without a traceback."""
    status, shown = on_terminal(*EXAMPLES, "example", verb, answers=[(prompt, "\x03")])

    assert status == 130
    assert "Traceback" not in shown


def test_a_reader_that_leaves():
    """`| head` ends a list as SIGPIPE does, without a word."""
    shell = 'set -o pipefail; "$@" | head -n 2'
    done = subprocess.run(
        ["bash", "-c", shell, "bash", *EXAMPLES, "example", "list", "-1", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )

    assert (done.returncode, done.stderr) == (141, "")
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    "command", [["example", "show", "1"], ["example", "list", "-1"], ["--help"]]
)
def test_a_full_disk(command):
    """Output that cannot be written is a failure, in a sentence."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*EXAMPLES, *command], stdout=full, stderr=-1, text=True, check=False, env=environment()
        )

    assert (done.returncode, done.stderr) == (
        1,
        "authapi: Standard output cannot be written (No space left on device).\n",
    )


def test_closed_streams():
    """Closed streams are no traceback: without standard output there is nowhere to write to."""
    for closing, status in ((">&-", 1), ("2>&-", 0), ("<&-", 0)):
        shell = f'exec "$@" {closing}'
        done = subprocess.run(
            ["bash", "-c", shell, "bash", *EXAMPLES, "example", "show", "1"],
            capture_output=True,
            text=True,
            check=False,
            env=environment(),
        )
        assert done.returncode == status
        assert "Traceback" not in done.stderr
