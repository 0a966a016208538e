"""The commands `audit list` and `audit prune`, and what the audit log says of every command."""

import os
import time

import pytest
from conftest import OTHER
from tries import fail

from authapi import __version__, features

pytest_plugins = ("operator_fixtures",)

DAY = 86_400

# Each command that changes something: the entry that it writes, and for whom.
CHANGES = {
    "user add": (["anna", "anna@example.com", "--no-password"], "user_added", 3),
    "user password": (["id:1", "--no-password"], "password_changed", 1),
    "user rename": (["id:1", "anna"], "user_renamed", 1),
    "user disable": (["id:1"], "user_disabled", 1),
    "user enable": (["id:2"], "user_enabled", 2),
    "user unlock": (["id:1"], "unlocked", 1),
    "unlock": (["id:1"], "unlocked", 1),
    "user delete": (["id:1", "--yes"], "user_deleted", 1),
    "session end": (["--user", "id:1"], "session_revoked", 1),
    "audit prune": (["--before", "90d"], "audit_pruned", None),
}
READS = {"user list", "user show", "session list", "audit list"}
ELSEWHERE = {"user export"}  # in a test file of its own
GROUPS = ("user ", "session ", "audit ", "unlock")


def test_every_command():
    """Each of these commands is known to read only, or to change something."""
    listed = {name for name in features.COMMANDS if name.startswith(GROUPS)}
    assert {*CHANGES} | READS | ELSEWHERE == listed


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_has_its_entry(operate, client, clock, name):
    """A command that changes something writes one entry, which says who ran it."""
    now, clock.now = clock.now, clock.now - 91 * DAY
    client.log_in("nobody", "wrong password")
    clock.now = now
    client.register()
    client.register(**OTHER)
    fail(client)
    if name == "user enable":
        operate("user", "disable", "id:2")
    newest = client.query("SELECT max(id) FROM audit_log")[0][0]
    further, event, user_id = CHANGES[name]

    assert operate(*name.split(), *further)[0] == 0

    found = client.query(
        "SELECT event, user_id, ip, user_agent, request_id FROM audit_log WHERE id > ?", newest
    )
    assert [(each[0], each[1]) for each in found if each[0] == event] == [(event, user_id)]
    (ip, operator, request_id), *others = {each[2:] for each in found}
    assert (ip, len(request_id), others) == ("", 16, [])
    assert operator.startswith(f"authapi-cli/{__version__} uid={os.getuid()} user=")


def test_list(operate, client, token):
    """Entries are listed, the newest first."""
    fail(client)

    failed, registered = operate.json("audit", "list")

    assert (failed["event"], failed["detail"]) == ("login_failed", "wrong_password")
    assert (registered["event"], registered["user_id"], registered["detail"]) == (
        "registered",
        1,
        None,
    )
    assert registered["created_at"].endswith("Z")
    shown = operate("audit", "list")[1].splitlines()
    assert [line.split()[1] for line in shown[1:]] == ["login_failed", "registered"]


def test_filters(operate, client, other):
    """Entries can be those of a user, of some events, or the newest ones."""
    client.log_in()
    fail(client, "nobody")

    def events(*arguments):
        return [each["event"] for each in operate.json("audit", "list", *arguments)]

    assert events("--user", "id:1") == ["logged_in", "registered"]
    assert events("--user", "other") == ["registered"]
    assert events("--event", "registered", "login_failed") == [
        "login_failed",
        "registered",
        "registered",
    ]
    assert events("--event", "login_failed", "--user", "id:1") == []
    assert events("--limit", "1") == ["login_failed"]
    assert operate("audit", "list", "--event", "user_disabled")[2] == "There is no such entry.\n"


def test_an_event_that_is_none(operate, client, token):
    """A misspelt event is refused, with the one that was likely meant."""
    status, error, message = operate.refusal("audit", "list", "--event", "login_faild")

    assert (status, error) == (1, "no_such_event")
    assert "'login_faild'; login_failed was likely meant" in message
    assert operate.refusal("audit", "list", "--follow", "--event", "zzz")[1] == "no_such_event"


def test_an_event_of_an_application(operate, client, token):
    """An entry of an event that no feature declares is found by its name."""
    client.query(
        "INSERT INTO audit_log (created_at, event, ip, user_agent, request_id)"
        " VALUES (0, 'terms_accepted', '', '', '')"
    )

    (entry,) = operate.json("audit", "list", "--event", "terms_accepted")
    assert entry["event"] == "terms_accepted"


@pytest.mark.parametrize(("age", "count"), [("1s", 0), ("59m", 0), ("61m", 1), ("2d", 2)])
def test_since(operate, client, clock, age, count):
    """Entries can be those since an age."""
    now = clock.now
    clock.now = now - DAY
    client.register()
    clock.now = now - 3_600
    client.log_in()

    assert len(operate.json("audit", "list", "--since", age)) == count


@pytest.mark.parametrize("age", ["", "2", "h", "-2h", "2w", "1.5h", "2 h", "٢h"])
def test_an_age_that_is_none(operate, capsys, age):
    """An age is a number and a unit, and the error has examples."""
    with pytest.raises(SystemExit, match="2"):
        operate("audit", "list", f"--since={age}")
    assert f"{age!r} is not an age such as 90s, 15m, 2h or 7d" in capsys.readouterr().err


def test_a_deleted_user(operate, client, token):
    """The entries of a deleted user are found by the id."""
    operate("user", "delete", "id:1", "--yes")

    found = [each["event"] for each in operate.json("audit", "list", "--user", "id:1")]

    assert (found[0], found[-1]) == ("user_deleted", "registered")


def test_more_entries_than_a_page(operate, client, token):
    """All pages are listed."""
    for number in range(1_100):
        client.query(
            "INSERT INTO audit_log (created_at, event, ip, user_agent, request_id)"
            " VALUES (?, 'login_failed', '', '', '')",
            number,
        )

    ids = [each["id"] for each in operate.json("audit", "list")]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 1_101
    assert operate.json("audit", "prune", "--before", "90d") == [{"deleted": 1_100}]


def test_follow(operate, client, token, monkeypatch):
    """Entries are shown as they come, each once, from now on or since an age."""
    done = []

    def pause(_seconds):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(client.log_in().status_code)

    monkeypatch.setattr(time, "sleep", pause)
    status, shown, _ = operate("audit", "list", "--follow")
    assert status == 130
    assert [line.split()[1] for line in shown.splitlines()[1:]] == ["logged_in", "logged_in"]

    done.clear()
    shown = operate("audit", "list", "--follow", "--since", "1h", "--user", "id:1")[1]
    events = [line.split()[1] for line in shown.splitlines()[1:]]
    assert events == ["registered", *["logged_in"] * 4]


@pytest.mark.parametrize("age", ["89d", "1h", "x"])
def test_prune_too_early(operate, client, token, age):
    """Entries of the last 90 days stay."""
    with pytest.raises(SystemExit, match="2"):
        operate("audit", "prune", "--before", age)
    with pytest.raises(SystemExit, match="2"):
        operate("audit", "prune")


def test_prune(operate, client, clock):
    """Older entries are deleted, and an entry says so."""
    now = clock.now
    for days in (101, 95, 1):
        clock.now = now - days * DAY
        assert client.log_in("nobody", "wrong password").status_code == 401
    clock.now = now - 101 * DAY
    client.register()
    clock.now = now

    assert operate("audit", "prune", "--before", "100d")[1] == "Deleted 2 entries.\n"
    assert client.events("event", "detail") == [
        ("login_failed", "unknown_name"),
        ("login_failed", "unknown_name"),
        ("audit_pruned", "100d"),
    ]
    assert operate.json("audit", "prune", "--before", "100d") == [{"deleted": 0}]
    assert client.events()[-1] == "audit_pruned"
    assert operate.json("audit", "prune", "--before", "90d") == [{"deleted": 1}]
