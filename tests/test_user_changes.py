"""The commands that change users: rename, disable, enable, delete."""

import pytest
from conftest import OTHER, USER, token_of

pytest_plugins = ("operator_fixtures",)


def test_disable(operate, client, token):
    """A disabled user's sessions end at once, also in a running service, and nobody logs in."""
    status, shown, _ = operate("user", "disable", "crispengari")

    assert (status, shown) == (0, "'crispengari' (id 1) is disabled, and has no session.\n")
    assert client.get_as(token).status_code == 401
    assert client.log_in().status_code == 401
    assert client.events()[-3:] == ["user_disabled", "session_revoked", "login_failed"]


def test_enable(operate, client, token):
    """A user who was disabled can log in again; the sessions of before stay dead."""
    operate("user", "disable", "crispengari")

    assert operate("user", "enable", "id:1")[1] == "'crispengari' (id 1) may log in again.\n"
    assert client.log_in().status_code == 200
    assert client.get_as(token).status_code == 401


def test_several_users(operate, client, other):
    """Several users are changed in order; where one is not found, none is."""
    assert operate.refusal("user", "disable", "id:1", "nobody")[:2] == (1, "no_such_user")
    assert client.get_as(other).status_code == 200
    assert operate.json("user", "disable", "other", "id:1", "id:1") == [
        {"id": 2, "username": "other", "disabled": True},
        {"id": 1, "username": "crispengari", "disabled": True},
        {"id": 1, "username": "crispengari", "disabled": False},
    ]
    assert operate("user", "disable", "other")[1] == "'other' (id 2) was disabled before.\n"
    assert operate.json("user", "enable", "other")[0]["enabled"] is True
    assert operate("user", "enable", "other")[1] == "'other' (id 2) was not disabled.\n"


def test_what_a_user_began_with_older_credentials(operate, client, token):
    """After a user was disabled and enabled, what was begun before does not count."""
    before = client.query("SELECT credentials_version FROM users")
    operate("user", "disable", "id:1")
    operate("user", "enable", "id:1")

    assert client.query("SELECT credentials_version FROM users") > before


def test_rename(operate, client, token):
    """A renamed user logs in with the new username, and sessions go on."""
    status, shown, _ = operate("user", "rename", "crispengari", "Frodo")

    assert (status, shown) == (0, "'crispengari' (id 1) is 'Frodo' now.\n")
    assert client.get_as(token).json["user"]["username"] == "Frodo"
    assert client.log_in("frodo").status_code == 200
    again = operate.json("user", "rename", "id:1", "Frodo")
    assert again == [{"id": 1, "username": "Frodo", "renamed": False}]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("CRISPENGARI", "username_taken"),
        ("cr\u0131spengari", "username_taken"),
        ("a b", "bad_username"),
        ("a@b", "bad_username"),
        ("a\x1b[2J", "bad_username"),
        ("a\u202eb", "bad_username"),
        ("☕", "bad_username"),
        ("", "bad_username"),
        ("a" * 81, "bad_username"),
    ],
)
def test_names_that_are_refused(operate, client, other, name, error):
    """The rules of registration hold, also that no name looks like another user's."""
    assert operate.refusal("user", "rename", "other", name)[:2] == (1, error)
    assert client.query("SELECT username FROM users WHERE id = 2") == [("other",)]


def test_a_name_that_is_taken(operate, client, other):
    """The sentence names nothing of the database."""
    message = operate.refusal("user", "rename", "other", "crispengari")[2]

    assert message == "The username is already taken."


def test_a_reserved_name(operate, client, token):
    """The operator may take a reserved name, which is kept for them."""
    assert operate.json("user", "rename", "id:1", "support")[0]["renamed"] is True


def test_delete(operate, client, other):
    """A deleted user is gone with their sessions; others stay."""
    token = token_of(client.log_in())

    assert operate("user", "delete", "crispengari", "--yes")[1] == (
        "Deleted 'crispengari' (id 1).\n"
    )
    assert client.get_as(token).status_code == 401
    assert client.get_as(other).status_code == 200
    assert client.query("SELECT id FROM users") == [(2,)]
    assert client.register().status_code == 201


def test_delete_asks(operate, client, other):
    """Without a terminal and `--yes`, nobody is deleted."""
    status, error, message = operate.refusal("user", "delete", "id:1", "other", given="other\n")

    assert (status, error) == (1, "not_confirmed")
    assert message.endswith("add --yes.")
    assert client.query("SELECT count(*) FROM users") == [(2,)]


def test_a_name_twice(operate, client, token):
    """A user who is named twice is deleted once, and the second time is a failure."""
    status, _, errors = operate("user", "delete", "id:1", USER["email"], "--yes")

    assert (status, errors) == (1, "authapi: The user with the id 1 is gone.\n")
    assert OTHER["username"] not in errors
