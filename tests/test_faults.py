"""Real faults: a full disk, a read-only, locked or replaced database, a wrong clock, lost keys."""

import errno
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import CHEAP, USER, Client, process, request, token_of

from authapi import Settings, StartError, create_app
from authapi.database.sqlite import SQLiteDatabase, database, writer_lock
from authapi.database.sqlite.errors import translated
from authapi.database.sqlite.file_identity import FileIdentity
from authapi.database.sqlite.writer_lock import WriterLock
from authapi.database.statements import SQL
from authapi.errors import Unavailable
from authapi.keys import load_keys
from authapi.principal import FRESH_FOR

UNLIMITED = {"rate_limits": "off"}
PUT_BACK = "replaced or removed while in use: put it back, or restart to use what is there"
NOBODY = 65_534
HOUR = 3_600
HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN " + sys.argv[2])
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture(name="client")
def _client(make_client):
    return make_client(**UNLIMITED)


@pytest.fixture(name="path")
def _path(client):
    return client.app.core.database.path


@pytest.fixture(name="looks_always")
def _looks_always(client):
    """Have session checks look at the file's name each time, so that no test need wait."""
    client.app.core.database.connections.look_every = 0
    client.app.core.database.connections.require_in_place()


def is_unavailable(answer):
    return (
        answer.status_code == 503
        and answer.json["error"] == "unavailable"
        and answer.headers["retry-after"] == "1"
        and "set-cookie" not in answer.headers
    )


def causes(caplog):
    """What the log gives as the causes of the refused requests."""
    return {line.partition("unavailable ")[2] for line in caplog.messages}


def names(path):
    """The users in a database file, and that it is whole."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [name for (name,) in connection.execute("SELECT username FROM users ORDER BY id")]


def numbered(client, number):
    return client.register(username=f"user{number}", email=f"user{number}@example.com")


@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_BUSY_SNAPSHOT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
    ],
)
def test_what_passes(code):
    """Result codes of what passes, extended ones too, are answered 503 and not 500."""
    error = sqlite3.OperationalError("of a test")
    error.sqlite_errorcode = code

    with pytest.raises(Unavailable), translated():
        raise error


# A full disk


def test_no_room_for_another_page(client, token, caplog):
    """Where SQLite gets no more pages changes are refused whole, and checks go on."""
    connection = client.app.core.database.connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    number = 0
    while (answer := numbered(client, number)).status_code == 201:
        number += 1

    assert is_unavailable(answer)
    assert causes(caplog) == {"database or disk is full"}
    assert client.query("SELECT count(*) FROM users") == [(1 + number,)]
    assert client.get_as(token).status_code == 200

    connection.execute("PRAGMA max_page_count = 100000")
    assert numbered(client, number).status_code == 201


def register(url, number):
    fields = {"username": f"user{number}", "email": f"user{number}@example.com"}
    return request(f"{url}/register", {**USER, **fields})


def fill(url):
    """Register until that is refused; give the cookie of the first, and how many there are."""
    number, (status, body, headers) = 0, register(url, 0)
    cookie = headers["Set-Cookie"].partition(";")[0]
    while status == 201:
        number += 1
        status, body, headers = register(url, number)
    assert (status, body["error"], headers["Retry-After"]) == (503, "unavailable", "1")
    assert headers["Set-Cookie"] is None
    return cookie, number


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit")
def test_files_that_cannot_grow(tmp_path):
    """A running service whose writes the system refuses (EFBIG) goes on when it no longer does."""
    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (service, url):
        _, hard = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (200_000, hard))
        cookie, number = fill(url)
        assert request(f"{url}/user", Cookie=cookie)[0] == 200

        resource.prlimit(service.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert register(url, number)[0] == 201
        service.terminate()
        _, log = service.communicate()

    assert "unavailable disk I/O error" in log
    assert names(tmp_path / "authapi.db") == [f"user{each}" for each in range(number + 1)]


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path):
    """A file system of 700 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=700k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.call(command, stderr=subprocess.DEVNULL):
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(small_disk):
    """A service on a full disk (ENOSPC) answers session checks, and goes on when there is room."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    with process(small_disk, AUTHAPI_RATE_LIMITS="off") as (service, url):
        cookie, number = fill(url)
        assert request(f"{url}/user", Cookie=cookie)[0] == 200

        ballast.unlink()
        assert register(url, number)[0] == 201
        service.terminate()
        _, log = service.communicate()

    assert "unavailable database or disk is full" in log
    assert names(small_disk / "authapi.db") == [f"user{each}" for each in range(number + 1)]


# A read-only database


def test_a_connection_that_only_reads(client, token, caplog):
    """A change on it is refused, checks go on, and the next change has a connection that writes."""
    client.app.core.database.connection.execute("PRAGMA query_only = ON")

    assert client.get_as(token).status_code == 200
    assert is_unavailable(client.log_in())
    assert causes(caplog) == {"attempt to write a readonly database"}
    assert client.log_in().status_code == 200


@contextmanager
def unprivileged():
    """Be a user whom file modes bind."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        if not os.access(SQL / "sqlite" / "connection.sql", os.R_OK):
            pytest.skip("nobody may read this checkout")
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture(name="folder")
def _folder():
    """A directory of the unprivileged user."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            os.chown(name, NOBODY, NOBODY)
        yield Path(name)


def test_a_read_only_file(folder, caplog):
    """A file whose mode forbids to write is read, refuses changes, and stops a start."""
    settings = Settings(database_url=f"sqlite:///{folder}/authapi.db", **CHEAP, **UNLIMITED)
    app = create_app(settings)
    client = Client(app)
    token = token_of(client.register())
    assert client.log_in().status_code == 200
    assert client.post("/login").status_code == 415  # what Python imports late is imported now
    app.core.database.prepare_to_fork()
    if os.geteuid() == 0:
        for file in folder.iterdir():
            os.chown(file, NOBODY, NOBODY)
    with unprivileged():
        app.core.database.path.chmod(0o400)

        assert client.get_as(token).status_code == 200
        assert is_unavailable(client.log_in())
        with pytest.raises(StartError, match=r"authapi\.db cannot be written .Permission denied.:"):
            create_app(settings)

        assert client.get_as(token).status_code == 200
        for file in folder.glob("authapi.db*"):  # SQLite made logs of the same mode
            file.chmod(0o600)
        assert client.log_in().status_code == 200
        app.close()
    assert causes(caplog) == {"attempt to write a readonly database"}


# A database that another program keeps locked


@contextmanager
def locked(path, kind):
    """Have another process keep a database locked."""
    command = [sys.executable, "-c", HOLDER, str(path), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        yield
        holder.stdin.close()


@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
def test_locked_by_another_program(client, token, clock, caplog, kind):
    """A change waits until its deadline and no longer; checks go on, and a renewal is put off."""
    client.app.core.database.lock_timeout = 0.2
    clock.move(3_600)
    with locked(client.app.core.database.path, kind):
        before = time.monotonic()
        checked = client.get_as(token)
        between = time.monotonic()
        refused = client.log_in()
        after = time.monotonic()

    assert (checked.status_code, checked.headers.get("set-cookie")) == (200, None)
    assert between - before < 2
    assert 0.2 <= after - between < 3
    assert is_unavailable(refused)
    assert caplog.messages[0] == "a session was not renewed: database is locked"
    assert caplog.messages[1].endswith("unavailable database is locked")
    assert client.log_in().status_code == 200
    assert token_of(client.get_as(token))


def test_one_deadline_for_all_that_a_write_waits_for(client, monkeypatch):
    """Threads, other processes and other programs are waited for together, not one by one."""
    deadlines, now = [], [100.0]
    lock = client.app.core.database.writer_lock
    taken = lock._writer

    class Writer:
        def acquire(self, timeout):
            now[0] += timeout
            return now[0] > 102 and taken.acquire()

        def release(self):
            taken.release()

    file_locked, patiently = writer_lock.file_locked, SQLiteDatabase._patiently
    monkeypatch.setattr(lock, "_writer", Writer())
    monkeypatch.setattr(database.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        writer_lock, "file_locked", lambda name, at: deadlines.append(at) or file_locked(name, at)
    )
    monkeypatch.setattr(
        SQLiteDatabase,
        "_patiently",
        lambda self, begin, at: deadlines.append(at) or patiently(self, begin, at),
    )

    with client.app.core.database.transaction():
        pass

    assert now[0] > 102
    assert deadlines == [105.0] * 2


def test_locked_under_load(tmp_path, client, clock):
    """While another program keeps a lock and changes pile up, all others are answered.

    Also where a session is due for its renewal, which would need a turn to write. Changes that find
    enough others waiting are refused before their time.
    """
    clock.now = time.time() - 2 * HOUR
    cookie = f"jwt={token_of(client.register())}"
    client.query("UPDATE sessions SET authenticated_at = unixepoch()")  # a rename needs that
    client.app.close()
    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (_, url), ThreadPoolExecutor(40) as pool:

        def rename():
            return request(f"{url}/user", {"username": "other"}, method="PATCH", Cookie=cookie)

        with locked(tmp_path / "authapi.db", "IMMEDIATE"):
            renames = [pool.submit(rename) for _ in range(40)]
            status, answer, _ = next(as_completed(renames)).result()
            assert (status, answer["error"]) == (503, "unavailable")
            for path in ("/user", "/sessions"):
                status, _, headers = request(f"{url}{path}", Cookie=cookie)
                assert (status, headers["Set-Cookie"]) == (200, None)
            assert not all(each.done() for each in renames)  # others wait for five seconds
        assert {each.result()[0] for each in renames} <= {200, 503}
        assert request(f"{url}/user", Cookie=cookie)[2]["Set-Cookie"]


def test_writers_that_would_be_too_many(tmp_path, monkeypatch):
    """Where one turn takes long only so many wait for theirs; the others are refused at once."""
    now = [100.0]
    monkeypatch.setattr(writer_lock.time, "monotonic", lambda: now[0])
    lock = WriterLock(f"{tmp_path}/authapi.db.lock", most_waiting=1)

    class Writer:
        def acquire(self, timeout):
            now[0] += timeout
            return False

    with lock.hold(105), lock._waiting_thread():
        assert not lock.is_stuck
        monkeypatch.setattr(lock, "_writer", Writer())
        with pytest.raises(Unavailable), lock.hold(105):
            pass
        assert lock.is_stuck
        assert now[0] < 101
        monkeypatch.setattr(lock, "_most_waiting", 2)
        with pytest.raises(Unavailable), lock.hold(105):
            pass
        assert now[0] == 105
        monkeypatch.undo()
    assert not lock.is_stuck


def test_a_fork_does_not_keep_the_turn(tmp_path):
    """What was forked in the midst of a change has the lock's descriptor, and not the turn."""
    program = """
import os, signal
from authapi.database.sqlite.writer_lock import WriterLock
path = "authapi.db.lock"
with WriterLock(path, 1).hold(0):
    child = os.fork() or signal.pause()
try:
    with WriterLock(path, 1).hold(0):
        pass
finally:
    os.kill(child, signal.SIGKILL)
"""
    root = Path(__file__).parents[1]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environ, check=True)


def test_sqlite_itself_waits_but_a_moment(client):
    """What SQLite waits for within one try is short, so that a deadline holds."""
    waits = client.query("PRAGMA busy_timeout")[0][0]

    assert 10 <= waits <= 100


# A database that is replaced or removed


def replace(path, moved=None):
    """Put a copy from an hour ago in the place of a database, as `mv copy.db authapi.db` does."""
    copy = path.with_name("copy.db")
    if moved:
        path.rename(moved)
    copy.rename(path)


def back_up(path):
    with (
        closing(sqlite3.connect(path)) as connection,
        closing(sqlite3.connect(path.with_name("copy.db"))) as copy,
    ):
        connection.backup(copy)


@pytest.mark.usefixtures("looks_always")
def test_replaced(client, token, path, make_app, caplog):
    """Nothing is read from a file that lost its name, nothing is written, and nothing is lost.

    What it had acknowledged is whole in it; the file in its place is as it was, also after a start.
    """
    back_up(path)
    kept, moved = path.with_name("copy.db").read_bytes(), path.with_name("moved.db")
    assert numbered(client, 1).status_code == 201
    replace(path, moved)

    assert is_unavailable(client.get_as(token))
    assert is_unavailable(client.log_in())
    assert is_unavailable(client.request_as(token, "POST", "/logout"))
    assert causes(caplog) == {f"[Errno {errno.ESTALE}] {PUT_BACK}: {str(path)!r}"}
    assert kept == path.read_bytes()
    assert path.with_name("authapi.db-wal").stat().st_size == 0
    client.app.close()

    assert names(moved) == [USER["username"], "user1"]
    restored = Client(make_app(**UNLIMITED))
    assert restored.get_as(token).status_code == 200
    assert restored.log_in("user1").status_code == 401
    assert restored.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.usefixtures("looks_always")
def test_replaced_for_a_thread_without_a_connection(client, token, path):
    """A thread that opens its connection then does not open the other file."""
    back_up(path)
    replace(path)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.get_as(token)))
    thread.start()
    thread.join()

    assert is_unavailable(answers[0])
    assert len(client.app.core.database.connections.opened) == 1


def test_replaced_while_it_is_opened(client, path, monkeypatch):
    """Nor one that is put in its place between the look and the opening; its log is not its own."""
    back_up(path)
    client.app.core.database.prepare_to_fork()
    connect = sqlite3.connect

    def late(*arguments, **options):
        replace(path)
        return connect(*arguments, **options)

    other = SQLiteDatabase(path)
    other.connection.execute("SELECT count(*) FROM users")
    assert numbered(client, 1).status_code == 201
    client.app.core.database.prepare_to_fork()
    kept = path.with_name("copy.db").read_bytes()
    monkeypatch.setattr(sqlite3, "connect", late)
    try:
        client.app.core.database.statements("migrations").applied()
    except Unavailable as unavailable:
        held = unavailable  # and the connection, by its traceback
    monkeypatch.undo()
    client.app.close()

    assert held
    assert kept == path.read_bytes()
    other.close()


def test_replaced_while_a_write_waits(client, path, monkeypatch):
    """A change that waited for its turn looks again before it is made."""
    back_up(path)
    patiently = SQLiteDatabase._patiently

    def late(self, begin, deadline):
        patiently(self, begin, deadline)
        replace(path)

    monkeypatch.setattr(SQLiteDatabase, "_patiently", late)
    assert is_unavailable(numbered(client, 1))
    monkeypatch.undo()
    assert names(path) == []


@pytest.mark.usefixtures("looks_always")
def test_removed(client, token, path):
    """A database that is gone is not made anew; put back, it goes on without a restart."""
    moved = path.with_name("moved.db")
    path.rename(moved)

    assert is_unavailable(client.get_as(token))
    assert is_unavailable(client.log_in())
    assert not path.exists()

    moved.rename(path)
    assert client.get_as(token).status_code == 200
    assert client.log_in().status_code == 200


def test_replaced_and_seen_by_a_thread_without_a_connection(client, path):
    """Whoever sees it first has the log taken in, so that it gets into no other file."""
    back_up(path)
    assert numbered(client, 1).status_code == 201
    moved = path.with_name("moved.db")
    replace(path, moved)
    thread = threading.Thread(target=client.app.maintain)
    thread.start()
    thread.join()

    assert names(path) == []
    assert names(moved) == ["user1"]


@pytest.mark.usefixtures("looks_always")
def test_replaced_twice(client, token, path):
    """A file that was put back, used, and is replaced once more has its log taken in once more."""
    moved = path.with_name("moved.db")
    for number in range(2):
        back_up(path)
        assert numbered(client, number).status_code == 201
        replace(path, moved)
        assert is_unavailable(client.get_as(token))
        assert names(moved)[-1] == f"user{number}"
        moved.rename(path)
        assert client.get_as(token).status_code == 200


@pytest.mark.usefixtures("looks_always")
def test_opened_by_another_program_while_it_was_replaced(client, token, path, make_app, caplog):
    """That takes the log away; what is put back then is used after a restart, and whole."""
    back_up(path)
    assert numbered(client, 1).status_code == 201
    moved = path.with_name("moved.db")
    replace(path, moved)
    assert is_unavailable(client.get_as(token))
    assert names(path) == [USER["username"]]
    moved.rename(path)

    assert is_unavailable(numbered(client, 2))
    assert is_unavailable(client.get_as(token))
    assert "while in use: restart the service: " in caplog.messages[-1]
    client.app.close()
    assert names(path) == [USER["username"], "user1"]
    assert Client(make_app(**UNLIMITED)).get_as(token).status_code == 200


@pytest.mark.usefixtures("looks_always")
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_log_that_is_gone(client, token, path, make_app, suffix):
    """All is refused, also on new connections, and all that was acknowledged is in the database."""
    assert numbered(client, 1).status_code == 201
    path.with_name(f"authapi.db{suffix}").unlink()

    for _ in range(2):
        assert is_unavailable(client.get_as(token))
        assert is_unavailable(numbered(client, 2))
    thread = threading.Thread(target=lambda: client.get_as(token))
    thread.start()
    thread.join()
    assert not path.with_name(f"authapi.db{suffix}").exists()
    assert names(path) == [USER["username"], "user1"]

    client.app.close()
    assert Client(make_app(**UNLIMITED)).get_as(token).status_code == 200


@pytest.mark.usefixtures("looks_always")
def test_moved_and_linked(client, token, path, make_app):
    """The same file under a link has another log: all is refused until a restart, and kept.

    Who opens the file by its new name meanwhile loses nothing either.
    """
    assert numbered(client, 1).status_code == 201
    path.with_name("data").mkdir()
    moved = path.with_name("data") / path.name
    path.rename(moved)
    path.symlink_to(moved)

    assert is_unavailable(client.get_as(token))
    assert is_unavailable(numbered(client, 2))
    other = Client(make_app(**UNLIMITED))
    assert numbered(other, 2).status_code == 201
    assert is_unavailable(client.get_as(token))
    client.app.close()
    assert numbered(other, 3).status_code == 201
    other.app.close()
    assert names(path) == [USER["username"], "user1", "user2", "user3"]


@pytest.mark.usefixtures("looks_always")
def test_another_log_beside_the_same_file(client, token, path):
    """Our own log is not written over what another service acknowledges in its own."""
    assert numbered(client, 1).status_code == 201
    for suffix in ("-wal", "-shm"):
        path.with_name(f"authapi.db{suffix}").unlink()
    with process(path.parent, AUTHAPI_RATE_LIMITS="off") as (_, url):
        assert register(url, 2)[0] == 201
        assert is_unavailable(client.get_as(token))
        client.app.close()
        assert register(url, 3)[0] == 201
    assert "user2" in names(path)
    assert "user3" in names(path)


def test_a_link(tmp_path, make_client):
    """A database may be named by a link; one that is set to another file is a replaced one."""
    real = tmp_path / "data" / "real.db"
    real.parent.mkdir()
    link = tmp_path / "authapi.db"
    link.symlink_to(real)
    client = make_client(**UNLIMITED)
    client.app.core.database.connections.look_every = 0
    token = token_of(client.register())
    assert {"real.db-wal", "real.db.lock"} <= {file.name for file in real.parent.iterdir()}

    back_up(real)
    link.unlink()
    link.symlink_to(real.with_name("copy.db"))
    assert is_unavailable(client.get_as(token))
    assert is_unavailable(client.log_in())
    link.unlink()
    link.symlink_to(real)
    assert client.get_as(token).status_code == 200


def test_a_log_that_closed_with_the_last_connection(client, token, path):
    """SQLite itself takes the log away with the last connection: the next one goes on."""
    client.app.core.database.prepare_to_fork()
    assert not path.with_name("authapi.db-wal").exists()

    assert client.get_as(token).status_code == 200
    assert numbered(client, 1).status_code == 201


def test_an_end_takes_no_log_of_another_service_away(tmp_path):
    """The file was replaced, and a second service runs on the new one when the first one ends."""
    path = tmp_path / "authapi.db"
    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (service, url):
        register(url, 1)
        back_up(path)
        replace(path)
        assert register(url, 2)[0] == 503
        with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (_, other):
            assert register(other, 2)[0] == 201
            service.send_signal(signal.SIGTERM)
            assert service.wait() == 0
            assert register(other, 3)[0] == 201
    assert names(path) == ["user1", "user2", "user3"]


@pytest.mark.skipif(sys.platform != "linux", reason="locks of open files are Linux's")
@pytest.mark.parametrize("ends_last", ["the first", "the second"])
def test_an_end_takes_no_newer_log_away(tmp_path, ends_last):
    """The log was removed, and a second service has another one: whoever ends last, it is kept."""
    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (service, url):
        register(url, 1)
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"authapi.db{suffix}").unlink()
        assert register(url, 2)[0] == 503
        with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (second, other):
            assert register(other, 2)[0] == 201
            for one in (service, second) if ends_last == "the second" else (second, service):
                one.send_signal(signal.SIGTERM)
                assert one.wait() == 0
    assert names(tmp_path / "authapi.db") == ["user1", "user2"]


def test_a_removed_log_that_nobody_has_asked_for(tmp_path):
    """A service without a request knows its log too, and refuses another one."""
    with (
        process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (_, url),
        process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (_, other),
    ):
        cookie = register(url, 1)[2]["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/logout", {}, Cookie=cookie)[0] == 200
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"authapi.db{suffix}").unlink()

        assert request(f"{other}/user", Cookie=cookie)[0] == 503
        assert register(other, 2)[0] == 503
        # Session checks look at the file's name each LOOK_EVERY seconds, and not at each request.
        assert any(request(f"{url}/user", Cookie=cookie)[0] == 503 for _ in range(1_000))
    with process(tmp_path) as (_, url):
        assert request(f"{url}/user", Cookie=cookie)[0] == 401
    assert names(tmp_path / "authapi.db") == ["user1"]


def test_a_hard_link(tmp_path, make_app):
    """A database with two names has two logs: it is refused by both."""
    make_app().close()
    (tmp_path / "other.db").hardlink_to(tmp_path / "authapi.db")

    for name in ("authapi.db", "other.db"):
        with pytest.raises(StartError, match=f"{name} is a hard link"):
            make_app(database_url=f"sqlite:///{tmp_path}/{name}")


OVERWRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
with connection:
    connection.execute("UPDATE users SET username = 'renamed' WHERE id = 1")
print(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
"""


@pytest.mark.usefixtures("looks_always")
def test_a_lost_log_is_not_written_over_newer_changes(client, token, path):
    """What another program has put into the same file since is not taken back by our log."""
    client.app.core.database.prepare_to_fork()  # which takes the log in
    assert numbered(client, 1).status_code == 201
    for suffix in ("-wal", "-shm"):
        path.with_name(f"authapi.db{suffix}").unlink()
    said = subprocess.check_output([sys.executable, "-c", OVERWRITE, str(path)], text=True)
    assert said == "(0, 0, 0)\n"
    assert is_unavailable(client.get_as(token))
    client.app.close()

    assert names(path) == ["renamed"]


def test_a_lost_log_that_a_change_notices_first(client, path, make_app):
    """What was acknowledged is taken in before the change is refused: another service may start."""
    client.app.core.database.connections.look_every = 3_600  # so that only transactions look
    assert numbered(client, 1).status_code == 201
    for suffix in ("-wal", "-shm"):
        path.with_name(f"authapi.db{suffix}").unlink()
    assert is_unavailable(numbered(client, 2))

    assert numbered(Client(make_app()), 2).status_code == 201
    client.app.close()

    assert names(path) == ["user1", "user2"]


def test_maintenance_tells_once(client, path, caplog):
    """Also without a request it is noticed that the file was replaced, and told."""
    client.app.maintain()
    path.rename(path.with_name("moved.db"))
    for _ in range(3):
        client.app.maintain()
    path.with_name("moved.db").rename(path)
    client.app.maintain()

    told = [line for line in caplog.messages if PUT_BACK in line]
    assert len(told) == 1


@pytest.mark.parametrize(
    "spoilt", [(0, "file is not a database"), (4_096, "database disk image is malformed")]
)
def test_spoilt(client, token, path, caplog, spoilt):
    """A file that something else wrote over is refused, with the reason in the log."""
    begin, cause = spoilt
    client.app.core.database.prepare_to_fork()
    with path.open("rb+") as file:
        file.seek(begin)
        file.write(b"no database " * 4_000)

    assert is_unavailable(client.get_as(token))
    assert is_unavailable(client.log_in())
    assert causes(caplog) == {cause}


def test_looks_are_few(client, token, monkeypatch):
    """Session checks look at the file's name once in LOOK_EVERY seconds, and changes always."""
    looks, now = [], [time.monotonic() + 1]
    loss = FileIdentity.loss
    monkeypatch.setattr(
        FileIdentity, "loss", lambda file, logs: looks.append(file) or loss(file, logs)
    )
    monkeypatch.setattr(database.time, "monotonic", lambda: now[0])

    for _ in range(3):
        client.get_as(token)
    assert len(looks) == 1
    now[0] += client.app.core.database.connections.look_every
    client.get_as(token)
    assert len(looks) == 2
    client.request_as(token, "DELETE", "/sessions")
    assert len(looks) > 2


def test_restored_through_sqlite(client, token, path):
    """A copy that SQLite itself puts back, as `.restore` does, counts at the next request."""
    back_up(path)
    later = token_of(client.log_in())
    with (
        closing(sqlite3.connect(path.with_name("copy.db"))) as copy,
        closing(sqlite3.connect(path)) as connection,
    ):
        copy.backup(connection)

    assert client.get_as(later).status_code == 401
    assert client.get_as(token).status_code == 200
    assert client.log_in().status_code == 200


def test_replaced_under_a_process(tmp_path):
    """So it is with the real service: it refuses, says why, and a restart has the new file."""
    path = tmp_path / "authapi.db"
    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (service, url):
        register(url, 1)
        back_up(path)
        cookie = register(url, 2)[2]["Set-Cookie"].partition(";")[0]
        replace(path)
        assert register(url, 3)[0] == 503
        assert request(f"{url}/user", Cookie=cookie)[0] == 503
        service.send_signal(signal.SIGTERM)
        _, log = service.communicate()
    assert f"{PUT_BACK}: {str(path)!r}" in log

    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (_, url):
        assert request(f"{url}/user", Cookie=cookie)[0] == 401
        assert register(url, 2)[0] == 201
    assert names(path) == ["user1", "user2"]


# A clock that is wrong, and is set


@pytest.mark.parametrize(
    "moves", [[-HOUR], [HOUR], [HOUR, -HOUR], [-HOUR, HOUR], [HOUR, -2 * HOUR]]
)
def test_nobody_is_logged_out(client, token, clock, moves):
    """Sessions outlive a clock that goes an hour wrong and is set right; so do renewed tokens."""
    tokens = [token]
    for seconds in moves:
        clock.move(seconds)
        answers = [client.get_as(each) for each in tokens]
        assert {answer.status_code for answer in answers} == {200}
        tokens += [token_of(answer) for answer in answers if "set-cookie" in answer.headers]
        tokens.append(token_of(client.log_in()))

    answers = [client.get_as(each) for each in tokens]
    assert {answer.status_code for answer in answers} == {200}
    assert client.request_as(tokens[-1], "DELETE", "/sessions").status_code == 200
    assert client.get_as(tokens[-1], "/user/activity").status_code == 200


def test_what_has_expired_is_gone(make_client, clock):
    """A session that is over by the clock opens nothing, and one that was pruned stays dead."""
    client = make_client(session_lifetime=HOUR // 2, **UNLIMITED)
    token = token_of(client.register())

    clock.move(HOUR)
    assert client.get_as(token).status_code == 401
    client.app.jobs.run_due()
    clock.move(-HOUR)
    assert client.get_as(token).status_code == 401


@pytest.mark.parametrize(
    ("seconds", "status"), [(1 - FRESH_FOR, 200), (-FRESH_FOR, 403), (-HOUR, 403), (HOUR, 403)]
)
def test_no_session_is_fresh_for_longer(client, token, clock, seconds, status):
    """A clock that is set back by more than freshness lasts makes no session fresh for an hour."""
    clock.move(seconds)

    assert client.request_as(token, "DELETE", "/user").status_code == status


def test_the_audit_log_keeps_all(client, token, clock):
    """An hour forward or back takes nothing from the log, and keeps nothing from being written."""
    for seconds in (HOUR, -2 * HOUR, HOUR):
        before = client.events()
        clock.move(seconds)
        assert client.log_in().status_code == 200
        assert client.events()[: len(before)] == before


# Keys


def test_keys_are_gone_under_a_running_service(client, token, path):
    """A service that runs has its keys, whatever becomes of the file."""
    path.with_name("authapi.db.key").unlink()

    assert client.get_as(token).status_code == 200
    assert client.get_as(token_of(client.log_in())).status_code == 200


def test_keys_are_gone_at_a_start(client, token, path, make_client, caplog):
    """A start makes new keys and warns that sessions have ended; the old ones bring them back."""
    file = path.with_name("authapi.db.key")
    kept = file.rename(path.with_name("kept.key"))
    assert caplog.messages == []

    restarted = make_client(**UNLIMITED)

    (message,) = caplog.messages
    assert message.startswith(f"the key file {file} was gone, a new one is made: all sessions have")
    assert restarted.get_as(token).status_code == 401
    assert restarted.get_as(token_of(restarted.log_in())).status_code == 200
    kept.replace(file)
    assert make_client(**UNLIMITED).get_as(token).status_code == 200


@pytest.mark.parametrize("rest", [None, b""])
def test_a_database_that_is_gone(client, path, make_client, caplog, rest):
    """A start that makes a database although there are keys says that one is missing."""
    client.app.close()
    path.unlink()
    if rest is not None:
        path.write_bytes(rest)
    restarted = make_client(**UNLIMITED)

    message = caplog.messages[-1]
    assert message.startswith(f"the database {path} was gone, a new, empty one is made: there are")
    assert restarted.register().status_code == 201


def test_no_warning_without_a_loss(client, token, path, make_client, caplog):
    """A start says nothing where keys are there, in the settings, or no session is."""
    make_client(**UNLIMITED)
    make_client(secret_key="a secret of thirty-two bytes, and more", **UNLIMITED)
    client.request_as(token, "POST", "/logout")
    path.with_name("authapi.db.key").unlink()
    make_client(**UNLIMITED)

    assert caplog.messages == []


def test_keys_that_cannot_be_read(folder):
    """Keys that this user may not read stop the start with a sentence, and are left alone."""
    file = folder / "authapi.key"
    load_keys(Settings(key_file=str(file)))
    kept = file.read_bytes()
    file.chmod(0)

    with unprivileged(), pytest.raises(StartError, match="cannot be used .Permission denied.: let"):
        load_keys(Settings(key_file=str(file)))

    file.chmod(0o600)
    assert kept == file.read_bytes()


def test_keys_are_kept_before_they_are_used(tmp_path, monkeypatch):
    """A key file is on the disk before it has its name, and the name before a token is signed."""
    done = []
    fsync, link = os.fsync, os.link

    def spy(descriptor):
        fsync(descriptor)
        found = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append((found.is_dir(), found.read_bytes() if found.is_file() else found))

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(os, "link", lambda *names: done.append("link") or link(*names))
    load_keys(Settings(key_file=f"{tmp_path}/authapi.key"))

    assert done == [(False, (tmp_path / "authapi.key").read_bytes()), "link", (True, tmp_path)]
