"""The command `hash`."""

import json

import pytest
from conftest import CHEAP
from terminal import AUTHAPI, in_pipe, on_terminal

from authapi import Settings
from authapi.commands.cli import main
from authapi.features.hash_command import OWASP
from authapi.passwords import Passwords

CHEAPLY = {f"AUTHAPI_{name.upper()}": str(value) for name, value in CHEAP.items()}


def is_right(stored, password):
    return Passwords(Settings(**CHEAP)).verify(stored, password).correct


def test_hash():
    """A hash of standard input is written, at the settings' cost."""
    status, shown, said = in_pipe(
        *AUTHAPI, "hash", "--password-stdin", given="a good password\n", **CHEAPLY
    )

    assert (status, said) == (0, "")
    assert shown.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert is_right(shown.rstrip(), "a good password")


def test_hash_without_a_terminal():
    """A password is read from standard input only where the option says so, as by `user add`."""
    status, shown, said = in_pipe(*AUTHAPI, "hash", given="a good password\n", **CHEAPLY)

    assert (status, shown) == (1, "")
    assert "--password-stdin" in said


def test_hash_on_a_terminal():
    """On a terminal the password is typed twice."""
    typed = [("Password: ", "a good password\n"), ("Again: ", "a good password\n")]

    status, shown = on_terminal(*AUTHAPI, "hash", answers=typed, **CHEAPLY)

    assert status == 0
    assert is_right(shown.splitlines()[-1], "a good password")


def test_an_empty_password():
    """No password is no hash."""
    assert in_pipe(*AUTHAPI, "hash", "--password-stdin", **CHEAPLY)[::2] == (
        1,
        "authapi: The password is empty.\n",
    )


def test_a_bad_setting():
    """A bad setting is status 2, as for every command."""
    assert in_pipe(*AUTHAPI, "hash", "--json", given="a", AUTHAPI_ARGON2_LANES="x")[0] == 2


def test_calibration():
    """With a time, the cost fits into it, and its settings are shown."""
    command = (*AUTHAPI, "hash", "--password-stdin", "--target-ms", "600")

    status, shown, said = in_pipe(*command, given="a good password")

    assert status == 0
    memory, passes = (said.partition(name)[2].split()[0] for name in ("KIB=", "COST="))
    assert shown.startswith(f"$argon2id$v=19$m={memory},t={passes},p=1$")
    assert int(memory) * int(passes) >= min(kib * each for kib, each in OWASP)


def test_calibration_for_programs():
    """With --json, the cost is in the object."""
    command = (*AUTHAPI, "hash", "--password-stdin", "--target-ms", "600", "--json")

    status, shown, said = in_pipe(*command, given="a good password")

    found = json.loads(shown)
    assert (status, said) == (0, "")
    cost = f"m={found['argon2_memory_kib']},t={found['argon2_time_cost']},p=1"
    assert cost in found["hash"]
    assert found["milliseconds"] > 0


def test_a_time_that_is_too_short(capsys):
    """A time in which no recommended cost fits is a failure that names what takes how long."""
    assert main(["hash", "--target-ms", "0"]) == 1
    assert "The least cost that OWASP recommends takes" in capsys.readouterr().err


@pytest.mark.parametrize("further", [["secret"], ["--password", "secret"], ["--target-ms", "-1"]])
def test_arguments_that_it_does_not_take(further):
    """A password is no argument."""
    with pytest.raises(SystemExit, match="2"):
        main(["hash", *further])
