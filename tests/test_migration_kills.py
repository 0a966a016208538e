"""A start that is killed while it changes the schema leaves the older schema or the newer one."""

import subprocess
import sys

import kills
import pytest
from cluster import why_none
from conftest import eventually
from databases import MIGRATIONS, insert_user, opened, rows

KILLED = """
import json, sqlite3, sys
from pathlib import Path
from kills import KILLED, Files, in_a_child, kill_me
from authapi.database.migrations import migrations
from authapi.database.sqlite import SQLiteDatabase, migrate

path, until = Path(sys.argv[1]), int(sys.argv[2])
path.touch(0o600)
files = Files(path.parent)

def start(statement):
    done = 0
    def watch(text):
        nonlocal done
        changes = text.split()[0] not in ("SELECT", "PRAGMA")
        done += changes
        if changes and done == statement:
            kill_me()
    database = SQLiteDatabase(path)
    database.connection.set_trace_callback(watch)
    migrate(database, migrations("sqlite")[:until])
    database.close()

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

statement, status, version = 0, KILLED, None
while status == KILLED:
    files.put_back()
    statement += 1
    status = in_a_child(start, statement)
    before, version = version, look("killed")
    if version != before:  # what was killed goes on from here, and is killed in the next one
        files.save()
        statement = 0
        assert in_a_child(start, 0) == 0
        look("completed")
sys.exit(status)
"""


@pytest.fixture(name="path")
def _path(tmp_path):
    """Return a path in memory."""
    with kills.folder_in_memory(tmp_path) as folder:
        yield folder / "authapi.db"


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


@pytest.mark.parametrize(("release", "until"), [(0, 3), (2, len(MIGRATIONS))])
def test_a_kill_at_each_statement(path, schemas, release, until):
    """After a kill at any statement the schema is whole, and the next start completes it."""
    if release:
        older = opened(path, until=release)
        insert_user(older, "user0")
        older.close()

    looks = kills.run(KILLED, path, until)

    versions = [version for when, _, version, _ in looks if when == "killed"]
    assert {*range(release, until + 1)} == {*versions}
    assert versions == sorted(versions)
    assert len(versions) > 3 * (until - release)
    for when, faults, version, there in looks:
        assert faults == "ok"
        if when == "completed":
            assert (version, there) == (until, schemas[until])
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
