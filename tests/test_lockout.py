"""Lockout: too many failures in a row, which only the operator or the user ends."""

import pytest
from conftest import USER, cookie_of, token_of
from tries import WRONG, fail, lock_out, statuses

NETWORK = "192.0.2.7"


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
