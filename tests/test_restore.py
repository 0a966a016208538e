"""A restored backup: what ended stays ended, and no id is given again."""

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import CHEAP, OTHER, USER, Client, cookie_of, token_of
from databases import insert_user, opened, rows

from authapi import Settings, StartError, create_app
from authapi.commands import existing_service
from authapi.features.restore import restored

SCRIPT = Path(__file__).parent.parent / "docs" / "examples" / "after-restore.sql"
NEW = "another password"


class Service:
    """A service that is stopped, restored from a backup and started again."""

    def __init__(self, folder, clock):
        self.path = folder / "authapi.db"
        self.backup, self.lost = folder / "backup.db", folder / "lost.db"
        self.settings = Settings(
            database_url=f"sqlite:///{self.path}", login_lockout=1, rate_limits="on", **CHEAP
        )
        self._clock = clock
        self.start()

    def start(self):
        self.client = Client(create_app(self.settings, clock=self._clock))

    def stop(self):
        self.client.app.close()

    def back_up(self):
        with (
            closing(sqlite3.connect(self.path)) as one,
            closing(sqlite3.connect(self.backup)) as to,
        ):
            one.backup(to)

    def put_back(self):
        """Stop, and put the backup into the place of the database, as the page says."""
        self.stop()
        self.path.replace(self.lost)
        assert not [*self.path.parent.glob("authapi.db-*")]
        shutil.copyfile(self.backup, self.path)


@pytest.fixture(name="service")
def _service(tmp_path, clock):
    clock.now = time.time()  # as for a command, or the audit log would drop what is old
    service = Service(tmp_path, clock)
    yield service
    service.stop()


def restore(settings, lost=None):
    with existing_service(settings) as app:
        restored(app.core, lost)


def run_script(settings, _lost=None):
    with closing(sqlite3.connect(settings.database_path)) as connection:
        connection.executescript(SCRIPT.read_text())


ways = pytest.mark.parametrize("make_safe", [restore, run_script])


@ways
def test_what_ended_stays_ended(service, make_safe):
    """No session from before the restore is good after it."""
    ended = token_of(service.client.register())
    live = token_of(service.client.log_in())
    service.back_up()
    later = token_of(service.client.log_in())
    assert service.client.request_as(ended, "POST", "/logout").status_code == 200

    service.put_back()
    make_safe(service.settings)
    service.start()

    for token in (ended, live, later):
        answer = service.client.get_as(token)
        assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert service.client.log_in().status_code == 200


@ways
def test_no_id_is_given_again(service, make_safe):
    """The id of a user who was lost with the database is not given again."""
    service.client.register()
    service.back_up()
    lost = service.client.register(**OTHER).json["user"]["id"]

    service.put_back()
    make_safe(service.settings)
    service.start()

    found = service.client.register(**OTHER).json["user"]["id"]
    assert (lost, found) == (2, 1_000_002)


@ways
def test_a_backup_without_users(service, make_safe):
    """Ids continue above those of the lost database even if the backup never had a user."""
    service.back_up()
    service.client.register()

    service.put_back()
    make_safe(service.settings)
    service.start()

    assert service.client.register().json["user"]["id"] == 1_000_001


def test_more_users_than_are_skipped(service):
    """If the lost database can be read, ids continue above all that it gave."""
    service.client.register()
    service.back_up()
    with service.client.app.core.database.transaction():
        service.client.query("UPDATE sqlite_sequence SET seq = 5000000")
        service.client.query(
            "INSERT INTO audit_log VALUES (7000000000, 1, 'x', 1, NULL, '', '', '', NULL)"
        )

    service.put_back()
    restore(service.settings, service.lost)
    service.start()

    assert service.client.register(**OTHER).json["user"]["id"] == 6_000_001
    assert service.client.query("SELECT max(id) FROM audit_log") == [(8_000_000_001,)]


@pytest.mark.parametrize("content", [b"no database at all, but long enough" * 40, b"", b"x"])
def test_a_lost_database_that_cannot_be_read(service, content, caplog):
    """If the lost database cannot be read, ids continue above the backup's."""
    service.client.register()
    service.back_up()
    service.put_back()
    service.lost.write_bytes(content)

    restore(service.settings, service.lost)
    service.start()

    assert service.client.register(**OTHER).json["user"]["id"] == 1_000_002
    assert any("cannot be read" in message for message in caplog.messages)


def test_a_lost_database_that_is_not_there(service):
    """A path without a file is refused, and nothing changes."""
    token = token_of(service.client.register())

    with pytest.raises(StartError, match=r"There is no database .*lots\.db: name the one"):
        restore(service.settings, service.path.with_name("lots.db"))

    assert service.client.get_as(token).status_code == 200


def device_of(answer):
    return cookie_of(answer, "device")


def log_in_with(service, device, password):
    """Log in with a browser that is or was known, while the name is locked out for all others."""
    service.client.log_in(password="wrong password")
    headers = {"Cookie": f"device={device}"}
    return service.client.log_in(password=password, headers=headers).status_code


@ways
def test_no_browser_of_a_lost_password_is_known(service, make_safe):
    """A device cookie of an earlier password no longer counts, before or after the loss."""
    answer = service.client.register()
    before = device_of(answer)
    service.back_up()
    change = {"current_password": USER["password"], "new_password": NEW}
    answer = service.client.request_as(token_of(answer), "PUT", "/user/password", change)
    meanwhile = device_of(answer)
    assert log_in_with(service, meanwhile, NEW) == 200  # the lockout tells who is known

    service.put_back()
    make_safe(service.settings)
    service.start()
    assert log_in_with(service, before, USER["password"]) == 429
    token = unlocked_token(service)
    assert service.client.request_as(token, "PUT", "/user/password", change).status_code == 200

    assert log_in_with(service, meanwhile, NEW) == 429


def unlocked_token(service):
    """Return a token of the user after an operator ended the lockout."""
    with service.client.app.core.database.transaction():
        service.client.query("DELETE FROM limits")
    return token_of(service.client.log_in())


@ways
def test_the_audit_log_tells(service, make_safe):
    """The audit log gets one entry with an id that the lost log did not give."""
    service.client.register()
    service.back_up()
    service.put_back()

    make_safe(service.settings)
    service.start()

    assert service.client.events() == ["registered", "restored"]
    assert service.client.query("SELECT id FROM audit_log ORDER BY id") == [(1,), (1_000_000_001,)]
    service.client.log_in()
    assert service.client.query("SELECT max(id) FROM audit_log") == [(1_000_000_002,)]
    for statement in ("UPDATE audit_log SET ip = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(sqlite3.DatabaseError, match="audit_log"):
            service.client.query(statement)


@ways
def test_all_or_nothing(service, make_safe):
    """If one part fails, nothing changes."""
    service.client.register()
    service.client.query(
        "CREATE TRIGGER refuses BEFORE INSERT ON audit_log WHEN NEW.event = 'restored'"
        " BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    service.back_up()
    service.put_back()

    with pytest.raises(sqlite3.DatabaseError, match="no"):
        make_safe(service.settings)

    with closing(sqlite3.connect(service.path)) as database:
        found = database.execute(
            "SELECT count(*), max(password_version), (SELECT seq FROM sqlite_sequence),"
            " (SELECT count(*) FROM sessions) FROM users"
        )
        assert found.fetchone() == (1, 1, 1, 1)


def dump(path):
    with closing(sqlite3.connect(path)) as connection:
        return [line for line in connection.iterdump() if "'restored'" not in line]


@pytest.mark.parametrize("users", [0, 2])
def test_the_script_does_what_the_function_does(service, users):
    """The documented script and the function leave the same database."""
    for fields in (USER, OTHER)[:users]:
        assert service.client.register(**fields).status_code == 201
    service.back_up()
    service.put_back()
    found = {}
    for make_safe in (restore, run_script):
        shutil.copyfile(service.backup, service.path)
        make_safe(service.settings)
        found[make_safe] = dump(service.path)

    assert found[restore] == found[run_script]
    assert found[restore] != dump(service.backup)


def test_a_backup_of_an_older_release(service):
    """The function updates the schema of an older backup first; the script changes nothing."""
    service.stop()
    service.path.unlink()
    older = opened(service.path, until=9)
    insert_user(older, "user0")
    older.close()

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        run_script(service.settings)
    assert rows(service.path, "SELECT count(*) FROM audit_log") == [(0,)]
    restore(service.settings)
    service.start()

    assert service.client.register(**OTHER).json["user"]["id"] == 1_000_002
    assert rows(service.path, "SELECT event FROM audit_log WHERE event = 'restored'")


def test_no_database_is_made(tmp_path):
    """Without a database or keys, nothing is made."""
    with pytest.raises(StartError, match="There is no database"):
        restore(Settings(database_url=f"sqlite:///{tmp_path}/authapi.db"))

    assert not list(tmp_path.iterdir())


def test_the_page_runs_the_script():
    """The page on operations names the script."""
    page = (SCRIPT.parent.parent / "operations.md").read_text()

    assert f"sqlite3 -bail authapi.db < /path/to/the/clone/docs/examples/{SCRIPT.name}" in page
