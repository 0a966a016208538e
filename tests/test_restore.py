"""A restored backup: what ended stays ended, no id is given again, and nothing is lost."""

import json
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import kills
import pytest
from conftest import CHEAP, OTHER, USER, Client, cookie_of, token_of
from databases import MIGRATIONS, empty_index, insert_user, locked, opened, rows

from authapi import Caller, Settings, StartError, create_app
from authapi.commands.cli import main
from authapi.database.opening import back_up
from authapi.features.restore import restore

NEW = "another password"
OPERATOR = Caller("", "authapi-cli/test", "an-id")


class Service:
    """A service that is stopped, restored from a backup and started again."""

    def __init__(self, folder, clock):
        self.path = folder / "authapi.db"
        self.backup = folder / "backup.db"
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
        back_up(self.path, self.backup)

    def restore(self):
        """Restore the backup while the service is stopped; return where the old one is kept."""
        self.stop()
        kept = restore(self.settings, self.backup, OPERATOR)
        self.start()
        return kept

    @property
    def files(self):
        """The names in the directory, but the keys and the locks."""
        names = {each.name for each in self.path.parent.iterdir()}
        return names - {f"authapi.db.{ending}" for ending in ("key", "root", "lock", "run")}


@pytest.fixture(name="service")
def _service(tmp_path, clock):
    clock.now = time.time()  # as for a command, or the audit log would drop what is old
    service = Service(tmp_path, clock)
    yield service
    service.stop()


def test_what_ended_stays_ended(service):
    """No session from before the restore is good after it."""
    ended = token_of(service.client.register())
    live = token_of(service.client.log_in())
    service.back_up()
    later = token_of(service.client.log_in())
    assert service.client.request_as(ended, "POST", "/logout").status_code == 200

    service.restore()

    for token in (ended, live, later):
        answer = service.client.get_as(token)
        assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert service.client.log_in().status_code == 200


def test_no_id_is_given_again(service):
    """The id of a user who was lost with the database is not given again."""
    service.client.register()
    service.back_up()
    lost = service.client.register(**OTHER).json["user"]["id"]

    service.restore()

    found = service.client.register(**OTHER).json["user"]["id"]
    assert (lost, found) == (2, 1_000_003)


def test_a_backup_without_users(service):
    """Ids continue above those of the lost database even if the backup never had a user."""
    service.back_up()
    service.client.register()

    service.restore()

    assert service.client.register().json["user"]["id"] == 1_000_002


def test_more_users_than_are_skipped(service):
    """Ids continue above all that the lost database gave."""
    service.client.register()
    service.back_up()
    with service.client.app.core.database.transaction():
        service.client.query("UPDATE sqlite_sequence SET seq = 5000000")
        service.client.query(
            "INSERT INTO audit_log VALUES (7000000000, 1, 'x', 1, NULL, '', '', '', NULL)"
        )

    service.restore()

    assert service.client.register(**OTHER).json["user"]["id"] == 6_000_001
    assert service.client.query("SELECT max(id) FROM audit_log") == [(8_000_000_001,)]


@pytest.mark.parametrize("content", [b"no database at all, but long enough" * 40, b"", b"x"])
def test_a_lost_database_that_cannot_be_read(service, content, caplog):
    """A damaged database is kept as it is, with its log; ids continue above the backup's."""
    service.client.register()
    service.back_up()
    service.stop()
    service.path.write_bytes(content)
    log = service.path.with_name("authapi.db-wal")
    log.write_bytes(b"its log")

    kept = service.restore()

    assert kept.read_bytes() == content
    assert kept.with_name(f"{kept.name}-wal").read_bytes() == b"its log"
    assert service.client.register(**OTHER).json["user"]["id"] == 1_000_002
    assert any("cannot be read" in message for message in caplog.messages) or not content


def test_a_database_that_is_gone(service):
    """Where there is no database, the backup takes its place."""
    service.client.register()
    service.back_up()
    service.stop()
    service.path.unlink()

    assert service.restore() is None
    assert service.client.log_in().status_code == 200


def device_of(answer):
    return cookie_of(answer, "device")


def log_in_with(service, device, password):
    """Log in with a browser that is or was known, while the name is locked out for all others."""
    service.client.log_in(password="wrong password")
    headers = {"Cookie": f"device={device}"}
    return service.client.log_in(password=password, headers=headers).status_code


def test_no_browser_of_a_lost_password_is_known(service):
    """A device cookie of an earlier password no longer counts, before or after the loss."""
    answer = service.client.register()
    before = device_of(answer)
    service.back_up()
    change = {"current_password": USER["password"], "new_password": NEW}
    answer = service.client.request_as(token_of(answer), "PUT", "/user/password", change)
    meanwhile = device_of(answer)
    assert log_in_with(service, meanwhile, NEW) == 200  # the lockout tells who is known

    service.restore()
    assert log_in_with(service, before, USER["password"]) == 429
    token = unlocked_token(service)
    assert service.client.request_as(token, "PUT", "/user/password", change).status_code == 200

    assert log_in_with(service, meanwhile, NEW) == 429


def unlocked_token(service):
    """Return a token of the user after an operator ended the lockout."""
    with service.client.app.core.database.transaction():
        service.client.query("DELETE FROM limits")
    return token_of(service.client.log_in())


def test_the_audit_log_tells(service):
    """The audit log gets one entry, by the operator, with an id that the lost log did not give."""
    service.client.register()
    service.back_up()

    service.restore()

    found = service.client.query("SELECT id, event, user_agent FROM audit_log ORDER BY id")
    assert [row[:2] for row in found] == [(1, "registered"), (1_000_000_001, "restored")]
    assert found[1][2] == OPERATOR.user_agent
    service.client.log_in()
    assert service.client.query("SELECT max(id) FROM audit_log") == [(1_000_000_002,)]


def test_a_restore_that_fails(service):
    """If the backup cannot be made safe, the database stays, and no draft is left."""
    token = token_of(service.client.register())
    service.client.query(
        "CREATE TRIGGER refuses BEFORE INSERT ON audit_log WHEN NEW.event = 'restored'"
        " BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    service.back_up()
    service.stop()

    with pytest.raises(sqlite3.DatabaseError, match="no"):
        restore(service.settings, service.backup, OPERATOR)

    service.start()
    assert service.client.get_as(token).status_code == 200
    assert service.files <= {"authapi.db", "authapi.db-wal", "authapi.db-shm", "backup.db"}


def test_what_is_kept(service):
    """The old database is kept under a name with the time, for its owner alone, with its log."""
    service.back_up()
    service.client.register()

    kept = service.restore()

    assert re.fullmatch(r"authapi\.db\.replaced-\d{8}T\d{6}Z", kept.name)
    assert rows(kept, "SELECT username FROM users") == [(USER["username"],)]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert service.client.query("SELECT count(*) FROM users") == [(0,)]


def test_the_way_back_of_a_restore(service):
    """What a restore replaced can be restored again."""
    service.back_up()
    service.client.register()
    service.backup = service.restore()

    service.restore()

    assert service.client.log_in().status_code == 200


def test_a_backup_of_an_older_release(service):
    """The schema of an older backup is updated before it is in place; the backup stays as it is."""
    older = opened(service.backup, until=9)
    insert_user(older, "user0")
    older.close()
    content = service.backup.read_bytes()

    service.restore()

    assert service.client.register(**OTHER).json["user"]["id"] == 1_000_002
    assert rows(service.path, "SELECT max(version) FROM migrations") == [(MIGRATIONS[-1].version,)]
    assert service.backup.read_bytes() == content
    assert not list(service.path.parent.glob("*before*"))


def future(path):
    shutil.copyfile(path.with_name("good.db"), path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO migrations VALUES (9999, '9999_future', 'x', 0, 9999)")


def foreign(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE migrations (id INTEGER, migration TEXT)")


def damaged(path):
    shutil.copyfile(path.with_name("good.db"), path)
    empty_index(path)


BAD = {
    "junk": (lambda path: path.write_bytes(b"no database" * 100), "cannot be read .file is not a"),
    "empty": (lambda path: path.write_bytes(b""), "There is no backup"),
    "short": (lambda path: path.write_bytes(b"x"), "is not a database of authapi"),
    "directory": (lambda path: path.mkdir(), "cannot be restored .* .Is a directory"),
    "missing": (lambda path: None, "There is no backup"),
    "foreign": (foreign, "is not a database of authapi"),
    "future": (future, "backup.db is newer than this program .it has 9999_future.: run the newer"),
    "damaged": (damaged, "damaged"),
    "itself": (lambda path: path.symlink_to("authapi.db"), "is the database itself"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_backup_that_cannot_be_used(service, kind):
    """What is no usable backup is refused in one sentence, and nothing changes."""
    make, reason = BAD[kind]
    token = token_of(service.client.register())
    back_up(service.path, service.path.with_name("good.db"))
    make(service.backup)
    service.stop()

    with pytest.raises(StartError, match=reason):
        restore(service.settings, service.backup, OPERATOR)

    service.start()
    assert service.client.get_as(token).status_code == 200
    assert not [name for name in service.files if "restore" in name or "replaced" in name]


def test_a_copied_file_with_its_log(service, tmp_path):
    """A copy of the file with its log, as a snapshot has them, is restored with the log."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    service.client.register()
    for ending in ("", "-wal"):
        shutil.copyfile(f"{service.path}{ending}", snapshot / f"authapi.db{ending}")
    assert (snapshot / "authapi.db-wal").stat().st_size
    content = (snapshot / "authapi.db").read_bytes()
    service.backup = snapshot / "authapi.db"

    service.restore()

    assert service.client.log_in().status_code == 200
    assert (snapshot / "authapi.db").read_bytes() == content


def test_through_a_symbolic_link(service, tmp_path):
    """If the database is a symbolic link, its target is replaced, and the link stays."""
    service.client.register()
    service.back_up()
    service.stop()
    target = tmp_path / "volume" / "real.db"
    target.parent.mkdir()
    service.path.rename(target)
    service.path.symlink_to(target)

    kept = service.restore()

    assert service.path.is_symlink()
    assert kept.parent == target.parent
    assert service.client.log_in().status_code == 200


# Beside others


@contextmanager
def another_process(script, *arguments):
    """Run a script that says a line when it is ready, and waits for the end of its input."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline()
        yield process
        process.stdin.close()


EMBEDDED = """
import os, sys
from authapi import Settings, create_app
app = create_app(Settings(database_url="sqlite:///" + sys.argv[1]))
app.prepare_to_fork()
if len(sys.argv) > 2 and os.fork():
    os._exit(0)  # as a server that goes into the background
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("forks", [(), ("forks",)])
def test_a_process_that_serves(service, forks):
    """A restore is refused while any process has the database, also one that was forked."""
    service.back_up()
    service.stop()
    before = service.path.stat().st_ino

    refused = pytest.raises(StartError, match="A service or a command uses .*: stop it first")
    with another_process(EMBEDDED, service.path, *forks), refused:
        restore(service.settings, service.backup, OPERATOR)

    assert service.path.stat().st_ino == before


def test_a_program_that_knows_no_lock(service):
    """A restore is refused while another program, or an older release, has the database open."""
    service.back_up()
    service.stop()

    with locked(service.path), pytest.raises(StartError, match="Another program uses .*: stop it"):
        restore(service.settings, service.backup, OPERATOR)


RESTORING = """
import sys
from pathlib import Path
from authapi.database.opening import replacing
with replacing(Path(sys.argv[1]), Path(sys.argv[2])):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_start_during_a_restore(service):
    """A service, a command and a second restore are refused while a restore runs."""
    service.back_up()
    service.stop()

    with another_process(RESTORING, service.path, service.backup):
        with pytest.raises(
            StartError, match="authapi db restore or db copy has .* to itself now: start again"
        ):
            service.start()
        with pytest.raises(StartError, match="A service or a command uses"):
            restore(service.settings, service.backup, OPERATOR)

    service.start()


# The command


@pytest.fixture(name="run")
def _run(service, monkeypatch, capsys):
    """Run `db restore` with the settings of the service; return its status, output and errors."""
    for name, value in CHEAP.items():
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", str(value))
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", f"sqlite:///{service.path}")

    def run(*arguments):
        status = main(["db", "restore", *map(str, arguments)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_the_command(service, run):
    """The command says what it did, and where the old database is."""
    service.back_up()
    service.stop()

    status, shown, error = run(service.backup, "--yes", "--json")

    found = json.loads(shown)
    assert (status, error, found["file"]) == (0, "", str(service.backup))
    assert Path(found["kept"]).name.startswith("authapi.db.replaced-")
    service.start()
    ((caller,),) = service.client.events("user_agent")
    assert caller.startswith("authapi-cli/")


def test_without_a_terminal(service, run):
    """Where nobody can be asked, --yes is needed, and nothing changes without it."""
    service.back_up()
    service.stop()

    status, _, error = run(service.backup)

    assert status == 1
    assert error.endswith("add --yes.\n")
    assert service.files == {"authapi.db", "backup.db"}


def test_a_command_beside_a_service(service, run):
    """A refusal is one sentence, or one object with --json."""
    service.back_up()

    status, _, error = run(service.backup, "--yes", "--json")

    assert (status, json.loads(error)["error"]) == (1, "cannot_restore")
    assert "stop it first" in json.loads(error)["message"]


def test_without_keys(service, run):
    """Without its key file a restore is refused, and no other key is made."""
    service.back_up()
    service.stop()
    key = service.path.with_name("authapi.db.key")
    content = key.read_bytes()
    key.unlink()

    status, _, error = run(service.backup, "--yes")

    assert (status, key.exists()) == (1, False)
    assert f"There is no key file {key}: copy the one that belongs to the backup" in error
    key.write_bytes(content)
    key.chmod(0o600)


def test_a_database_that_was_put_back(service, run):
    """Without a file the database itself is made safe, also if another program put it back."""
    ended = token_of(service.client.register())
    service.stop()

    status, shown, _ = run("--yes")

    assert (status, "all sessions have ended" in shown) == (0, True)
    service.start()
    assert service.client.get_as(ended).status_code == 401
    assert service.client.register(**OTHER).json["user"]["id"] == 1_000_002


# Kills

KILLED = """
import json, sqlite3, sys
from pathlib import Path
from kills import KILLED, Files, in_a_child, kill_me
from authapi import Caller, Settings, create_app
from authapi.features.restore import restore

database, backup = map(Path, sys.argv[1:3])
settings = Settings(database_url=f"sqlite:///{database}", **json.loads(sys.argv[3]))
files = Files(database.parent)
WATCHED = {"os.rename", "os.link", "os.remove", "sqlite3.connect", "fcntl.flock"}

def restore_until(step):
    done = 0
    def watch(event, arguments):
        nonlocal done
        done += event in WATCHED
        if event in WATCHED and done == step:
            kill_me()
    sys.addaudithook(watch)
    restore(settings, backup, Caller("", "", ""))

def start():
    create_app(settings).close()
    connection = sqlite3.connect(database)
    (faults,) = connection.execute("PRAGMA integrity_check").fetchone()
    (users,) = connection.execute("SELECT count(*) FROM users").fetchone()
    connection.close()
    names = sorted(each.name for each in database.parent.iterdir() if each != backup)
    print(json.dumps([faults, users, database.stat().st_nlink, *names]), flush=True)

step, status = 0, KILLED
while status == KILLED:
    files.put_back()
    step += 1
    status = in_a_child(restore_until, step)
    start()
sys.exit(status)
"""


@pytest.fixture(name="in_memory")
def _in_memory(clock, tmp_path):
    """A service whose files are in memory."""
    with kills.folder_in_memory(tmp_path) as folder:
        yield Service(folder, clock)


def test_a_restore_that_is_killed(in_memory):
    """A kill at any step leaves the old or the new database, and a start goes on with it."""
    service = in_memory
    service.client.register()
    service.back_up()
    service.client.register(**OTHER)
    service.stop()

    ends = kills.run(KILLED, service.path, service.backup, json.dumps(CHEAP))

    files = ["authapi.db", *(f"authapi.db.{ending}" for ending in ("key", "lock", "root", "run"))]
    kept = re.compile(r"authapi\.db\.replaced-\d{8}T\d{6}Z")
    for faults, users, links, *names in ends:
        assert (faults, links) == ("ok", 1)
        assert users == (2 if len(names) == len(files) else 1)  # those of the old one, or not
        assert [name for name in names if not kept.fullmatch(name)] == files
    assert [end[1] for end in ends] == sorted((end[1] for end in ends), reverse=True)
    assert len(ends) > 30
