"""The command line: commands are declared by features, and known without importing them."""

import greetings
import pytest
from conftest import USER

from authapi import features
from authapi.commands.cli import main
from authapi.feature import load

LISTED = {**features.COMMANDS, "greet": (greetings, "greet a user")}


@pytest.fixture(name="greet")
def _greet(make_client, monkeypatch):
    """Run a command of a feature that the library does not know, beside its service."""
    monkeypatch.setenv("AUTHAPI_GREETING", "Hello")
    client = make_client(features=(*features.DEFAULT, greetings), greeting="Hello")
    client.register()
    url = f"sqlite:///{client.app.core.settings.database_path}"
    return lambda *arguments: main(["greet", *arguments, "--database-url", url], LISTED)


def test_what_features_declare_is_listed():
    """The help's list of commands is what the features declare, each by its feature."""
    listed = {name: feature for name, (feature, _) in features.COMMANDS.items()}
    declared = {
        command.name: feature.name
        for feature in load([*features.DEFAULT, *listed.values()])
        for command in feature.commands
    }

    assert declared == listed
    assert {*features.GROUPS} == {name.split()[0] for name in listed if " " in name}


def test_help_lists_the_commands(capsys):
    """`authapi --help` has a line for each command."""
    with pytest.raises(SystemExit, match="0"):
        main(["--help"], LISTED)

    shown = capsys.readouterr().out
    for name in ("serve", *(name.split()[0] for name in LISTED)):
        assert f"    {name} " in shown
    assert "greet a user" in shown


def test_help_of_a_group(capsys):
    """A group's help has a line for each of its commands."""
    with pytest.raises(SystemExit, match="0"):
        main(["user", "--help"], LISTED)

    shown = capsys.readouterr().out
    for name in (name.split()[1] for name in LISTED if name.startswith("user ")):
        assert f"    {name} " in shown


def test_help_of_a_command(capsys):
    """A command's help is what its feature declares."""
    with pytest.raises(SystemExit, match="0"):
        main(["greet", "--help"], LISTED)

    shown = capsys.readouterr().out
    assert "Greet a user of the service." in shown
    assert "username or email" in shown
    assert "AUTHAPI_DATABASE_URL" in shown


def test_a_command_gets_the_core_and_its_arguments(greet, capsys):
    """A command works on the service of the settings, and what it returns is printed."""
    assert greet(USER["email"], "--loud") == 0
    assert capsys.readouterr().out == "HELLO, CRISPENGARI.\n"


def test_a_command_that_fails(greet, capsys):
    """An error of a command is one sentence, and status 1."""
    assert greet("nobody") == 1
    assert capsys.readouterr().err == "authapi: There is no user 'nobody'.\n"


def test_a_command_of_a_feature_that_is_off(greet, capsys, monkeypatch):
    """A command of a feature that is off names the setting that turns it on."""
    monkeypatch.setenv("AUTHAPI_GREETING", "")

    assert greet(USER["email"]) == 1
    said = capsys.readouterr().err
    assert said == "authapi: The feature greetings is off: set AUTHAPI_GREETING.\n"


@pytest.mark.parametrize("arguments", [[], ["one", "two"], ["one", "--quiet"]])
def test_arguments_that_a_command_does_not_take(greet, arguments):
    """Missing and further arguments are refused with status 2."""
    with pytest.raises(SystemExit, match="2"):
        greet(*arguments)


def test_a_command_that_is_not_there(capsys):
    """A command that no feature declares is refused, with those that there are."""
    with pytest.raises(SystemExit, match="2"):
        main(["lock"])
    assert "serve" in capsys.readouterr().err
