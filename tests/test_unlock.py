"""The command `user unlock`, which is also `unlock`."""

import os
from pwd import getpwuid

import pytest
from conftest import USER
from tries import WRONG, fail, lock_out

from authapi import Settings, __version__, create_app
from authapi.commands.cli import main

pytest_plugins = ("operator_fixtures",)


@pytest.mark.parametrize("name", ["CRISPENGARI", "crispengari@gmail.com", "id:1"])
def test_unlock(operate, client, clock, name):
    """The failures of both names are forgotten, while the service runs."""
    client.register()
    began = clock.now
    lock_out(client, clock)
    lock_out(client, clock, USER["email"])
    clock.now = began

    assert operate("unlock", name) == (0, "Unlocked.\n", "")
    assert client.log_in().status_code == 200
    assert client.log_in(USER["email"]).status_code == 200
    assert operate.json("user", "unlock", name) == [{"name": name, "unlocked": False}]
    assert operate("user", "unlock", name) == (0, "There were no failed logins.\n", "")
    operator = f"authapi-cli/{__version__} uid={os.getuid()} user={getpwuid(os.getuid()).pw_name}"
    events = client.query("SELECT user_id, ip, user_agent FROM audit_log WHERE event = 'unlocked'")
    assert events == [(1, "", operator)]


def test_a_name_that_is_nobodys(operate, client, clock):
    """A name that no user has can be unlocked."""
    lock_out(client, clock, "crispengari")

    assert operate("user", "unlock", "crispengari")[1] == "Unlocked.\n"

    assert fail(client).status_code == 401


def test_unlock_makes_nothing(tmp_path, capsys):
    """If there is no database or no keys, the command says so and makes nothing."""
    arguments = ["unlock", "nobody", "--database-url", f"sqlite:///{tmp_path}/authapi.db"]
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith(f"authapi: There is no database {tmp_path}/authapi")
    assert list(tmp_path.iterdir()) == []

    create_app(Settings(database_url=arguments[-1])).close()
    (tmp_path / "authapi.db.key").unlink()
    assert main(arguments) == 1
    assert not (tmp_path / "authapi.db.key").exists()


def test_unlock_of_nobody(operate):
    """A name that was mistyped is no success."""
    status, error, message = operate.refusal("user", "unlock", "nobody")
    assert (status, error) == (1, "no_such_user")
    assert message == "There is no user 'nobody', and no failed login with this name."
    with pytest.raises(SystemExit, match="2"):
        operate("user", "unlock", "\udcff")


def test_unlock_in_a_session(operate, client, token):
    """The wrong passwords of a user's sessions are forgotten, too."""
    wrong = ("POST", "/sessions/reauthenticate", {"password": WRONG})
    assert [client.request_as(token, *wrong).status_code for _ in range(10)] == [403] * 10

    assert operate("user", "unlock", USER["username"])[1] == "Unlocked.\n"

    assert client.request_as(token, *wrong).status_code == 403
