"""The commands `user list` and `user show`: users as an operator sees them."""

import pytest
from conftest import OTHER, USER
from databases import numbered
from tries import fail, lock_out

pytest_plugins = ("operator_fixtures",)


def names(records):
    return [each["username"] for each in records]


def test_list(operate, client):
    """Users are listed in the order of their ids, as a table and as JSON Lines."""
    client.register()
    client.register(**OTHER)

    status, shown, _ = operate("user", "list")
    lines = shown.splitlines()
    assert status == 0
    assert lines[0].split() == ["ID", "USERNAME", "EMAIL", "CREATED", "AT", "DISABLED", "AT"]
    assert lines[1].split()[:3] == ["1", USER["username"], USER["email"]]
    first, second = operate.json("user", "list")
    assert (first["id"], first["username"], first["email"]) == (1, *list(USER.values())[:2])
    assert (first["disabled_at"], second["id"]) == (None, 2)
    assert first["created_at"].endswith("Z")


def test_an_empty_list(operate):
    """Where nobody is found, a list is no failure."""
    assert operate("user", "list") == (0, "", "There is no such user.\n")
    assert operate("user", "list", "--json") == (0, "", "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CRISP", ["crispengari"]),
        ("@EXAMPLE", ["other"]),
        ("e", ["crispengari", "other"]),
        ("%", []),
        ("_", []),
        ("\\", []),
        ("", ["crispengari", "other"]),
    ],
)
def test_search(operate, client, text, found):
    """A part of a username or an email is found, in any case of letters, and as it is written."""
    client.register()
    client.register(**OTHER)

    assert names(operate.json("user", "list", "--search", text)) == found


def test_pages(operate, client):
    """A list can begin after an id, and end after a number of users."""
    for number in range(4):
        numbered(client, number)

    assert names(operate.json("user", "list", "--limit", "2")) == ["user0", "user1"]
    page = operate.json("user", "list", "--after", "2", "--limit", "1")
    assert names(page) == ["user2"]


def test_disabled_users(operate, client):
    """A list may have only the disabled users, or only the others."""
    client.register()
    client.register(**OTHER)
    operate("user", "disable", "other")

    assert names(operate.json("user", "list", "--disabled")) == ["other"]
    assert names(operate.json("user", "list", "--enabled")) == ["crispengari"]
    with pytest.raises(SystemExit, match="2"):
        operate("user", "list", "--disabled", "--enabled")


@pytest.mark.parametrize("name", ["CrispenGari", "CrispenGari@Gmail.com", "id:1"])
def test_show(operate, client, name):
    """A user is shown by username, email or id: whether they can log in, and their sessions."""
    client.register()
    client.log_in()

    (shown,) = operate.json("user", "show", name)

    assert (shown["id"], shown["username"]) == (1, "crispengari")
    assert shown["password"] == "set"
    assert shown["login_by_username"] == shown["login_by_email"] == "open"
    assert shown["password_in_a_session"] == "open"
    assert (shown["sessions"], shown["disabled_at"]) == (2, None)
    assert shown["last_seen_at"].endswith("Z")


def test_show_a_user_who_cannot_log_in(operate, client, clock):
    """It is shown that a name is locked out, or has no try for a while."""
    client.register()
    began = clock.now
    lock_out(client, clock)
    clock.now = began
    for _ in range(10):
        fail(client, USER["email"])

    (shown,) = operate.json("user", "show", "crispengari")

    assert (shown["login_by_username"], shown["login_by_email"]) == ("locked_out", "limited")


@pytest.mark.parametrize(("stored", "word"), [(None, "none"), ("$2y$10$abc", "unusable")])
def test_show_a_password_that_is_none(operate, client, stored, word):
    """It is shown that a user has no password, or a hash that cannot be verified."""
    client.register()
    client.query("UPDATE users SET password_hash = CAST(? AS TEXT)", stored)

    assert operate.json("user", "show", "id:1")[0]["password"] == word


@pytest.mark.parametrize("name", ["nobody", "nobody@example.com", "id:7", "id:", "id:x", "\0", " "])
def test_nobody(operate, name):
    """A name that no user has is a failure."""
    status, error, message = operate.refusal("user", "show", name)

    assert (status, error) == (1, "no_such_user")
    assert message == f"There is no user {name!r}."


@pytest.mark.parametrize("arguments", [["--limit", "-1"], ["--limit", "x"], ["--after", "9" * 19]])
def test_numbers_that_are_none(operate, capsys, arguments):
    """A number that is none is refused with status 2 and a sentence."""
    with pytest.raises(SystemExit, match="2"):
        operate("user", "list", *arguments)
    assert f"{arguments[1]!r} is not a whole number of up to 18" in capsys.readouterr().err


def test_a_name_that_begins_like_an_option(operate, client):
    """After `--`, a name may begin with a dash."""
    client.register(username="-x")

    assert operate.json("user", "list")[0]["username"] == "-x"
    status, shown, _ = operate("user", "show", "--json", "--", "-x")
    assert (status, '"username": "-x"' in shown) == (0, True)
