"""A request that was allowed when it was checked may no longer be when it writes."""

import pytest
from conftest import USER, token_of
from databases import overtaken
from overtaking import after_the_check


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET disabled_at = 1",
        "DELETE FROM users",
        "UPDATE users SET password_hash = 'x', password_version = 2",
    ],
)
def test_login_that_a_change_overtook(client, token, monkeypatch, caplog, statement):
    """A user who was disabled, deleted or got a new password during hashing is not logged in."""
    caplog.set_level("INFO")
    after_the_check(monkeypatch, client, lambda: client.query(statement))

    answer = client.log_in()

    assert (answer.status_code, answer.json["error"]) == (401, "invalid_credentials")
    assert client.events()[-1] == "login_failed"
    assert "reason=outdated_credential" in caplog.messages[-1]


@pytest.mark.parametrize(
    "change",
    [
        ("PATCH", "/user", {"username": "renamed"}),
        ("DELETE", "/user", None),
        ("DELETE", "/user", {"password": USER["password"]}),
        ("DELETE", "/sessions", None),
        ("DELETE", "/sessions/{}", None),
        (
            "PUT",
            "/user/password",
            {"current_password": USER["password"], "new_password": "a new word"},
        ),
        ("POST", "/sessions/reauthenticate", {"password": USER["password"]}),
        ("POST", "/logout", {"everywhere": True}),
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        "DELETE FROM sessions WHERE id = 1",
        "UPDATE sessions SET id_hash = replace(hex(zeroblob(32)), '00', 'ab') WHERE id = 1",
        "DELETE FROM users",
    ],
)
def test_change_that_the_end_overtook(make_client, end, change):
    """A change whose session ends while it waits for the writer lock changes nothing."""
    client = make_client(rate_limits="off")
    token, other = token_of(client.register()), token_of(client.log_in())
    target = client.sessions_of(other)[0]["id"]
    method, path, body = change
    result = overtaken(
        client.app,
        lambda: client.request_as(token, method, path.format(target), body),
        lambda: client.query(end),
    )

    assert (result.status_code, result.json["error"]) == (401, "invalid_token")
    assert client.events() == ["registered", "logged_in"]
    if "users" not in end:
        assert client.get_as(other).json["user"]["username"] == USER["username"]


def test_what_is_lost_is_not_logged(make_client, monkeypatch, caplog):
    """A change that is undone leaves no line in the log, as it leaves no entry in the audit log."""
    caplog.set_level("INFO")
    client = make_client(max_sessions=1)
    client.register()
    disable = "UPDATE users SET disabled_at = 1"
    after_the_check(monkeypatch, client, lambda: client.query(disable))

    assert client.log_in().status_code == 401
    assert "session_revoked" not in caplog.text
    assert client.events() == ["registered", "login_failed"]
    assert "login_failed" in caplog.text


def test_delete_overtaken_by_a_password_change(client, token, monkeypatch):
    """A password that was changed while it was checked deletes nothing."""
    other = token_of(client.log_in())
    change = {"current_password": USER["password"], "new_password": "another password"}

    def change_password():
        assert client.request_as(other, "PUT", "/user/password", change).status_code == 200

    after_the_check(monkeypatch, client, change_password)
    body = {"password": USER["password"]}

    assert client.request_as(token, "DELETE", "/user", body).status_code == 401
    assert client.log_in(password="another password").status_code == 200


def test_password_of_a_user_deleted_meanwhile(client, token, monkeypatch):
    """A user who was just deleted has no right password."""
    after_the_check(monkeypatch, client, lambda: client.query("DELETE FROM users"))
    body = {"password": USER["password"]}

    assert client.request_as(token, "DELETE", "/user", body).status_code == 401
