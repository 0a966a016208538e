"""What stops a start, and the messages."""

import os
from pathlib import Path

import falcon
import pytest
from system_users import NOBODY, as_user

from authapi import Settings, StartError, create_app, mount, protect
from authapi.commands.cli import main
from authapi.server.process import hold, listen, serve
from authapi.settings import declared_settings

UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
OPTIONS = {"host", "port", "public_url", "database_url"}


@pytest.mark.parametrize("take", [listen, hold])
def test_a_port_of_root(take):
    """Without the privilege to take a port, the sentence names the privilege."""
    if os.geteuid() != 0 or not UNPRIVILEGED.exists() or int(UNPRIVILEGED.read_text()) <= 80:
        pytest.skip("every user may take every port here")

    with as_user(NOBODY, NOBODY), pytest.raises(StartError) as refusal:
        take(Settings(port=80))

    assert str(refusal.value) == (
        "Cannot listen on 127.0.0.1:80 (Permission denied): this user may not take that port, so "
        "set AUTHAPI_PORT to 1024 or more and let a proxy listen there, or grant "
        "CAP_NET_BIND_SERVICE."
    )


def test_an_address_of_another_machine():
    """An address that no interface has is not taken by anybody else either."""
    with pytest.raises(StartError, match="this machine has no such address, so set AUTHAPI_HOST"):
        listen(Settings(host="203.0.113.1", port=0))


@pytest.mark.parametrize("name", sorted({each.name for each in declared_settings()} - OPTIONS))
@pytest.mark.parametrize("ending", [["2"], []])
def test_a_setting_as_an_option(capsys, name, ending):
    """An option that would be a setting is refused with the name of the variable."""
    option = f"--{name.replace('_', '-')}"

    assert main(["serve", option, *ending] if ending else ["serve", f"{option}=2"]) == 2

    assert capsys.readouterr().err == (
        f"authapi: {option} is not an option of this command: "
        f"set the environment variable AUTHAPI_{name.upper()}.\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--wrkers", "2"],
        ["serve", "--database", "sqlite:///a.db"],  # part of an option's name
        ["serve", "unlock"],
        ["serve", "workers"],
        ["unlock", "anna", "bob"],
    ],
)
def test_other_arguments(capsys, arguments):
    """Any other argument that is not known is a mistake: nothing is guessed."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert "unrecognized arguments" in capsys.readouterr().err


def test_help_has_every_setting(capsys):
    """`authapi serve --help` tells what every setting is."""
    with pytest.raises(SystemExit, match="0"):
        main(["serve", "--help"])

    shown = " ".join(capsys.readouterr().out.split())
    for declared in declared_settings():
        assert f"AUTHAPI_{declared.name.upper()} {declared.metadata['help']}" in shown


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Settings.from_env, "Settings, not method: call it, as in Settings.from_env()"),
        (Settings, "Settings, not type: call it, as in Settings.from_env()"),
        ({"port": 1}, "Settings, not dict: write Settings(**values), or Settings.from_env("),
        (os.environ, "Settings, not _Environ: write Settings(**values), or Settings.from_env("),
        (None, "Settings, not NoneType: make them by Settings(name=value)"),
        ("authapi.db", "Settings, not str: make them by Settings(name=value)"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        create_app,
        serve,
        lambda given: mount(falcon.App(), given),
        lambda given: protect(lambda *_: [], given),
    ],
)
def test_no_settings(use, given, says):
    """A wrong argument in place of settings is refused with what to write instead."""
    with pytest.raises(TypeError) as refusal:
        use(given)

    assert str(refusal.value).startswith(f"authapi takes {says}")
