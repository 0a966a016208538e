"""Tokens of a request: which one counts, and which cookies an answer may delete."""

import pytest
from conftest import deletes_cookie, token_of
from tokens_of_requests import (
    BAD,
    CHANGED,
    FOREIGN,
    GOOD,
    PROVED,
    RENEWED_AFTER,
    SPARED,
    bearing,
    carrying,
    outcome,
)

from authapi.errors import Unavailable


def test_one_good_cookie(client, token, dead):
    """If several cookies come, the one that opens a session counts, wherever it stands."""
    for others in ([dead], ["bad"], [""], [FOREIGN], [dead, "bad", FOREIGN, "", "x"] * 9):
        for cookies in ([token, *others], [*others, token]):
            assert outcome(client.simulate_get("/user", headers=carrying(*cookies))) == GOOD


def test_most_cookies(client, token):
    """The first 256 session cookies are read, which is more than a browser holds."""
    forged = [f"{token}{number}" for number in range(255)]

    answers = [
        client.simulate_get("/user", headers=carrying(*cookies))
        for cookies in ([*forged, token], [*forged, "x", token])
    ]

    assert [answer.status_code for answer in answers] == [200, 401]


def test_same_session_twice(client, token, clock):
    """Two tokens of one session are one session, and the newer of them counts."""
    clock.move(RENEWED_AFTER)
    newer = token_of(client.get_as(token))

    for cookies in ([token, token], [token, newer], [newer, token]):
        answer = client.simulate_get("/user", headers=carrying(*cookies))
        assert answer.status_code == 200
        assert answer.cookies.keys() == ({"jwt"} if newer not in cookies else set())


def test_two_sessions(client, token, other):
    """Cookies of two live sessions are refused, and neither is deleted."""
    for path in ("/user", "/verify"):
        answer = client.simulate_get(path, headers=carrying(token, other))
        assert outcome(answer) == SPARED
    assert client.get_as(token).status_code == 200


def test_bad_cookies(client, dead):
    """A cookie that opens no session is deleted, and so are several."""
    for cookies in ([dead], ["bad"], [""], [FOREIGN], [dead, "bad"], [dead] * 2):
        assert outcome(client.simulate_get("/user", headers=carrying(*cookies))) == BAD


def test_bearer_of_another_service(client, token, dead):
    """A bearer token that is not ours leaves a live cookie as good as it was."""
    for bearer in (FOREIGN, "opaque", "", f"{token}, Bearer {token}"):
        for path in ("/user", "/verify"):
            assert outcome(client.simulate_get(path, headers=bearing(bearer, token))) == GOOD
        assert outcome(client.simulate_get("/user", headers=bearing(bearer, dead))) == BAD
        assert outcome(client.simulate_get("/user", headers=bearing(bearer))) == SPARED


def test_bearer_beside_a_cookie(client, token, other, dead, clock):
    """A bearer token of ours must open the session, and it alone or the cookie's."""
    assert outcome(client.simulate_get("/user", headers=bearing(token, token))) == GOOD
    assert outcome(client.simulate_get("/user", headers=bearing(token, dead))) == GOOD
    assert outcome(client.simulate_get("/user", headers=bearing(token, other))) == SPARED
    assert outcome(client.simulate_get("/user", headers=bearing(dead, token))) == SPARED
    assert outcome(client.simulate_get("/user", headers=bearing(dead, dead))) == BAD
    assert outcome(client.simulate_get("/user", headers=bearing(dead))) == SPARED


def test_expired_bearer_of_the_same_session(client, token, clock):
    """An older token of a session, sent as a bearer, does not count against its newer cookie."""
    clock.move(RENEWED_AFTER)
    newer = token_of(client.get_as(token))
    clock.move(259_200 - RENEWED_AFTER)

    assert client.simulate_get("/user", headers=bearing(token)).status_code == 401
    assert client.simulate_get("/user", headers=bearing(token, newer)).status_code == 200


def test_protect(guarded, token, other, dead):
    """`protect` finds the same session, and deletes no cookie that may be good."""
    assert guarded.simulate_get("/", headers=bearing(FOREIGN, token)).status_code == 200
    assert guarded.simulate_get("/", headers=carrying(dead, token)).status_code == 200
    assert outcome(guarded.simulate_get("/", headers=carrying(token, other))) == SPARED
    assert outcome(guarded.simulate_get("/", headers=bearing(FOREIGN))) == SPARED
    assert outcome(guarded.simulate_get("/", headers=carrying(dead))) == BAD


CHANGES = [
    ("POST", "/sessions/reauthenticate", PROVED),
    ("PUT", "/user/password", CHANGED),
    ("PATCH", "/user", {"username": "renamed"}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_change_by_bearer(client, token, other, dead, change):
    """A change by a bearer token replaces a cookie that is bad, and none of another session."""
    method, path, body = change
    headers = bearing(token, other)
    refused = client.simulate_request(method, path, json=body, headers=headers)
    assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)

    changed = client.simulate_request(method, path, json=body, headers=bearing(token, dead))

    assert changed.status_code == 200
    assert client.get_as(token_of(changed)).status_code == 200
    assert client.get_as(other).status_code == 200


def test_end_by_bearer(client, token):
    """Ending a session or deleting a user by a bearer token deletes no cookie that was not sent."""
    ended = token_of(client.log_in())
    (session,) = [each for each in client.sessions_of(ended) if each["current"]]

    answers = [
        client.simulate_delete(f"/sessions/{session['id']}", headers=bearing(ended)),
        client.simulate_delete("/user", headers=bearing(token)),
    ]

    assert [(answer.status_code, "set-cookie" in answer.headers) for answer in answers] == [
        (200, False),
        (200, False),
    ]


def test_end_by_cookie(client, token):
    """Ending one's session or deleting the user deletes the cookie that was sent."""
    ended = token_of(client.log_in())
    (session,) = [each for each in client.sessions_of(ended) if each["current"]]

    assert deletes_cookie(client.request_as(ended, "DELETE", f"/sessions/{session['id']}"))
    assert deletes_cookie(client.request_as(token, "DELETE", "/user"))


def test_nothing_is_renewed_for_who_is_gone(client, token, clock):
    """A request that ends its own session sets no newer token for it."""
    clock.move(RENEWED_AFTER)

    answer = client.simulate_delete("/user", json=PROVED, headers=bearing(token))

    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_database_failure_deletes_nothing(client, token, dead, method, monkeypatch):
    """A cookie stays where the database cannot tell whether it is good."""

    def fails(*_):
        raise Unavailable

    monkeypatch.setattr(client.app.authenticate, "find", fails)

    for cookies in ([token], [dead], [token, dead]):
        answer = client.simulate_request(method, "/user", headers=carrying(*cookies))
        assert outcome(answer) == (503, "unavailable", False)


def test_password_that_changed_meanwhile(client, token, monkeypatch):
    """A deletion whose password changed while it was checked is refused, and the cookie stays."""
    verify = client.app.core.passwords.verify

    def and_then(*args, **options):
        verdict = verify(*args, **options)
        client.query("UPDATE users SET password_version = password_version + 1")
        return verdict

    monkeypatch.setattr(client.app.core.passwords, "verify", and_then)

    answer = client.request_as(token, "DELETE", "/user", PROVED)

    assert outcome(answer) == (403, "wrong_password", False)
    assert client.get_as(token).status_code == 200


def test_logout_everywhere(client, token, other, dead):
    """A logout everywhere takes the one live session; two of them are refused, and none ends."""
    again = token_of(client.log_in())
    refused = client.post("/logout", {"everywhere": True}, headers=carrying(token, other))
    assert outcome(refused) == SPARED
    assert [client.get_as(each).status_code for each in (token, other)] == [200, 200]

    answer = client.post("/logout", {"everywhere": True}, headers=carrying(dead, token))

    assert answer.status_code == 200
    assert [client.get_as(each).status_code for each in (token, again, other)] == [401, 401, 200]
