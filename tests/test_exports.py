"""Exports: what `authapi export` writes makes the same users again, and nobody else can read it."""

import json
import os
import stat

import pytest
from conftest import OTHER, USER

from authapi.commands.cli import main

COLUMNS = (
    "id, username, username_key, email, email_key, password_hash, password_version,"
    " credentials_version, email_verified_at, roles, disabled_at, created_at, updated_at"
)


@pytest.fixture(name="filled")
def _filled(client):
    """Return a client of a service with users of all kinds."""
    client.register()
    client.register(**OTHER)
    client.register(username="\u00e4rger", email="Third@example.com")
    client.query("UPDATE users SET password_hash = NULL, roles = 'admin editor' WHERE id = 1")
    client.query("UPDATE users SET disabled_at = 1700000000, email_verified_at = 5 WHERE id = 2")
    client.query("UPDATE users SET credentials_version = 7, password_version = 3 WHERE id = 3")
    return client


def run(client, *arguments):
    return main([*arguments, "--database-url", client.app.core.settings.database_url])


def rows(client):
    return client.query(f"SELECT {COLUMNS} FROM users ORDER BY id")


def test_a_round_trip(filled, tmp_path, capsys):
    """Users that are exported, deleted and imported again have the same rows, and log in."""
    before, path = rows(filled), str(tmp_path / "users.jsonl")
    assert run(filled, "export", path) == 0
    assert capsys.readouterr().out == f"Exported 3 users to {path}.\n"
    filled.query("DELETE FROM users")
    _begin_ids_anew(filled)

    assert run(filled, "import", path, "--keep-ids") == 0

    assert rows(filled) == before
    lookalikes = filled.query("SELECT count(*) FROM username_lookalikes WHERE user_id = 3")
    assert lookalikes == [(0,)]
    assert filled.log_in("third@example.com").status_code == 200


def test_emails_older_than_a_rule(filled, tmp_path):
    """Users of an export keep emails that no new user could have."""
    filled.query("UPDATE users SET email = '.a..b@x.io', email_key = '.a..b@x.io' WHERE id = 3")
    before, path = rows(filled), str(tmp_path / "users.jsonl")
    assert run(filled, "export", path) == 0
    filled.query("DELETE FROM users")
    _begin_ids_anew(filled)

    assert run(filled, "import", path, "--keep-ids") == 0

    assert rows(filled) == before


def _begin_ids_anew(client):
    """Let the database be one that has never had a user."""
    if client.app.core.database.is_local:
        client.query("DELETE FROM sqlite_sequence")
    else:
        client.query("SELECT setval('users_id_seq', 1, false)")


def test_standard_output(filled, capsys):
    """Without a file the users go to standard output, a line each."""
    assert run(filled, "export") == 0

    shown = capsys.readouterr()
    users = [json.loads(line) for line in shown.out.splitlines()]
    assert [user["username"] for user in users] == [USER["username"], "other", "\u00e4rger"]
    assert users[1]["disabled_at"] == "2023-11-14T22:13:20Z"
    assert shown.err == "Exported 3 users.\n"


def test_without_hashes(filled, capsys):
    """With `--no-hashes` nothing shows a hash."""
    assert run(filled, "export", "--no-hashes") == 0

    shown = capsys.readouterr().out
    assert "argon2" not in shown
    assert "password_hash" not in shown


def test_nobody_else_can_read_it(filled, tmp_path):
    """The file is its owner's alone, whatever the umask."""
    before = os.umask(0)
    try:
        assert run(filled, "export", str(tmp_path / "users.jsonl")) == 0
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "users.jsonl").stat().st_mode) == 0o600


def test_a_file_that_is_there(filled, tmp_path, capsys):
    """A file that is there already, or a link, is left as it is."""
    (tmp_path / "users.jsonl").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "users.jsonl")

    for name in ("users.jsonl", "link"):
        assert run(filled, "export", str(tmp_path / name)) == 1
        assert "is there already: name a new file" in capsys.readouterr().err
    assert (tmp_path / "users.jsonl").read_text() == "mine"


def test_a_failure_leaves_no_file(filled, tmp_path, monkeypatch):
    """An export that fails leaves no part of a file."""
    monkeypatch.setenv("AUTHAPI_PORT", "none")

    assert run(filled, "export", str(tmp_path / "users.jsonl")) == 2

    assert not (tmp_path / "users.jsonl").exists()
