"""A start that is killed while it changes the schema leaves the older schema or the newer one."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cluster import why_none
from conftest import eventually
from databases import MIGRATIONS, insert_user, opened, rows

KILLED = """
import json, os, signal, sqlite3, sys
from pathlib import Path
from authapi.database.sqlite import SQLiteDatabase, migrate

path = Path(sys.argv[1])
saved = {each: each.read_bytes() for each in path.parent.iterdir()}

def put_back():
    for each in path.parent.iterdir():
        each.unlink()
    for each, content in saved.items():
        each.write_bytes(content)
        each.chmod(0o600)

def start(statement):
    done = 0
    def watch(text):
        nonlocal done
        changes = text.split()[0] not in ("SELECT", "PRAGMA")
        done += changes
        if changes and done == statement:
            os.kill(os.getpid(), signal.SIGKILL)
    path.touch(0o600)
    database = SQLiteDatabase(path)
    database.connection.set_trace_callback(watch)
    migrate(database)
    database.close()

def in_a_child(action, *arguments):
    child = os.fork()
    if not child:
        status = 1
        try:
            action(*arguments)
            status = 0
        except Exception as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def look(when):
    connection = sqlite3.connect(path)
    (faults,) = connection.execute("PRAGMA integrity_check").fetchone()
    schema = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").fetchall()
    has_ledger = any(name == "migrations" for name, _ in schema)
    version = has_ledger and connection.execute("SELECT max(version) FROM migrations").fetchone()[0]
    connection.close()
    print(json.dumps([when, faults, version or 0, schema]), flush=True)
    return version

statement, status, version = 0, -signal.SIGKILL, None
while status == -signal.SIGKILL:
    put_back()
    statement += 1
    status = in_a_child(start, statement)
    before, version = version, look("killed")
    if version != before:
        assert in_a_child(start, 0) == 0
        look("completed")
sys.exit(status)
"""


@pytest.fixture(name="path")
def _path(tmp_path):
    """Return a path in memory, if there is a place: a kill does not ask the disk."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder) / "authapi.db"


@pytest.fixture(name="schemas", scope="module")
def _schemas(tmp_path_factory):
    """Return the schema after each number of migrations."""
    path = tmp_path_factory.mktemp("schemas") / "authapi.db"
    text = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name"
    schemas = [[]]
    for until in range(1, len(MIGRATIONS) + 1):
        opened(path, until=until).close()
        schemas.append([list(row) for row in rows(path, text)])
    return schemas


@pytest.mark.parametrize("release", [0, 2])
def test_a_kill_at_each_statement(path, schemas, release):
    """After a kill at any statement the schema is whole, and the next start completes it."""
    if release:
        older = opened(path, until=release)
        insert_user(older, "user0")
        older.close()

    command = [sys.executable, "-c", KILLED, path]
    found = subprocess.run(command, capture_output=True, text=True, check=True)

    looks = [json.loads(line) for line in found.stdout.splitlines()]
    versions = [version for when, _, version, _ in looks if when == "killed"]
    assert {*range(release, len(MIGRATIONS) + 1)} == {*versions}
    assert versions == sorted(versions)
    assert len(versions) > 3 * (len(MIGRATIONS) - release)
    for when, faults, version, there in looks:
        assert faults == "ok"
        if when == "completed":
            assert (version, there) == (len(MIGRATIONS), schemas[-1])
        elif version or there:
            assert there == schemas[version] or [name for name, _ in there] == ["migrations"]
    assert rows(path, "SELECT count(*) FROM users") == [(1 if release else 0,)]


WAITS = """
import sys
from authapi.database.migrations import Migration, migrations
from authapi.database.postgresql import PostgreSQLDatabase, migrate
half = "CREATE TABLE half (a integer);\\nSELECT pg_advisory_lock(42);\\n"
known = migrations("postgresql")
migrate(PostgreSQLDatabase(sys.argv[1]), [*known, Migration(len(known) + 1, "half", half)])
"""
IS_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
TABLES = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"


@pytest.mark.skipif(bool(why_none()), reason=why_none() or "")
def test_a_kill_on_a_server(cluster):
    """On PostgreSQL all migrations are one transaction, which ends with the node that is killed."""
    import psycopg  # noqa: PLC0415 - it may not be installed

    with psycopg.connect(cluster.url, autocommit=True) as other:
        count = lambda text: other.execute(text).fetchone()[0]  # noqa: E731
        other.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        other.execute("SELECT pg_advisory_lock(42)")
        with subprocess.Popen([sys.executable, "-c", WAITS, cluster.url]) as node:
            eventually(lambda: count(IS_WAITING))
            node.kill()
        other.execute("SELECT pg_advisory_unlock(42)")
        eventually(lambda: not count("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))

        assert count(TABLES) == 0
