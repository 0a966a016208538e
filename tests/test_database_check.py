"""`db check`: whether the database, its files and its keys are in order."""

import json
import os
import sqlite3
from contextlib import closing

import pytest
from databases import empty_index, insert_user, opened

from authapi.commands.cli import main


@pytest.fixture(name="check")
def _check(engine, monkeypatch, capsys):
    """Run the command; return its exit status, and the level and text of each finding by check."""
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", engine.settings()["database_url"])

    def check(*options):
        status = main(["db", "check", "--json", *options])
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return status, {each["check"]: (each["level"], each["text"]) for each in found}

    return check


@pytest.mark.parametrize("options", [[], ["--deep"]])
def test_a_sound_database(client, check, options):
    """All is well beside a service that runs."""
    client.register()

    status, found = check(*options)

    assert status == 0
    assert {level for level, _ in found.values()} == {"ok"}
    assert {"schema", "drift", "keys"} <= {*found}


def test_a_table_that_is_gone(client, check):
    """A schema without a table of ours is a fault."""
    client.query("DROP TABLE replaced_sessions")

    status, found = check()

    assert (status, found["drift"][0]) == (1, "fault")
    assert "replaced_sessions" in found["drift"][1]


def test_a_table_of_another_program(client, check):
    """What the service does not know is a warning, and the exit status stays 0."""
    client.query("CREATE TABLE theirs (id integer)")

    status, found = check()

    assert (status, found["drift"][0]) == (0, "warn")
    assert "theirs" in found["drift"][1]


def test_people_read_lines(client, engine, capsys, monkeypatch):
    """Without --json there is a line for each check, which begins with its level."""
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", engine.settings()["database_url"])
    client.register()

    assert main(["db", "check"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 5
    assert [line for line in lines if not line.startswith("ok     ")] == []


@pytest.mark.sqlite("a damaged file")
def test_a_damaged_index(client, check, path):
    """An index without its rows is a fault."""
    client.register()
    client.app.close()
    empty_index(path)

    status, found = check("--deep")

    assert (status, found["integrity"][0]) == (1, "fault")
    assert "restore a backup with authapi db restore" in found["integrity"][1]


@pytest.mark.sqlite("a damaged file")
@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + bytes(5_000)])
def test_no_database_at_all(client, check, path, content):
    """A file that is no database is one fault that says what to do."""
    client.app.close()
    path.write_bytes(content)

    status, found = check()

    assert (status, {*found}) == (1, {"database"})
    assert "authapi db restore" in found["database"][1]


@pytest.mark.sqlite("an orphan")
def test_an_orphan(client, check, path):
    """A row without the row that it belongs to is a fault."""
    client.register()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DELETE FROM users")  # this program checks no references

    status, found = check()

    assert (status, found["references"][0]) == (1, "fault")
    assert "belong to no row of users" in found["references"][1]


@pytest.mark.sqlite("modes")
def test_a_file_that_others_can_read(client, check, path):
    """A database that others can read is a fault, and its mode stays."""
    path.chmod(0o644)

    status, found = check()

    assert (status, found["files"][0]) == (1, "fault")
    assert "chmod 600 it" in found["files"][1]
    assert client.app is not None


@pytest.mark.sqlite("key files")
@pytest.mark.parametrize("name", ["key", "root"])
def test_a_key_that_is_gone(client, check, path, name):
    """A missing key file is a fault, and none is made."""
    client.register()
    file = path.with_name(f"authapi.db.{name}")
    file.unlink()

    status, found = check()

    assert (status, found["keys"][0]) == (1, "fault")
    assert str(file) in found["keys"][1]
    assert not file.exists()


@pytest.mark.sqlite("key files")
def test_another_root_key(client, check, path, monkeypatch):
    """A root key that the database was not used with is a warning."""
    client.register()
    monkeypatch.setenv("AUTHAPI_SECRET_KEY", os.urandom(32).hex())

    status, found = check()

    assert (status, found["root key"][0]) == (0, "warn")
    assert path.exists()


@pytest.mark.sqlite("an older schema")
def test_an_older_release(check, tmp_path):
    """An older schema is a warning, and compared with a fresh one of its own version."""
    older = opened(tmp_path / "authapi.db", until=9)
    insert_user(older, "user0")
    older.close()

    _, found = check()

    assert found["schema"][0] == "warn"
    assert "0010_sign_in_methods" in found["schema"][1]
    assert found["drift"] == ("ok", "The schema is that of version 9.")


@pytest.mark.sqlite("copies")
def test_copies_are_named(client, check, path):
    """Copies that an update or a restore kept are named, because they hold password hashes."""
    path.with_name("authapi.db.before-0007").write_bytes(bytes(2_000_000))

    _, found = check()

    assert found["copies"][0] == "ok"
    assert "authapi.db.before-0007 (2 MiB)" in found["copies"][1]
    assert client.app is not None
