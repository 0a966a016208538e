"""A login ends the session that it replaces, and late answers to older tokens log nobody out."""

import pytest
from conftest import OTHER, USER, token_of
from tokens_of_requests import (
    BAD,
    CHANGED,
    FOREIGN,
    PROVED,
    RENEWED_AFTER,
    SPARED,
    bearing,
    carrying,
    outcome,
)


@pytest.mark.parametrize("way", ["login", "registration"])
def test_session_is_replaced(client, token, other, way):
    """A login and a registration end the sessions of the cookies that they bring (ASVS 7.2.4)."""
    kept = token_of(client.log_in())
    headers = carrying(token, other, "bad")

    if way == "login":
        answer = client.log_in(headers=headers)
    else:
        fields = {"username": "third", "email": "third@example.com"}
        answer = client.post("/register", {**USER, **fields}, headers=headers)

    tokens = (token, other, kept, token_of(answer))
    assert [client.get_as(each).status_code for each in tokens] == [401, 401, 200, 200]
    ended = client.events("event", "user_id")[-3:]
    opened = ("logged_in", 1) if way == "login" else ("registered", 3)
    assert ended == [("session_revoked", 1), ("session_revoked", 2), opened]


def test_nothing_is_replaced(client, token, other, clock):
    """A failed login ends nothing; nor does one with a bearer, a foreign or an expired token."""
    client.log_in(password="wrong", headers=carrying(token))
    client.log_in(headers=bearing(token))
    client.log_in(extras={"HTTP_COOKIE": f"\xa0jwt={token}"})
    assert client.get_as(token).status_code == 200

    clock.move(RENEWED_AFTER)
    newer = token_of(client.get_as(token))
    clock.move(259_200 - RENEWED_AFTER)
    client.log_in(headers=carrying(token, FOREIGN))

    assert client.get_as(newer).status_code == 200
    assert "session_revoked" not in client.events()


def test_replaced_session_leaves_room(make_client):
    """The session that a login replaces does not count as one of the most that a user may have."""
    client = make_client(max_sessions=2)
    first, second = token_of(client.register()), token_of(client.log_in())

    client.log_in(headers=carrying(second))

    assert client.get_as(first).status_code == 200
    assert client.events().count("session_revoked") == 1


def test_replacing_is_undone_with_the_login(client, token, monkeypatch):
    """If the new session is not opened, the one that it would replace goes on."""
    client.app.core.events.subscribe(raises)

    assert client.log_in(headers=carrying(token)).status_code == 500

    assert client.get_as(token).status_code == 200


def raises(event):
    if event.name == "logged_in":
        raise RuntimeError


REPLACEMENTS = {
    "login": ("POST", "/login", {"usernameOrEmail": USER["username"], **PROVED}),
    "registration": ("POST", "/register", OTHER),
    "reauthentication": ("POST", "/sessions/reauthenticate", PROVED),
    "password change": ("PUT", "/user/password", CHANGED),
}


@pytest.mark.parametrize("way", REPLACEMENTS)
def test_late_answer(client, token, clock, way):
    """For a minute a token that was replaced is refused without deleting the newer cookie."""
    method, path, body = REPLACEMENTS[way]
    newer = token_of(client.request_as(token, method, path, body))

    for seconds, expected in [(0, SPARED), (59, SPARED), (1, BAD)]:
        clock.move(seconds)
        assert outcome(client.get_as(token)) == expected
        assert outcome(client.request_as(token, "PATCH", "/user", {"username": "x"})) == expected
    assert client.get_as(newer).status_code == 200


def test_late_answers_of_several_sessions(client, token, other, clock):
    """A login that replaces several sessions spares the newer cookie from each of their tokens."""
    third = token_of(client.log_in())
    client.log_in(headers=carrying(token, other, third))

    for each in (token, other, third):
        assert outcome(client.get_as(each)) == SPARED
    clock.move(60)
    for each in (token, other, third):
        assert outcome(client.get_as(each)) == BAD


def test_late_answer_after_two_replacements(client, token):
    """A token that was replaced twice within the minute is spared too."""
    newer = client.reauthenticate(token)
    newest = client.reauthenticate(newer)

    assert [outcome(client.get_as(each)) for each in (token, newer)] == [SPARED, SPARED]
    assert client.get_as(newest).status_code == 200


def test_replaced_sessions_are_forgotten(client, token, clock):
    """A session that is replaced again and again leaves no more than the last ones behind."""
    for _ in range(3):
        clock.move(60)
        token = client.reauthenticate(token)
    assert client.query("SELECT count(*) FROM replaced_sessions") == [(1,)]

    client.request_as(token, "POST", "/logout")
    assert client.query("SELECT count(*) FROM replaced_sessions") == [(0,)]


def test_late_answer_of_protect(guarded, client, token):
    """`protect` deletes no newer cookie either."""
    client.request_as(token, "POST", "/sessions/reauthenticate", PROVED)

    assert outcome(guarded.simulate_get("/", headers=carrying(token))) == SPARED


def test_late_answer_after_the_end(client, token, other):
    """If the newer session has ended too, the older token's cookie is deleted at once."""
    newer = token_of(client.request_as(token, "POST", "/sessions/reauthenticate", PROVED))
    client.request_as(newer, "POST", "/logout")

    assert outcome(client.get_as(token)) == BAD


def test_late_answer_to_an_older_token(client, token, clock):
    """A token that has expired deletes no cookie while its session goes on with a newer one."""
    clock.move(RENEWED_AFTER)
    newer = token_of(client.get_as(token))
    clock.move(259_200 - RENEWED_AFTER)

    assert outcome(client.get_as(token)) == SPARED
    assert client.get_as(newer).status_code == 200
