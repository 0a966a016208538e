"""The rows of budgets: what they hold, and how long they stay."""

import re

import pytest
from conftest import USER, Client
from tries import fail

from authapi import Settings, create_app


@pytest.mark.sqlite("it makes a second file")
def test_names_are_no_text_in_the_table(client, token):
    """People type passwords into the wrong field: a row has a keyed digest."""
    fail(client, "my secret password")

    keys = [key for (key,) in client.query("SELECT key FROM limits ORDER BY key")]
    assert re.fullmatch(r"login-account:[0-9a-f]{64}:username", keys[0])
    assert keys[0] != keys[1]
    other = Client(create_app(Settings(database_url=f"{_url(client)}2"), clock=lambda: 0))
    fail(other, "my secret password")
    assert keys[0] not in {key for (key,) in other.query("SELECT key FROM limits")}
    other.app.close()


def _url(client):
    return f"sqlite:///{client.app.core.database.path}"


def test_a_deleted_user_leaves_no_budget(client, token):
    """A user's budgets are deleted with the user."""
    fail(client)
    fail(client, USER["email"])
    client.request_as(token, "DELETE", "/user", {"password": USER["password"]})

    keys = [key for (key,) in client.query("SELECT key FROM limits")]
    assert not [key for key in keys if key.startswith(("login-account:", "password:"))]


@pytest.mark.parametrize("name", [USER["username"], "nobody"])
@pytest.mark.parametrize("failures", [1, 99])
@pytest.mark.parametrize(("seconds", "remembered"), [(-1, True), (0, False)])
def test_failures_long_ago(client, token, clock, failures, seconds, remembered, name):  # noqa: PLR0913, PLR0917
    """Each failure in a row is remembered for 0.9 days, so 100 would be for 90.

    Whether the name is somebody's makes no difference.
    """
    for _ in range(failures):
        clock.move(360)
        assert fail(client, name).status_code == 401
    clock.move(failures * 90 * 864 + seconds)

    locked_out = []
    for _ in range(100 - failures if remembered else 100):
        assert fail(client, name).status_code == 401
        locked_out.append(client.events()[-1] == "locked_out")
        clock.move(360)
    assert locked_out == [False] * (len(locked_out) - 1) + [True]


def test_rows_are_pruned(client, token, clock):
    """A job deletes rows without meaning: networks' within the hour, one failure's in a day."""
    for number in range(20):
        fail(client, f"user{number}")
    assert len(client.query("SELECT * FROM limits")) == 41  # one of the registration
    clock.move(3_601)
    fail(client, "another")
    client.app.jobs.run_due()
    assert len(client.query("SELECT * FROM limits")) == 22
    clock.move(90 * 864)
    fail(client, "another")
    client.app.jobs.run_due()
    assert len(client.query("SELECT * FROM limits")) == 2
