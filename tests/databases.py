"""Database files for tests: made by any release, looked into, locked, copied and replaced."""

import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

from conftest import USER, eventually, request

from authapi.database.migrations import migrations
from authapi.database.sqlite import SQLiteDatabase, migrate

MIGRATIONS = migrations("sqlite")
UNLIMITED = {"rate_limits": "off"}
LATER = time.monotonic() + 86_400  # a deadline after any test
HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN " + sys.argv[2])
print("locked", flush=True)
sys.stdin.read()
"""


def opened(path, until=None):
    """Open a database file, and migrate it as a release with so many migrations would."""
    database = SQLiteDatabase(path)
    migrate(database, MIGRATIONS[:until])
    return database


def insert_user(database, name, password_hash="x"):
    """Add a user to the schema of any release; the name is the address too."""
    database.connection.execute(
        "INSERT INTO users (username, username_key, email, email_key, password_hash)"
        " VALUES (:name, :name, :name, :name, :password_hash)",
        {"name": name, "password_hash": password_hash},
    )


def rows(path, statement):
    """Run a statement on a database file, as another program does."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def usernames(path):
    """Return the usernames in a database file, which must be whole."""
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    return [name for (name,) in rows(path, "SELECT username FROM users ORDER BY id")]


def back_up(path):
    """Copy a database to `copy.db` beside it, as `.backup` does."""
    with (
        closing(sqlite3.connect(path)) as connection,
        closing(sqlite3.connect(path.with_name("copy.db"))) as copy,
    ):
        connection.backup(copy)


def replace(path, moved=None):
    """Put the copy in the place of a database, as `mv copy.db authapi.db` does."""
    if moved:
        path.rename(moved)
    path.with_name("copy.db").rename(path)


def remove_log(path):
    """Delete a database's log and the log's index."""
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink()


def empty_index(path):
    """Damage a database file: an index of the users has no rows any more."""
    with closing(sqlite3.connect(path)) as database:
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'users'"
        ).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\x0a" + bytes(7))  # an empty page of an index


@contextmanager
def locked(path, kind="IMMEDIATE"):
    """Let another program keep a database locked."""
    command = [sys.executable, "-c", HOLDER, str(path), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        yield
        holder.stdin.close()


def overtaken(app, send, action):
    """Send a request, act while it waits for the writer lock, and give the answer."""
    lock = app.core.database.writer_lock
    with ThreadPoolExecutor(1) as pool:
        with lock.hold(LATER):
            sent = pool.submit(send)
            eventually(lambda: lock.waiting)
            action()
        return sent.result()


def look_always(client):
    """Make session checks look at the file's name each time, from now on."""
    connections = client.app.core.database.connections
    connections.look_every = 0
    connections.require_in_place()


def in_a_thread(action):
    """Return the result of an action in a thread of its own, which has no connection yet."""
    given = []
    thread = threading.Thread(target=lambda: given.append(action()))
    thread.start()
    thread.join()
    return given[0]


def numbered(client, number):
    """Register a user with a number."""
    return client.register(username=f"user{number}", email=f"user{number}@example.com")


def register(url, number):
    """Register a user with a number at a process."""
    fields = {"username": f"user{number}", "email": f"user{number}@example.com"}
    return request(f"{url}/register", {**USER, **fields})


def is_unavailable(answer):
    """Return whether an answer tells the client to come back, and nothing else."""
    return (
        answer.status_code == 503
        and answer.json["error"] == "unavailable"
        and answer.headers["retry-after"] == "1"
        and "set-cookie" not in answer.headers
    )


def causes(caplog):
    """Return the causes of the refused requests in the log."""
    return {line.partition("unavailable ")[2] for line in caplog.messages if "unavailable " in line}
