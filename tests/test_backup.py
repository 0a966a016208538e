"""A backup: a copy of the database beside a running service, whole or not there at all."""

import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest
from conftest import USER, eventually
from databases import MIGRATIONS, empty_index, insert_user, locked, opened, rows

from authapi import features
from authapi.commands.cli import main

WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
count = 0
while True:
    connection.execute("INSERT INTO users (username, username_key, email, email_key, password_hash)"
        " VALUES (?1, ?1, ?1, ?1, 'x')", (f"writer{count}",))
    count += 1
    print(count, flush=True)
"""


@pytest.fixture(name="target")
def _target(tmp_path):
    return tmp_path / "copy.db"


@pytest.fixture(name="back_up")
def _back_up(tmp_path, target, monkeypatch):
    """Run the command on the database in the test's directory."""
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", f"sqlite:///{tmp_path}/authapi.db")
    monkeypatch.setenv("AUTHAPI_ARGON2_MEMORY_KIB", "8")
    return lambda *options: main(["db", "backup", str(target), *options])


def left(tmp_path):
    """Return what is in the directory that belongs neither to the database nor to its keys."""
    return [each.name for each in tmp_path.iterdir() if not each.name.startswith("authapi.db")]


def test_a_backup_beside_a_service(client, back_up, target, capsys):
    """A copy is one whole file, for its owner alone, and the command names the keys it needs."""
    client.register()

    assert back_up() == 0

    shown = capsys.readouterr()
    assert (
        f"Backed up to {target}: schema {MIGRATIONS[-1].version}, users: 1, sessions: 1"
        in shown.out
    )
    assert f"{client.app.core.settings.key_file} and {client.app.core.settings.root_key_file}" in (
        shown.out
    )
    assert shown.err == ""
    assert left(target.parent) == ["copy.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert rows(target, "PRAGMA journal_mode") == [("delete",)]
    assert rows(target, "SELECT username FROM users") == [(USER["username"],)]


def test_as_json(client, back_up, target, capsys):
    """With --json it is one object."""
    client.register()

    assert back_up("--json") == 0

    shown = json.loads(capsys.readouterr().out)
    assert (shown["file"], shown["users"], len(shown["keys"])) == (str(target), 1, 2)
    assert shown["bytes"] == target.stat().st_size


def test_the_audit_log_tells(client, back_up):
    """The audit log of the service tells who made a backup."""
    back_up()

    ((event, caller),) = client.events("event", "user_agent")
    assert event == "backed_up"
    assert caller.startswith("authapi-cli/")


@contextmanager
def writing(path):
    """Let another process write all the time."""
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        yield
        writer.kill()


def test_a_backup_beside_a_writer(client, back_up, target, path):
    """A process that writes without a pause neither stops a backup nor makes it begin again."""
    client.query("CREATE TABLE ballast (content BLOB)")
    client.query("INSERT INTO ballast SELECT randomblob(9000000) FROM (VALUES (1), (2), (3), (4))")
    with writing(path):
        before = rows(path, "SELECT count(*) FROM users")
        assert back_up() == 0
        after = rows(path, "SELECT count(*) FROM users")

    assert before <= rows(target, "SELECT count(*) FROM users") < after
    assert rows(target, "PRAGMA integrity_check") == [("ok",)]


def test_an_older_database(tmp_path, back_up, target):
    """A backup before an update leaves the schema as it is, in the database and in the copy."""
    older = opened(tmp_path / "authapi.db", until=6)
    insert_user(older, "user0")
    older.close()

    assert back_up() == 0

    for path in (target, tmp_path / "authapi.db"):
        assert rows(path, "SELECT max(version) FROM migrations") == [(6,)]


@pytest.mark.parametrize("make", ["file", "link", "directory"])
def test_a_name_that_is_taken(client, back_up, target, capsys, make):
    """What is there is never replaced."""
    if make == "file":
        target.write_text("precious")
    elif make == "link":
        target.symlink_to("nowhere")
    else:
        target.mkdir()

    assert back_up() == 1

    assert capsys.readouterr().err == f"authapi: {target} exists: name a new file.\n"
    assert left(target.parent) == ["copy.db"]
    assert client.events() == []


def test_a_directory_that_is_not_there(client, tmp_path, capsys):
    """A missing directory is one sentence."""
    url = f"sqlite:///{client.app.core.settings.database_path}"
    assert main(["db", "backup", str(tmp_path / "no" / "copy.db"), "--database-url", url]) == 1
    assert "No such file or directory" in capsys.readouterr().err


def test_no_database(back_up, tmp_path, capsys):
    """Without a database nothing is made."""
    assert back_up() == 1
    assert "There is no database" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_full_disk(client, back_up, target, capsys):
    """A disk that becomes full leaves nothing behind, and the service goes on."""
    resource = pytest.importorskip("resource")
    client.register()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))
    try:
        assert back_up() == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "so nothing was written: make room" in capsys.readouterr().err
    assert left(target.parent) == []
    assert client.log_in().status_code == 200


def test_too_little_room(client, back_up, target, capsys, monkeypatch):
    """Too little room is found before anything is copied."""
    found = os.statvfs(target.parent)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result((*found[:4], 1, *found[5:])))

    assert back_up() == 1

    assert "MiB are free: make room in" in capsys.readouterr().err
    assert left(target.parent) == []


def test_a_damaged_database(client, back_up, target, path, capsys):
    """A database that is damaged gives no backup, and the command says so."""
    client.register()
    client.app.close()
    empty_index(path)

    assert back_up() == 1

    assert "is damaged" in capsys.readouterr().err
    assert left(target.parent) == []


def test_a_locked_database(client, back_up, target, monkeypatch, capsys):
    """Where another program keeps the database locked, only the audit log's entry is missing."""
    monkeypatch.setattr("authapi.database.sqlite.database.LOCK_TIMEOUT", 0.1)
    client.register()
    with locked(client.app.core.database.path):
        assert back_up() == 0

    assert "the audit log cannot be written" in capsys.readouterr().err
    assert rows(target, "SELECT count(*) FROM users") == [(1,)]


WAITS = """
import sys
from pathlib import Path
from authapi.database.sqlite.drafts import draft_of
with draft_of(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_two_backups_to_one_file(client, back_up, target, capsys):
    """A second backup to the same file is refused; a draft of a killed one is replaced."""
    command = [sys.executable, "-c", WAITS, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert back_up() == 1
        assert f"Another process writes {target}.part" in capsys.readouterr().err
        other.kill()
    assert left(target.parent) == ["copy.db.part"]

    assert back_up() == 0
    assert left(target.parent) == ["copy.db"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal(client, target, number):
    """Ctrl-C and a stop leave nothing behind."""
    path = client.app.core.settings.database_path
    client.query("CREATE TABLE ballast (content BLOB)")
    client.query("INSERT INTO ballast SELECT randomblob(9000000) FROM (VALUES (1), (2), (3), (4))")
    command = [sys.executable, "-m", "authapi", "db", "backup", str(target)]
    environ = {**os.environ, "AUTHAPI_DATABASE_URL": f"sqlite:///{path}"}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: left(target.parent))
        process.send_signal(number)
        error = process.communicate()[1]

    assert process.returncode == -number
    assert "Traceback" not in error
    assert left(target.parent) == []


def test_a_server(capsys, monkeypatch):
    """A PostgreSQL server is backed up by its own tools, which the command names."""
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", "postgresql://authapi@localhost/authapi")
    monkeypatch.setenv("AUTHAPI_SECRET_KEY", os.urandom(32).hex())
    assert main(["db", "backup", "copy.db"]) == 1
    assert "pg_dump" in capsys.readouterr().err
    assert main(["db", "restore", "copy.db", "--yes"]) == 1
    assert "pg_restore" in capsys.readouterr().err


def test_the_commands_are_listed():
    """The commands that look after a file have modules of their own, which no server loads."""
    assert not {"backup", "restore"} & {*features.DEFAULT}
