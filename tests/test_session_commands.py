"""The commands `session list` and `session end`."""

import pytest
from conftest import USER, token_of

pytest_plugins = ("operator_fixtures",)

USERS = "(username, username_key, email, email_key)"
SESSIONS = (
    "(id_hash, user_id, created_at, authenticated_at, last_seen_at, expires_at, ip, user_agent)"
)
VALUES = "(?, ?, 0, 0, 0, 9999999999, '', '')"
HOSTILE = "\x1b]0;owned\x07Mozilla\u202e"


def test_list(operate, client, other):
    """Live sessions of all users are listed, the oldest first."""
    client.log_in()

    records = operate.json("session", "list")

    assert [each["username"] for each in records] == ["crispengari", "other", "crispengari"]
    assert [each["user_id"] for each in records] == [1, 2, 1]
    assert records[0].keys() >= {"id", "created_at", "last_seen_at", "expires_at", "ip", "methods"}
    shown = operate("session", "list")[1].splitlines()
    assert shown[1].split()[:2] == [records[0]["id"][:12], "crispengari"]


def test_list_of_a_user(operate, client, other):
    """The list of a user has the same records."""
    client.log_in()

    records = operate.json("session", "list", "--user", "id:1")
    assert records == [each for each in operate.json("session", "list") if each["user_id"] == 1]
    assert operate.json("session", "list", "--limit", "1") == records[:1]
    assert operate.refusal("session", "list", "--user", "nobody")[1] == "no_such_user"


def test_expired_sessions(operate, client, token, clock):
    """A session that has expired is not listed."""
    client.query("UPDATE sessions SET expires_at = ?", int(clock.now) - 1)

    assert operate("session", "list") == (0, "", "There is no session.\n")
    assert operate("session", "list", "--user", "id:1") == (0, "", "There is no session.\n")


def test_a_hostile_user_agent(operate, client, token):
    """Control characters of a User-Agent are shown as escapes."""
    client.query("UPDATE sessions SET user_agent = ?", HOSTILE)

    _, shown, _ = operate("session", "list")
    assert r"\x1b]0;owned\x07Mozilla\u202e" in shown
    assert "\x1b" not in shown
    assert operate.json("session", "list")[0]["user_agent"] == HOSTILE


def test_end_by_id(operate, client, token):
    """A session ends by its id, or by the first part that a table shows."""
    second = token_of(client.log_in())
    first_id, second_id = (each["id"] for each in operate.json("session", "list"))

    assert operate("session", "end", first_id[:12], first_id) == (0, "Ended 1 session.\n", "")
    assert client.get_as(token).status_code == 401
    assert client.get_as(second).status_code == 200
    assert operate.json("session", "end", second_id) == [{"ended": 1}]
    entries = client.events("event", "session_id")[-2:]
    assert entries == [("session_revoked", first_id), ("session_revoked", second_id)]


@pytest.mark.parametrize("given", ["0" * 64, "0" * 12, "abc", "", "%" * 12, "\0" * 12, "G" * 12])
def test_end_of_no_session(operate, client, token, given):
    """An id that no session has ends none."""
    session_id = operate.json("session", "list")[0]["id"]

    assert operate.refusal("session", "end", session_id, given)[:2] == (1, "no_such_session")
    assert client.get_as(token).status_code == 200


def test_end_of_an_ambiguous_id(operate, client, token):
    """The first part of several ids ends none."""
    client.log_in()
    client.query("UPDATE sessions SET id_hash = '0123456789ab' || substr(id_hash, 13)")

    message = operate.refusal("session", "end", "0123456789ab")[2]
    assert message == "There is more than one session whose id begins with '0123456789ab'."


def test_end_of_a_user(operate, client, other):
    """All sessions of a user end, and nobody else's."""
    token = token_of(client.log_in())

    shown = operate("session", "end", "--user", USER["email"])[1]
    assert shown == "Ended 2 sessions of 'crispengari' (id 1).\n"
    assert client.get_as(token).status_code == 401
    assert client.get_as(other).status_code == 200


def test_end_of_all(operate, client, other):
    """All sessions of all users end, once that is confirmed."""
    assert operate.refusal("session", "end", "--all")[:2] == (1, "not_confirmed")
    assert client.get_as(other).status_code == 200

    assert operate.json("session", "end", "--all", "--yes") == [{"ended": 2}]
    assert client.get_as(other).status_code == 401
    assert client.events()[-2:] == ["session_revoked", "session_revoked"]


def test_end_of_many(operate, client):
    """More users than end at once are all reached."""
    client.register()
    for number in range(2, 252):
        names = [f"u{number}"] * 4
        client.query(f"INSERT INTO users {USERS} VALUES (?, ?, ?, ?)", *names)
        client.query(f"INSERT INTO sessions {SESSIONS} VALUES {VALUES}", f"{number:064}", number)

    assert operate.json("session", "end", "--all", "--yes") == [{"ended": 251}]
    assert client.query("SELECT count(*) FROM sessions") == [(0,)]


@pytest.mark.parametrize("arguments", [[], ["--all", "--user", "id:1"], ["0" * 12, "--all"]])
def test_end_of_what(operate, arguments):
    """Exactly one way to name sessions is needed."""
    with pytest.raises(SystemExit, match="2"):
        operate("session", "end", *arguments)
