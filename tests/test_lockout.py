"""Lockout: too many failures in a row, which only the operator or the user ends."""

import os
from pwd import getpwuid

import pytest
from conftest import USER, cookie_of, token_of
from tries import WRONG, fail, lock_out, statuses

from authapi import Settings, __version__, create_app
from authapi.cli import main

NETWORK = "192.0.2.7"


def url_of(client):
    return client.app.core.settings.database_url


def test_lockout(client, token, clock):
    """After 100 failures in a row no time helps, and an event tells of it, once."""
    lock_out(client, clock)
    assert client.events()[-2:] == ["login_failed", "locked_out"]
    clock.move(365 * 86_400)
    client.app.jobs.run_due()  # prunes

    refused = [fail(client) for _ in range(3)]

    assert {answer.status_code for answer in refused} == {429}
    assert "browser" in refused[0].json["message"]
    assert refused[0].json["error"] == "too_many_requests"
    assert refused[0].headers["retry-after"] == "86400"
    assert refused[0].headers["ratelimit-policy"] == '"login-account";q=100;w=86400'
    assert client.log_in().status_code == 429
    assert client.query("SELECT user_id FROM audit_log WHERE event = 'locked_out'") == [(1,)]


def test_lockout_of_a_name_that_is_nobodys(client, token, clock):
    """An unknown name is locked out like any other, with an event that names no user."""
    lock_out(client, clock, "nobody")

    assert fail(client, "nobody").status_code == 429
    assert client.query("SELECT user_id FROM audit_log WHERE event = 'locked_out'") == [(None,)]


def test_login_from_a_known_browser_ends_the_lockout(client, clock):
    """The owner's browser logs in while the name is locked out, and that lets new ones in again."""
    device = cookie_of(client.register(), "device")
    lock_out(client, clock)
    assert client.log_in().status_code == 429

    assert client.log_in(headers={"Cookie": f"device={device}"}).status_code == 200

    assert client.log_in().status_code == 200


def test_lockout_in_a_session(client, token, clock):
    """A session's wrong passwords have an end too, until the user logs in."""
    wrong = {"password": WRONG}
    for _ in range(100):
        token = token_of(client.log_in()) if clock.now > 1_660_900_000 else token
        answer = client.request_as(token, "POST", "/sessions/reauthenticate", wrong)
        if answer.status_code != 403:
            break
        clock.move(360)
    assert client.events().count("login_failed") == 100
    ((session_id,),) = client.query("SELECT session_id FROM audit_log WHERE event = 'locked_out'")
    assert session_id in {one["id"] for one in client.sessions_of(token)}
    clock.move(86_400)
    refused = client.request_as(token, "POST", "/sessions/reauthenticate", wrong)
    assert refused.status_code == 429

    token = token_of(client.log_in())
    right = {"password": USER["password"]}
    answer = client.request_as(token, "POST", "/sessions/reauthenticate", right)
    assert answer.status_code == 200


@pytest.mark.parametrize("name", ["CRISPENGARI", "crispengari@gmail.com"])
def test_operator_unlocks(client, clock, capsys, name):
    """`authapi unlock` forgets the failures of both names, while the service runs."""
    client.register()
    lock_out(client, clock)
    lock_out(client, clock, USER["email"])
    arguments = ["unlock", name, "--database-url", url_of(client)]

    assert main(arguments) == 0
    assert capsys.readouterr().out == "Unlocked.\n"
    assert client.log_in().status_code == 200
    assert client.log_in(USER["email"]).status_code == 200
    assert main(arguments) == 0
    assert capsys.readouterr().out == "There were no failed logins.\n"
    operator = f"authapi-cli/{__version__} uid={os.getuid()} user={getpwuid(os.getuid()).pw_name}"
    events = client.query("SELECT user_id, ip, user_agent FROM audit_log WHERE event = 'unlocked'")
    assert events == [(1, "", operator)]


def test_operator_unlocks_a_name_that_is_nobodys(client, clock, capsys):
    """The operator can unlock a name that no user has."""
    lock_out(client, clock, "crispengari")

    assert main(["unlock", "crispengari", "--database-url", url_of(client)]) == 0

    assert capsys.readouterr().out == "Unlocked.\n"
    assert fail(client).status_code == 401


@pytest.mark.parametrize("most", [1, 3])
def test_lockout_is_a_setting(make_client, clock, most):
    """The number of failures in a row is as set, and no time makes up for them."""
    client = make_client(login_lockout=most)
    client.register()

    assert statuses(most + 1, lambda: fail(client)) == [401] * most + [429]
    assert client.events()[-1] == "locked_out"
    clock.move(91 * 86_400)
    client.app.jobs.run_due()  # prunes
    assert fail(client).status_code == 429


def test_a_lockout_that_was_higher(make_client):
    """A name with more failures than the new lockout allows is locked out, in the same words."""
    client = make_client(login_lockout=9)
    client.register()
    assert statuses(7, lambda: fail(client)) == [401] * 7

    answer = fail(make_client(login_lockout=5))
    assert (answer.status_code, answer.headers["ratelimit-policy"]) == (
        429,
        '"login-account";q=5;w=86400',
    )


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


def test_unlock_of_nobody(client, capsys):
    """A name that was mistyped is no success."""
    assert main(["unlock", "nobody", "--database-url", url_of(client)]) == 1
    said = "authapi: There is no user 'nobody', and no failed login with this name.\n"
    assert capsys.readouterr().err == said
    with pytest.raises(SystemExit, match="2"):
        main(["unlock", "\udcff", "--database-url", url_of(client)])


def test_unlock_in_a_session(client, token, capsys):
    """The operator's command forgets the wrong passwords of a user's sessions, too."""
    wrong = ("POST", "/sessions/reauthenticate", {"password": WRONG})
    assert [client.request_as(token, *wrong).status_code for _ in range(10)] == [403] * 10

    assert main(["unlock", USER["username"], "--database-url", url_of(client)]) == 0

    assert capsys.readouterr().out == "Unlocked.\n"
    assert client.request_as(token, *wrong).status_code == 403


def test_the_log_names_a_lockout(make_client, caplog):
    """A lockout has a line of its own, apart from the limit that time fills again."""
    caplog.set_level("INFO", "authapi.refusals")
    client = make_client(login_lockout=1)
    assert statuses(2, lambda: fail(client, remote_addr=NETWORK)) == [401, 429]

    assert [line.strip() for line in caplog.messages] == [
        f"refused error=too_many_requests limit=login-account locked_out network={NETWORK}"
    ]
