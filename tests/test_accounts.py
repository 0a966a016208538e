"""Accounts: who a user is, and what a username and an email may be."""

import pytest
from conftest import OTHER, USER, deletes_cookie, token_of


@pytest.mark.parametrize("path", ["/user", "/"])
def test_current_user(client, path, token):
    """The documented routes answer the user of the session, and nothing more of them."""
    answer = client.get_as(token, path)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert {"code", "message", "timestamp", "user"} == set(answer.json)
    assert (answer.json["code"], answer.json["message"]) == (200, "User.")
    assert answer.json["timestamp"] == "Tue, 16 Aug 2022 10:21:29 GMT"
    user = answer.json["user"]
    assert {"id", "username", "email", "created_at", "updated_at"} == set(user)
    assert (1, USER["username"], USER["email"]) == (user["id"], user["username"], user["email"])


@pytest.mark.parametrize("path", ["/user", "/"])
def test_head(client, path, token):
    """HEAD answers as GET does, without the body."""
    answer = client.simulate_head(path, headers={"Cookie": f"jwt={token}"})

    assert (answer.status_code, answer.text) == (200, "")
    assert len(client.get_as(token, path).content) == int(answer.headers["content-length"])


# Another username


def rename(client, token, username):
    return client.request_as(token, "PATCH", "/user", {"username": username})


def test_rename(client, token):
    """A user takes another username, and logs in by that one alone."""
    client.query("UPDATE users SET updated_at = 0")
    answer = rename(client, token, "Renamed")

    assert (answer.status_code, answer.json["message"]) == (200, "User renamed.")
    assert (answer.json["user"]["id"], answer.json["user"]["username"]) == (1, "Renamed")
    assert answer.json["user"]["updated_at"] != "Thu, 01 Jan 1970 00:00:00 GMT"
    assert answer.json["user"] == client.get_as(token).json["user"]
    assert client.log_in("renamed").status_code == 200
    assert client.log_in().status_code == 401
    assert client.events("event", "user_id")[1] == ("user_renamed", 1)


def test_rename_gives_a_token(client, token, clock):
    """The answer's token carries the new name and lives as long; older ones stay good."""
    clock.move(100)
    answer = rename(client, token, "renamed")
    newer = token_of(answer)

    old, new = (client.tokens.read(each, clock.now) for each in (token, newer))
    assert (new.username, new.sid, new.iat, new.exp) == ("renamed", old.sid, old.iat, old.exp)
    assert answer.cookies["jwt"].max_age == 259_100
    assert client.get_as(newer).json["user"]["username"] == "renamed"
    assert client.get_as(token).json["user"]["username"] == "renamed"


def test_renewal_carries_the_new_name(client, token, clock):
    """Another session's token gets the new name with its renewal."""
    other = token_of(client.log_in())
    rename(client, token, "renamed")
    clock.move(3_600)

    newer = token_of(client.get_as(other))

    assert client.tokens.read(newer, clock.now).username == "renamed"


@pytest.mark.parametrize("username", ["", "a b", "a@b", "x" * 81, "\u034f"])
def test_rename_follows_the_rules(client, token, username):
    """A rename refuses the usernames that a registration refuses."""
    answer = rename(client, token, username)

    assert (answer.status_code, answer.json["error"]) == (422, "validation_failed")
    assert client.get_as(token).json["user"]["username"] == USER["username"]


@pytest.mark.parametrize("username", ["other", "OTHER", "\uff4fther"])
def test_rename_to_a_taken_name(client, token, username):
    """Another's username is taken, caselessly, and nothing changes."""
    client.register(**OTHER)

    answer = rename(client, token, username)

    assert (answer.status_code, answer.json["error"]) == (409, "username_taken")
    assert client.get_as(token).json["user"]["username"] == USER["username"]
    assert "user_renamed" not in client.events()


def test_rename_to_ones_own_name(client, token):
    """One's own name in another case is free; the very same is no change."""
    assert rename(client, token, "CrispenGari").json["user"]["username"] == "CrispenGari"
    assert rename(client, token, "CrispenGari").status_code == 200
    assert client.events().count("user_renamed") == 1


def test_rename_takes_no_other_field(client, token):
    """Nothing but the username can be changed here."""
    body = {"username": "a", "email": "a@example.com", "id": 7, "disabled_at": None}
    answer = client.request_as(token, "PATCH", "/user", body)

    assert {"email", "id", "disabled_at"} == {fault["field"] for fault in answer.json["errors"]}
    assert client.request_as(token, "PATCH", "/user", {}).status_code == 422


# The end of an account


def test_delete(client, token, clock):
    """The user and all that is theirs is gone, with the password; another user stays."""
    client.log_in()
    stranger = token_of(client.register(**OTHER))
    clock.move(300)

    answer = client.request_as(token, "DELETE", "/user", {"password": USER["password"]})

    assert (answer.status_code, answer.json["message"]) == (200, "User deleted.")
    assert answer.json["user"] is None
    assert deletes_cookie(answer)
    assert client.get_as(token).status_code == 401
    assert client.log_in().status_code == 401
    assert client.query("SELECT user_id FROM sessions") == [(2,)]
    assert client.query("SELECT id FROM users") == [(2,)]
    assert client.get_as(stranger).status_code == 200
    assert client.events("event", "user_id")[-2] == ("user_deleted", 1)
    assert client.register().json["user"]["id"] == 3


def test_delete_while_fresh(client, token, clock):
    """A fresh session needs no password, up to the last second of five minutes."""
    other = token_of(client.register(**OTHER))
    clock.move(299)
    assert client.request_as(token, "DELETE", "/user").status_code == 200

    clock.move(1)
    answer = client.request_as(other, "DELETE", "/user")
    assert (answer.status_code, answer.json["error"]) == (403, "fresh_login_required")
    assert client.get_as(other).status_code == 200


def test_delete_with_a_wrong_password(client, token):
    """A wrong password deletes nothing, not even in a fresh session."""
    answer = client.request_as(token, "DELETE", "/user", {"password": "wrong password"})

    assert (answer.status_code, answer.json["error"]) == (403, "wrong_password")
    assert client.get_as(token).status_code == 200
    assert client.events() == ["registered", "login_failed"]


@pytest.mark.parametrize("body", [{}, {"password": 1}, {"password": "x", "sure": True}])
def test_delete_with_a_bad_body(client, token, body):
    """An invalid body deletes nothing."""
    assert client.request_as(token, "DELETE", "/user", body).status_code == 422
    assert client.get_as(token).status_code == 200


def test_rename_in_a_fresh_session(client, token, clock):
    """A rename changes what one logs in with, so it takes a fresh session (ASVS 7.5.1)."""
    clock.move(300)

    answer = rename(client, token, "renamed")

    assert (answer.status_code, answer.json["error"]) == (403, "fresh_login_required")
    assert client.get_as(token).json["user"]["username"] == USER["username"]
    assert rename(client, client.reauthenticate(token), "renamed").status_code == 200


def test_rename_keeps_a_renewal(client, token, clock):
    """A rename by an older token gives one up to the renewed end, and no shorter one."""
    clock.move(3_600)
    client.get_as(token)
    client.query("UPDATE sessions SET authenticated_at = ?", int(clock.now))

    answer = rename(client, token, "renamed")

    assert answer.cookies["jwt"].max_age == 259_200
    clock.move(31)
    assert client.get_as(token_of(answer)).json["user"]["username"] == "renamed"


class DeletesUsers:
    """A middleware that deletes all users between the session check and the resource."""

    def __init__(self, client):
        self._client = client

    def process_resource(self, *_):
        self._client.query("DELETE FROM users")


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/user"), ("POST", "/sessions/reauthenticate")]
)
def test_user_deleted_before_the_password_is_checked(client, token, method, path):
    """A user who is deleted before the check gets a 401 without a failed login."""
    client.app.add_middleware(DeletesUsers(client))

    answer = client.request_as(token, method, path, {"password": USER["password"]})

    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert client.events() == ["registered"]
