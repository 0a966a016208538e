"""A change of one's password."""

import threading

import pytest
from conftest import OTHER, USER, deletes_cookie, request, running, token_of
from overtaking import during_the_hash

from authapi.features.replaced_sessions import REMEMBERED_FOR

NEW = "a better password"


def change(client, token, current=USER["password"], new=NEW):
    body = {"current_password": current, "new_password": new}
    return client.request_as(token, "PUT", "/user/password", body)


def test_change(client, token):
    """The new password works from now on, the old one no more, and the session goes on."""
    answer = change(client, token)

    assert (answer.status_code, answer.json["message"]) == (200, "Password changed.")
    assert USER["username"] == answer.json["user"]["username"]
    assert client.get_as(token_of(answer)).status_code == 200
    assert client.log_in().status_code == 401
    assert client.log_in(password=NEW).status_code == 200


def test_every_other_session_ends(client, token):
    """The user's other sessions end at once, another user's do not."""
    others = [token_of(client.log_in()) for _ in range(3)]
    stranger = token_of(client.register(**OTHER))

    newer = token_of(change(client, token))

    assert [client.get_as(other).status_code for other in others] == [401] * 3
    assert client.get_as(stranger).status_code == 200
    assert len(client.sessions_of(newer)) == 1


def test_new_id(client, token, clock):
    """The session that changed it has a new token and a new id; the old token is dead."""
    (before,) = client.sessions_of(token)

    newer = token_of(change(client, token))

    clock.move(REMEMBERED_FOR + 1)  # the browser has the newer cookie by now
    answer = client.get_as(token)
    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert deletes_cookie(answer)
    (after,) = client.sessions_of(newer)
    assert before["id"] != after["id"]
    assert before["created_at"] == after["created_at"]


def test_events(client, token):
    """The events are in order, with the session that goes on."""
    client.log_in()
    newer = token_of(change(client, token))

    (session,) = client.sessions_of(newer)
    *_, changed, credentials, revoked = client.events("event", "user_id", "session_id")
    assert changed == ("password_changed", 1, session["id"])
    assert credentials == ("credentials_changed", 1, session["id"])
    assert revoked[:2] == ("session_revoked", 1)


def test_wrong_password(client, token):
    """A wrong current password is 403, so that no client takes it for a lost session."""
    other = token_of(client.log_in())

    answer = change(client, token, current="wrong password")

    assert (answer.status_code, answer.json["error"], answer.json["message"]) == (
        403,
        "wrong_password",
        "The password is wrong.",
    )
    assert "set-cookie" not in answer.headers
    assert client.get_as(token).status_code == 200
    assert client.get_as(other).status_code == 200
    assert client.log_in().status_code == 200
    assert client.events().count("login_failed") == 1


@pytest.mark.parametrize("new", ["short", "x" * 1_025, "password123", "\0" * 8])
def test_policy(client, token, new):
    """The new password is held to the policy, before anything is checked or changed."""
    answer = change(client, token, current="wrong password", new=new)

    assert (answer.status_code, answer.json["error"]) == (422, "validation_failed")
    assert [fault["field"] for fault in answer.json["errors"]] == ["new_password"]
    assert client.get_as(token).status_code == 200


def test_body(client, token):
    """Both fields are required, and nothing else is taken."""
    answer = client.request_as(token, "PUT", "/user/password", {"password": NEW})

    fields = {fault["field"] for fault in answer.json["errors"]}
    assert (422, {"password", "current_password", "new_password"}) == (answer.status_code, fields)


def test_needs_a_session(client):
    """Without a session there is no password to change."""
    answer = client.simulate_put("/user/password", json={})

    assert (answer.status_code, answer.json["error"]) == (401, "not_authenticated")


def test_session_that_ended_meanwhile(client, token, monkeypatch):
    """A session that was ended while hashing changes no password, and gets no new token."""
    during_the_hash(monkeypatch, client, lambda: client.request_as(token, "POST", "/logout"))

    answer = change(client, token)

    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert deletes_cookie(answer)
    assert client.log_in().status_code == 200
    assert "password_changed" not in client.events()


def test_password_that_changed_meanwhile(client, token, monkeypatch):
    """If two changes run at once, one wins, and the other's session has ended by then."""
    other = token_of(client.log_in())

    def win():
        assert change(client, other, new="the winner's password").status_code == 200

    during_the_hash(monkeypatch, client, win)
    answer = change(client, token)

    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert client.log_in(password="the winner's password").status_code == 200


def test_many_at_once(make_app):
    """If eight changes run at once on threads, only one is acknowledged, and holds."""
    with running(make_app(hash_slots=8)) as port:
        url = f"http://127.0.0.1:{port}"
        login = {"usernameOrEmail": USER["username"], "password": USER["password"]}
        request(f"{url}/register", USER)
        begin, answers = threading.Barrier(8), {}

        def attempt(number):
            cookie = request(f"{url}/login", login)[2]["Set-Cookie"].partition(";")[0]
            begin.wait()
            body = {"current_password": USER["password"], "new_password": f"password {number}"}
            answers[number] = request(f"{url}/user/password", body, method="PUT", Cookie=cookie)[0]

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        (winner,) = [number for number, status in answers.items() if status == 200]
        assert set(answers.values()) <= {200, 401, 403}
        won = {"usernameOrEmail": USER["username"], "password": f"password {winner}"}
        assert request(f"{url}/login", won)[0] == 200
        assert request(f"{url}/login", login)[0] == 401


def test_user_disabled_meanwhile(client, token, monkeypatch):
    """A user who was disabled during hashing keeps the old password, and no session."""
    ((before,),) = client.query("SELECT password_hash FROM users")
    disable = "UPDATE users SET disabled_at = 1"
    during_the_hash(monkeypatch, client, lambda: client.query(disable))

    assert change(client, token).status_code == 401
    assert client.query("SELECT password_hash FROM users") == [(before,)]


def test_versions_of_credentials(client, token):
    """A password change raises both versions; a rename raises none."""
    versions = "SELECT password_version, credentials_version FROM users"
    client.request_as(token, "PATCH", "/user", {"username": "renamed"})
    assert client.query(versions) == [(1, 1)]

    change(client, token)

    assert client.query(versions) == [(2, 2)]


def test_a_user_without_a_password(client, token):
    """For a user without a password no password is right, not even an empty one."""
    client.query("UPDATE users SET password_hash = NULL")

    for password in (USER["password"], ""):
        answer = change(client, token, current=password)
        assert (answer.status_code, answer.json["error"]) == (403, "wrong_password")
