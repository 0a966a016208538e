"""Reauthentication: sessions that are fresh, and resources that ask for it."""

import pytest
from conftest import USER, deletes_cookie, token_of
from overtaking import after_the_check

from authapi import fresh
from authapi.features.replaced_sessions import REMEMBERED_FOR


class Vault:
    """A resource of an application's own that asks for a fresh session."""

    needs = (fresh,)

    def on_get(self, req, resp):
        resp.media = {"owner": req.context.user.username}

    def on_post(self, req, resp):
        resp.media = {}


@pytest.fixture(name="vault")
def _vault(client, clock):
    client.app.add_route("/vault", Vault())
    return client


def reauthenticate(client, token, password=USER["password"]):
    return client.request_as(token, "POST", "/sessions/reauthenticate", {"password": password})


def test_fresh_after_a_login(vault, token, clock):
    """A login or registration makes a session fresh for five minutes, and not a second more."""
    clock.move(299)
    assert vault.get_as(token, "/vault").status_code == 200

    clock.move(1)
    answer = vault.get_as(token, "/vault")
    assert (answer.status_code, answer.json["error"], answer.json["message"]) == (
        403,
        "fresh_login_required",
        "Give your password again first.",
    )
    assert vault.get_as(token).status_code == 200


def test_clock_back(vault, token, clock):
    """A clock that was set back leaves a session fresh by as much, and no more."""
    clock.move(-299)
    assert vault.get_as(token, "/vault").status_code == 200
    clock.move(-1)
    assert vault.get_as(token, "/vault").status_code == 403


def test_reauthenticate(vault, token, clock):
    """The password makes a session fresh again, for five minutes."""
    clock.move(1_000)
    answer = reauthenticate(vault, token)
    newer = token_of(answer)

    assert (answer.status_code, answer.json["message"]) == (200, "Authenticated again.")
    assert USER["username"] == answer.json["user"]["username"]
    clock.move(299)
    assert vault.get_as(newer, "/vault").status_code == 200
    clock.move(1)
    assert vault.get_as(newer, "/vault").status_code == 403


def test_new_token(vault, token, clock):
    """The session has a new token; a copy of the old one does not become fresh with it: it ends."""
    clock.move(1_000)

    newer = token_of(reauthenticate(vault, token))

    clock.move(REMEMBERED_FOR + 1)  # the browser has the newer cookie by now
    answer = vault.get_as(token)
    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert deletes_cookie(answer)
    assert len(vault.sessions_of(newer)) == 1


def test_other_sessions(vault, token, clock):
    """Other sessions of the user go on, no fresher than they were."""
    other = token_of(vault.log_in())
    clock.move(300)

    reauthenticate(vault, token)

    assert vault.get_as(other).status_code == 200
    assert vault.get_as(other, "/vault").status_code == 403


def test_absolute_limit_stays(vault, token, clock):
    """A reauthentication moves the idle limit, and not the absolute one."""
    start = clock.now
    for _ in range(14):
        clock.move(172_800)
        token = token_of(reauthenticate(vault, token))
    answer = reauthenticate(vault, token)

    assert answer.cookies["jwt"].max_age == start + 2_592_000 - clock.now


def test_wrong_password(vault, token, clock):
    """A wrong password is 403, and the session goes on as it was."""
    clock.move(300)

    answer = reauthenticate(vault, token, "wrong password")

    assert (answer.status_code, answer.json["error"]) == (403, "wrong_password")
    assert "set-cookie" not in answer.headers
    assert vault.get_as(token).status_code == 200
    assert vault.get_as(token, "/vault").status_code == 403
    ((name, user_id, session_id),) = vault.events("event", "user_id", "session_id")[1:]
    assert (name, user_id) == ("login_failed", 1)
    assert vault.sessions_of(token)[0]["id"] == session_id


def test_event(client, token):
    """A reauthentication emits an event."""
    newer = token_of(reauthenticate(client, token))

    expected = ("reauthenticated", 1, client.sessions_of(newer)[0]["id"])
    assert expected == client.events("event", "user_id", "session_id")[-1]


def test_renewal_is_not_fresh(vault, token, clock):
    """A renewed token, or one in use, is no fresher for it."""
    clock.move(3_600)
    newer = token_of(vault.get_as(token))

    assert vault.get_as(newer, "/vault").status_code == 403


def test_without_a_session(vault, client):
    """A resource that asks for a fresh session asks for a session first."""
    answer = vault.simulate_get("/vault")

    assert (answer.status_code, answer.json["error"]) == (401, "not_authenticated")
    assert client.post("/sessions/reauthenticate", {"password": "x"}).status_code == 401


def test_methods(vault, token, clock):
    """`needs` holds for every method except OPTIONS and those that the resource does not answer."""
    clock.move(300)

    statuses = [
        vault.request_as(token, method, "/vault").status_code
        for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS")
    ]

    assert statuses == [403, 403, 403, 405, 200]


def test_session_that_ended_meanwhile(client, token, monkeypatch):
    """A session that was ended while its password was checked gets no new token."""
    after_the_check(monkeypatch, client, lambda: client.request_as(token, "POST", "/logout"))

    answer = reauthenticate(client, token)
    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert "reauthenticated" not in client.events()
