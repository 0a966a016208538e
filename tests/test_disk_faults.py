"""Faults of the disk: no room, no right to write, and files that something else wrote over."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys

import pytest
from conftest import CHEAP, Client, process, request, token_of
from databases import UNLIMITED, causes, is_unavailable, numbered, register, usernames
from system_users import NOBODY, unprivileged

from authapi import Settings, StartError, create_app
from authapi.database.sqlite.errors import translated
from authapi.errors import Unavailable


@pytest.fixture(name="client")
def _client(make_client):
    return make_client(**UNLIMITED)


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
    """Temporary errors, by their extended result codes too, are answered 503."""
    error = sqlite3.OperationalError("of a test")
    error.sqlite_errorcode = code

    with pytest.raises(Unavailable), translated():
        raise error


def test_no_room_for_another_page(client, token, caplog):
    """When SQLite gets no more pages, changes are refused as a whole, and checks go on."""
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


def fill(url):
    """Register until that is refused; return the first cookie and the number of users."""
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
    assert usernames(tmp_path / "authapi.db") == [f"user{each}" for each in range(number + 1)]


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path):
    """Mount a file system of 800 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=800k", "none", str(folder)]
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
    assert usernames(small_disk / "authapi.db") == [f"user{each}" for each in range(number + 1)]


def test_a_connection_that_only_reads(client, token, caplog):
    """A change on a read-only connection is refused; the next change gets another connection."""
    client.app.core.database.connection.execute("PRAGMA query_only = ON")

    assert client.get_as(token).status_code == 200
    assert is_unavailable(client.log_in())
    assert causes(caplog) == {"attempt to write a readonly database"}
    assert client.log_in().status_code == 200


def test_a_read_only_file(folder, caplog):
    """A read-only file answers checks, refuses changes, and stops a start."""
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


@pytest.mark.parametrize(
    "spoilt", [(0, "file is not a database"), (4_096, "database disk image is malformed")]
)
def test_spoilt(client, token, path, caplog, spoilt):
    """A file that another program damaged is refused, with the reason in the log."""
    begin, cause = spoilt
    client.app.core.database.prepare_to_fork()
    with path.open("rb+") as file:
        file.seek(begin)
        file.write(b"no database " * 4_000)

    assert is_unavailable(client.get_as(token))
    assert is_unavailable(client.log_in())
    assert causes(caplog) == {cause}
