"""`db status` and `db migrate`: what the database holds, and its schema's version."""

import json
import time

import pytest
from conftest import USER
from databases import MIGRATIONS, insert_user, opened, rows

from authapi.commands.cli import main


@pytest.fixture(name="run")
def _run(engine, monkeypatch, capsys):
    """Run a command on the database; return its exit status, output and errors."""
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", engine.settings()["database_url"])

    def run(*arguments):
        status = main(["db", *arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_status(client, run, clock):
    """The status has the engine, the schema and what there is, beside a service."""
    clock.now = time.time()
    client.register()
    client.log_in()

    status, shown, _ = run("status", "--json")

    found = json.loads(shown)
    assert status == 0
    assert (found["users"], found["sessions"], found["pending"]) == (1, 2, [])
    assert found["database"] == client.app.core.database.description
    assert found["bytes"] > 50_000
    assert found["schema"] >= 1


def test_status_for_people(client, run):
    """Without --json there is a line for each."""
    client.register()

    _, shown, _ = run("status")

    assert dict(line.split(None, 1) for line in shown.splitlines())["users"] == "1"


def test_nothing_to_migrate(client, run):
    """A schema that is this release's stays as it is."""
    for arguments in (["migrate"], ["migrate", "--dry-run"]):
        status, shown, _ = run(*arguments)
        assert (status, shown) == (0, f"{client.app.core.database.description}: nothing to do.\n")


@pytest.fixture(name="older")
def _older(tmp_path):
    """Return the path of a database of release 0.1, with a user."""
    path = tmp_path / "authapi.db"
    older = opened(path, until=6)
    insert_user(older, USER["username"])
    older.connection.execute("ALTER TABLE migrations DROP COLUMN needs")
    older.close()
    return path


@pytest.mark.sqlite("an older schema")
def test_a_dry_run(older, run):
    """A dry run names what a start would apply, and changes nothing."""
    status, shown, _ = run("migrate", "--dry-run", "--json")

    found = json.loads(shown)
    assert (status, found["applied"], found["copy"]) == (0, False, None)
    assert found["migrations"] == [each.name for each in MIGRATIONS[6:]]
    assert rows(older, "SELECT max(version) FROM migrations") == [(6,)]


@pytest.mark.sqlite("an older schema")
def test_a_migration(older, run, tmp_path):
    """An update names the copy that goes back, and status lists it."""
    status, shown, _ = run("migrate")

    copy = tmp_path / "authapi.db.before-0007"
    assert status == 0
    assert f"applied {MIGRATIONS[6].name}" in shown
    assert shown.endswith(f"install the older release and run: authapi db restore {copy}\n")
    assert rows(older, "SELECT max(version) FROM migrations") == [(MIGRATIONS[-1].version,)]
    assert json.loads(run("status", "--json")[1])["copies"] == [str(copy)]


@pytest.mark.sqlite("an older schema")
def test_status_of_an_older_release(older, run):
    """The status of an older schema says what is pending, and changes nothing."""
    found = json.loads(run("status", "--json")[1])

    assert (found["schema"], found["users"], len(found["pending"])) == (6, 1, len(MIGRATIONS) - 6)
    assert rows(older, "SELECT max(version) FROM migrations") == [(6,)]


@pytest.fixture(name="older_schema")
def _older_schema(client):
    """Let the ledger lack the newest migration. NOTE: tests share the database of a server."""
    (entry,) = client.query(
        "DELETE FROM migrations WHERE version = (SELECT max(version) FROM migrations)"
        " RETURNING version, name, checksum, needs"
    )
    yield entry[1]
    client.query(
        "INSERT INTO migrations (version, name, checksum, needs) VALUES (?, ?, ?, ?)", *entry
    )


@pytest.mark.parametrize("command", [["user", "list"], ["key", "rotate", "--yes"]])
def test_a_command_beside_an_older_release(older_schema, run, capsys, command):
    """Other commands than `db migrate` leave an older schema as it is, and name that one."""
    before = run("status", "--json")[1]

    status = main(command)

    shown = capsys.readouterr()
    assert (status, shown.out) == (1, "")
    assert f"has the schema of an older release (it lacks {older_schema})" in shown.err
    assert "authapi db migrate" in shown.err
    assert before == run("status", "--json")[1]


@pytest.mark.sqlite("a newer schema")
def test_status_of_a_newer_release(client, run):
    """The status of a newer schema says why this release does not start; the exit status is 1."""
    client.query("INSERT INTO migrations VALUES (9999, '9999_future', 'x', 0, NULL)")

    status, shown, error = run("status")

    assert status == 1
    assert "9999" in shown
    assert "is newer than this program" in error


@pytest.mark.sqlite("a missing file")
@pytest.mark.parametrize("command", ["status", "migrate"])
def test_no_database(run, tmp_path, command):
    """Without a database none is made."""
    status, _, error = run(command)

    assert status == 1
    assert "There is no database" in error
    assert not list(tmp_path.iterdir())
