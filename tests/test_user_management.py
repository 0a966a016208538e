"""User management: `auth.users`, as an application that embeds the service calls it."""

import os
import subprocess
import sys

import pytest
from conftest import OTHER, USER
from examples import examples

from authapi import (
    Caller,
    EmailTaken,
    NoSuchUser,
    RefusedValue,
    UserAdded,
    UserDisabled,
    UsernameTaken,
)

PASSWORD = "a long enough password"
ADMIN = Caller("192.0.2.9", "an admin page", "0123456789abcdef")


@pytest.fixture(name="users")
def _users(client):
    return client.app.users


def test_create(client, users):
    """A user who was created logs in, with their own id."""
    account = users.create("anna", "anna@example.com", PASSWORD)

    assert (account.id, account.username, account.email) == (1, "anna", "anna@example.com")
    assert (account.disabled, account.email_verified) == (False, False)
    assert client.log_in("anna", PASSWORD).json["user"]["id"] == account.id
    assert client.events()[0] == "user_added"


def test_create_verified(users):
    """Code says that an address needs no proof."""
    assert users.create("anna", "anna@example.com", email_verified=True).email_verified


def test_create_without_a_password(client, users):
    """A user without a password cannot log in by one, until they get it."""
    account = users.create("anna", "anna@example.com")
    assert client.log_in("anna", PASSWORD).status_code == 401

    users.set_password(account.id, PASSWORD)

    assert client.log_in("anna", PASSWORD).status_code == 200


def test_reserved_names_and_closed_registration(make_client):
    """Code may do what a registration may not."""
    client = make_client(registration="closed")
    assert client.register().status_code != 201

    client.app.users.create("admin", "admin@example.com", PASSWORD)

    assert client.log_in("admin", PASSWORD).status_code == 200


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (("an na", "anna@example.com", PASSWORD), "username"),
        (("anna", "example.com", PASSWORD), "email"),
        (("anna", "anna@example.com", "12345678"), "password"),
        (("anna", "anna@example.com", "short"), "password"),
    ],
)
def test_refused_values(client, users, values, field):
    """A value against the rules is refused in a sentence that shows no password."""
    with pytest.raises(RefusedValue, match=f"The {field} .*refused: ") as refused:
        users.create(*values)

    assert refused.value.field == field
    assert values[2] not in str(refused.value)
    assert list(users.list()) == []


def test_refused_hash(client, users):
    """A hash that no login could verify is refused."""
    with pytest.raises(RefusedValue, match="a hash that") as refused:
        users.create("anna", "anna@example.com", password_hash="$2y$10$abc")

    assert refused.value.field == "hash"


def test_taken_names(client, token, users):
    """A name or an email of another user is taken, in any case of letters."""
    with pytest.raises(UsernameTaken):
        users.create(USER["username"].upper(), "new@example.com")
    with pytest.raises(EmailTaken):
        users.create("new", USER["email"].upper())
    users.create("new", "new@example.com")
    with pytest.raises(UsernameTaken):
        users.rename(2, USER["username"])


def test_get_and_find(client, token, users):
    """A user is found by id, username and email, and nobody else is."""
    account = users.get(1)

    assert account == users.find(USER["username"].upper()) == users.find(USER["email"].upper())
    assert (account.id, account.email) == (1, USER["email"])
    users.create("later", "later@example.com")
    users.delete(1)
    assert users.get(1) is users.get(None) is users.get(0) is users.find("nobody") is None
    assert users.find(USER["username"]) is None


def test_list(client, token, other, users):
    """Users are listed by id, by a part of a name, and by whether they are disabled."""
    users.create("an_na", "x100%@example.com")
    users.disable(2)

    def ids(**given):
        return [account.id for account in users.list(**given)]

    assert ids() == [1, 2, 3]
    assert ids(after=1) == [2, 3]
    assert ids(disabled=True) == [2]
    assert ids(disabled=False) == [1, 3]
    assert ids(search=OTHER["username"].upper()) == [2]
    assert (ids(search="n_n"), ids(search="0%@"), ids(search="%")) == ([3], [3], [3])
    assert [account.disabled for account in users.list()] == [False, True, False]


def test_list_of_many(client, users, monkeypatch):
    """A list goes on over its pages."""
    monkeypatch.setattr("authapi.features.user_management.PAGE", 2)
    for number in range(5):
        users.create(f"user{number}", f"user{number}@example.com")

    assert [account.id for account in users.list()] == [1, 2, 3, 4, 5]


def test_disable_and_enable(client, token, users):
    """A disabled user has no session and cannot log in; an enabled one can again."""
    assert users.disable(1)
    assert users.get(1).disabled
    assert not users.disable(1)
    assert client.get_as(token).status_code == 401
    assert client.log_in().status_code != 200

    assert users.enable(1)
    assert not users.enable(1)
    assert client.get_as(token).status_code == 401
    assert client.log_in().status_code == 200


def test_set_password(client, token, users):
    """A new password ends all sessions, and the old one is no good."""
    users.set_password(1, PASSWORD)

    assert client.get_as(token).status_code == 401
    assert client.log_in().status_code == 401
    assert client.log_in(password=PASSWORD).status_code == 200
    with pytest.raises(RefusedValue, match="The password is refused"):
        users.set_password(1, "12345678")


def test_rename(client, token, users):
    """A renamed user keeps the session."""
    assert users.rename(1, "frodo")
    assert not users.rename(1, "frodo")
    assert client.get_as(token).json["user"]["username"] == "frodo"


@pytest.mark.parametrize(
    "change",
    [
        lambda users: users.rename(2, "frodo"),
        lambda users: users.set_password(2, PASSWORD),
        lambda users: users.disable(2),
        lambda users: users.enable(2),
        lambda users: users.delete(2),
    ],
)
def test_nobody(client, token, users, change):
    """A change of a user who is not there says so, and changes nobody."""
    before = client.events()

    with pytest.raises(NoSuchUser, match="id 2 is gone"):
        change(users)

    assert client.events() == before
    assert client.get_as(token).status_code == 200


def test_events(client, users):
    """Each change is an event of its class, with who asked for it."""
    heard = []
    client.app.core.events.subscribe(heard.append, UserAdded)
    client.app.core.events.subscribe(heard.append, UserDisabled)

    users.create("anna", "anna@example.com", caller=ADMIN)
    users.disable(1, ADMIN)
    users.enable(1)

    assert [type(event) for event in heard] == [UserAdded, UserDisabled]
    assert {event.caller for event in heard} == {ADMIN}
    rows = client.events("event", "ip", "user_agent")
    assert rows[0] == ("user_added", ADMIN.ip, ADMIN.user_agent)
    assert rows[-1][:2] == ("user_enabled", "")
    assert rows[-1][2].startswith("authapi-python/")


def test_a_subscriber_undoes_the_change(client, users):
    """A subscriber that raises undoes what it was told of."""

    def refuse(_):
        raise ZeroDivisionError

    client.app.core.events.subscribe(refuse, UserAdded)
    with pytest.raises(ZeroDivisionError):
        users.create("anna", "anna@example.com")

    assert users.find("anna") is None


def test_example(engine, client, tmp_path):
    """The example adds the members of a list, says why not, and deletes those who left it alone."""
    (tmp_path / "members.py").write_text(examples("features/user_management")["members.py"])
    settings = {f"AUTHAPI_{name.upper()}": str(it) for name, it in engine.settings().items()}

    def keep(*members):
        return subprocess.run(
            [sys.executable, "members.py"],
            cwd=tmp_path,
            env={**os.environ, **settings},
            input="\n".join(members),
            capture_output=True,
            text=True,
            check=bool(members),
        )

    told = keep("anna anna@example.com", "ben ben@example.com", "ANNA anne@example.com")
    assert told.stdout.splitlines() == [
        "user_added 1",
        "user_added 2",
        "ANNA is not added: The username is already taken.",
    ]
    client.app.users.disable(2)
    assert keep("ben Ben@Example.com").stdout.splitlines() == [
        "user_disabled 1",
        "a mail to anna@example.com",
        "user_deleted 1",
    ]
    assert [account.username for account in client.app.users.list()] == ["ben"]
    empty = keep()
    assert (empty.returncode, empty.stderr) == (
        1,
        "The list is empty, which would delete every user.\n",
    )
    assert client.app.users.find("ben")
