"""An update: the copy that a start makes before it changes the schema."""

import hashlib
import logging
import os
import sqlite3
import stat
from contextlib import closing

import pytest
from conftest import USER, Client
from databases import MIGRATIONS, insert_user, opened, rows

from authapi import StartError
from authapi.database.migrations import Migration
from authapi.database.sqlite import SQLiteDatabase, migrate
from authapi.database.sqlite.schema import split
from authapi.principal import Claims


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "authapi.db"


@pytest.fixture(name="copy")
def _copy(tmp_path):
    return tmp_path / "authapi.db.before-0003"


def made_by(release, path, *, users=1):
    """Make a database as an older release with so many migrations leaves it."""
    database = opened(path, until=release)
    with database.transaction():
        for number in range(users):
            insert_user(database, f"user{number}")
    return database


def test_a_copy_before_the_schema_changes(path, copy, caplog):
    """The old database is kept beside the new one, and the log names both schemas."""
    caplog.set_level(logging.INFO)
    made_by(2, path).close()
    newest = MIGRATIONS[-1].version

    opened(path).close()

    assert rows(copy, "SELECT version FROM migrations ORDER BY version") == [(1,), (2,)]
    assert rows(copy, "SELECT username FROM users") == [("user0",)]
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]
    assert rows(copy, "SELECT * FROM sqlite_sequence") == [("users", 1)]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [(newest,)] == rows(path, "SELECT max(version) FROM migrations")
    line = f"{path} is updated from schema 2 to {newest}; to go back, install the older release"
    assert caplog.messages == [f"{line} and run: authapi db restore {copy}"]


def test_the_way_back(path, copy):
    """An older release opens the copy in place of the database, and the update can be repeated."""
    made_by(2, path).close()
    opened(path).close()

    for ending in ("-wal", "-shm"):
        path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)
    copy.replace(path)
    older = made_by(2, path, users=0)
    assert older.connection.execute("SELECT count(*) FROM users").fetchone() == (1,)
    older.close()
    opened(path).close()

    assert rows(path, "SELECT username FROM users") == [("user0",)]
    assert copy.exists()


def test_an_upgrade_of_the_first_release(path, make_client, clock):
    """A database with six migrations keeps its users, passwords, sessions and audit entries."""
    elsewhere = make_client(database_url=f"sqlite:///{path}.new")
    elsewhere.register()
    ((password_hash,),) = elsewhere.query("SELECT password_hash FROM users")
    secret, now = "s" * 43, int(clock.now)
    session = (hashlib.sha256(secret.encode()).hexdigest(), now, now, now, now + 3_600)
    older = opened(path, until=6)
    with older.transaction():
        insert_user(older, USER["username"], password_hash)
        older.connection.execute(
            "INSERT INTO audit_log VALUES (5, ?, 'registered', 1, NULL, '', '', 'id')", (now,)
        )
        older.connection.execute(
            "INSERT INTO sessions (id_hash, user_id, created_at, authenticated_at, last_seen_at,"
            " expires_at, ip, user_agent) VALUES (?, 1, ?, ?, ?, ?, '', '')",
            session,
        )
    older.close()

    client = make_client()

    claims = Claims(id=1, username=USER["username"], sub="1", iat=now, exp=now + 3_600, sid=secret)
    assert client.get_as(client.tokens.issue(claims)).status_code == 200
    assert client.log_in().status_code == 200
    assert client.log_in(password="another").status_code == 401
    assert client.events("id", "event", "detail")[0] == (5, "registered", None)
    assert client.query("PRAGMA integrity_check") == [("ok",)]
    assert client.query("PRAGMA foreign_key_check") == []
    added = "credentials_version, email_verified_at, roles"
    assert client.query(f"SELECT {added} FROM users") == [(1, None, "")]
    assert set(client.query("SELECT methods, second_factor_at FROM sessions")) == {("pwd", None)}


def test_a_long_migration_shows_its_progress(path, capsys, monkeypatch):
    """An upgrade that takes long names each step on standard error."""
    made_by(9, path).close()
    monkeypatch.setattr("authapi.database.progress.SILENT_FOR", 0)
    monkeypatch.setattr("authapi.database.sqlite.backup.TICK_EVERY", 1)

    opened(path).close()

    shown = capsys.readouterr().err
    assert f"Copying {path}: done in" in shown
    assert "Migration 0010_sign_in_methods: done in" in shown


def test_what_is_still_in_the_log(path, copy):
    """The copy includes what another process has committed to the log only."""
    older = made_by(2, path, users=3)
    assert os.stat(f"{path}-wal").st_size  # noqa: PTH116

    opened(path).close()

    assert rows(copy, "SELECT count(*) FROM users") == [(3,)]
    older.close()


def test_no_copy_without_a_change(tmp_path, make_app):
    """A first start, and a start without a migration, make no copy and log nothing."""
    for _ in range(2):
        app = make_app()
        assert Client(app).register().status_code in {201, 409}
        app.close()

    assert not list(tmp_path.glob("*before*"))


def test_no_copy_of_a_database_without_users(path, tmp_path):
    """A database without users, which another process may be making, is not copied."""
    made_by(2, path, users=0).close()

    opened(path).close()

    assert not list(tmp_path.glob("*before*"))


def test_a_copy_that_cannot_be_made(path, copy):
    """Without room for the copy, the start is refused and nothing changes."""
    made_by(2, path).close()
    (copy.with_name(f"{copy.name}.part")).mkdir()

    with pytest.raises(StartError, match=f"{path} cannot be copied to {copy}"):
        opened(path).close()

    assert rows(path, "SELECT max(version) FROM migrations") == [(2,)]
    assert not copy.exists()


def test_a_full_disk(path, copy):
    """A disk that becomes full during the copy leaves no incomplete copy."""
    database = made_by(2, path, users=500)
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StartError, match="make room there"):
            opened(path).close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    database.close()

    assert not copy.exists()
    assert rows(path, "SELECT max(version) FROM migrations") == [(2,)]
    opened(path).close()
    assert rows(copy, "SELECT count(*) FROM users") == [(500,)]
    assert not copy.with_name(f"{copy.name}.part").exists()


# The ledger


@pytest.fixture(name="db")
def _db(path):
    db = opened(path)
    yield db
    db.close()


def test_migrations_are_in_order():
    """Versions count from 1 without a gap."""
    assert list(range(1, len(MIGRATIONS) + 1)) == [each.version for each in MIGRATIONS]


def test_the_ledger(db):
    """Each migration is recorded with its checksum; a second start changes nothing."""
    recorded = db.connection.execute("SELECT version, name, checksum FROM migrations").fetchall()
    assert [(each.version, each.name, each.checksum) for each in MIGRATIONS] == recorded

    before = db.connection.execute("PRAGMA data_version").fetchone()
    again = SQLiteDatabase(db.path)
    migrate(again)
    again.close()
    assert before == db.connection.execute("PRAGMA data_version").fetchone()


def test_edited_migration(db):
    """A migration that was edited after it ran stops the start."""
    db.connection.execute("UPDATE migrations SET checksum = 'x' WHERE version = 2")

    with pytest.raises(StartError, match="0002_sessions was edited"):
        migrate(db)


def test_newer_database(db):
    """A database of a newer release stops the start."""
    db.connection.execute("INSERT INTO migrations VALUES (9999, '9999_future', 'x', 0, NULL)")

    with pytest.raises(StartError, match="newer than this program .it has 9999_future.: run"):
        migrate(db)


def test_newer_database_that_an_older_program_may_use(db):
    """A migration says which schema its database needs: an older program goes on with it."""
    newest = MIGRATIONS[-1].version
    future = Migration(9999, "9999_future", f"-- needs: {newest}\nCREATE TABLE t (a INTEGER);\n")
    migrate(db, [*MIGRATIONS, future])

    migrate(db)

    assert db.connection.execute("SELECT needs FROM migrations").fetchall()[-1] == (newest,)
    assert Migration(9999, "9999_future", "CREATE TABLE t (a INTEGER);\n").needs == 9999


def test_ledger_of_an_earlier_release(db):
    """The ledger gets the column that the first release did not have."""
    db.connection.execute("ALTER TABLE migrations DROP COLUMN needs")

    migrate(db)

    assert db.connection.execute("SELECT max(needs) FROM migrations").fetchone() == (None,)


def test_another_programs_ledger(path):
    """A table of another program that has the ledger's name is not changed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE migrations (id INTEGER, migration TEXT)")

    with pytest.raises(StartError):
        migrate(SQLiteDatabase(path))

    (columns,) = rows(path, "SELECT sql FROM sqlite_schema")
    assert columns == ("CREATE TABLE migrations (id INTEGER, migration TEXT)",)


def test_a_migration_is_all_or_nothing(path):
    """A migration that fails in the middle leaves neither its changes nor its row."""
    good = Migration(1, "0001_one", "CREATE TABLE users (a INTEGER) STRICT;\n")
    bad = Migration(
        2, "0002_two", "CREATE TABLE two (a INTEGER) STRICT;\nINSERT INTO nowhere VALUES (1);\n"
    )
    db = SQLiteDatabase(path)

    with pytest.raises(StartError, match="no such table: nowhere"):
        migrate(db, [good, bad])

    tables = db.connection.execute("SELECT name FROM sqlite_schema ORDER BY name").fetchall()
    assert tables == [("migrations",), ("users",)]
    migrate(db, [good, Migration(2, "0002_two", "CREATE TABLE two (b INTEGER);")])
    assert db.connection.execute("SELECT version FROM migrations").fetchall() == [(1,), (2,)]
    db.close()


def test_triggers_are_one_statement():
    """A `;` inside a trigger does not end the statement."""
    statements = list(split(MIGRATIONS[0].text))

    assert len(statements) == 4
    assert "END;" in statements[-1]
