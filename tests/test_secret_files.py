"""Secret files and the database: whose they are, and who else may read or write them."""

import os
import stat
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import CHEAP, CHEAPLY, RUN, USER, Client, process, token_of, unmeasured
from databases import opened
from system_users import FOREIGN_GROUP, NOBODY, STRANGER, as_root, as_user

from authapi import SettingError, Settings, StartError, create_app, secret_files
from authapi.keys import load_keys

SECRET = sha256(b"what a test takes for random").hexdigest()
BESIDE = ["", "-wal", "-shm", ".lock"]


@pytest.fixture(name="folder")
def _folder():
    """Return a directory that every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(name="path")
def _path(folder):
    return folder / "authapi.db"


@pytest.fixture(name="key_file")
def _key_file(folder):
    """Return a good key file of the user that runs the test."""
    path = folder / "authapi.key"
    load_keys(Settings(key_file=str(path)))
    return path


@pytest.fixture(name="secret_file")
def _secret_file(folder):
    """Return a good file with a key as text."""
    path = folder / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def made(path):
    """Make a database that was closed properly, and logs as a crash leaves them."""
    opened(path).close()
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").touch(0o600)


# The key file


@pytest.mark.parametrize("mode", [0o640, 0o660, 0o670])
def test_a_group_is_taken_from_our_key_file(key_file, caplog, mode):
    """The mode of our key file is corrected if a group can read it, as with kubelet's fsGroup."""
    key_file.chmod(mode)

    load_keys(Settings(key_file=str(key_file)))

    assert mode_of(key_file) == 0o600
    assert caplog.messages == [f"others could read {key_file} (mode {mode:04o}): access removed"]


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o666, 0o601, 0o777])
def test_a_key_file_of_everyone(key_file, mode):
    """A key file that everyone can read, write or run stops the start."""
    key_file.chmod(mode)

    with pytest.raises(StartError, match=r"The key file .* by others .*: chmod 600 it\."):
        load_keys(Settings(key_file=str(key_file)))


@as_root
@pytest.mark.parametrize(
    ("owners", "mode", "says"),
    [
        ((0, NOBODY), 0o440, None),
        ((0, NOBODY), 0o400, "cannot be used"),
        ((0, FOREIGN_GROUP), 0o444, "can be read by others (mode 0444): chmod 600 it"),
        ((NOBODY, FOREIGN_GROUP), 0o660, None),
        (
            (STRANGER, NOBODY),
            0o440,
            "belongs to another user (65533): chown it to this one (65534)",
        ),
        ((STRANGER, NOBODY), 0o444, "belongs to another user"),
    ],
)
def test_owners_and_groups_of_a_key_file(key_file, owners, mode, says):
    """The owner must be root or the service, and a group that may read it one of the service's."""
    os.chown(key_file, *owners)
    key_file.chmod(mode)
    settings = Settings(key_file=str(key_file))

    with as_user(NOBODY, NOBODY):
        if says is None:
            assert len(load_keys(settings)) == 1
        else:
            with pytest.raises(StartError) as refusal:
                load_keys(settings)
            assert says in str(refusal.value)


@as_root
def test_root_leaves_a_file_to_the_group_of_the_service(key_file, caplog):
    """A command of root reads the files that root gave to the service, and takes nothing away."""
    os.chown(key_file, 0, NOBODY)
    key_file.chmod(0o440)

    load_keys(Settings(key_file=str(key_file)))

    assert mode_of(key_file) == 0o440
    assert caplog.messages == [f"the group {NOBODY} can read {key_file} (mode 0440)"]
    key_file.chmod(0o660)
    load_keys(Settings(key_file=str(key_file)))
    assert mode_of(key_file) == 0o640


@as_root
def test_our_groups_may_read(key_file, caplog):
    """A file of root that one of our groups can read is used, with one warning."""
    os.chown(key_file, 0, NOBODY)
    key_file.chmod(0o440)

    with as_user(NOBODY, NOBODY):
        load_keys(Settings(key_file=str(key_file)))

    assert caplog.messages == [f"the group {NOBODY} can read {key_file} (mode 0440)"]
    assert mode_of(key_file) == 0o440


# Secrets that systemd, Docker or Kubernetes hand over


@pytest.fixture(name="credentials")
def _credentials(tmp_path, monkeypatch):
    """Make the files of systemd's credentials, and links to them as Kubernetes makes them."""
    directory = tmp_path / "credentials"
    (directory / "..data").mkdir(parents=True)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    return directory


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o444])
@pytest.mark.parametrize("owner", [0, STRANGER])
def test_a_secret_that_is_handed_over(credentials, caplog, mode, owner):
    """In that directory any readable mode and any owner are accepted."""
    (credentials / "..data" / "secret").write_text(SECRET)
    (credentials / "secret").symlink_to("..data/secret")
    (credentials / "secret").chmod(mode)
    if os.geteuid() == 0:
        os.chown(credentials / "secret", owner, FOREIGN_GROUP)

    (key,) = load_keys(Settings(secret_key_file=str(credentials / "secret")))

    assert SECRET.encode() == key.secret
    assert not caplog.messages


def test_a_docker_secret(tmp_path, monkeypatch):
    """Docker mounts secrets below /run/secrets with mode 0444."""
    assert secret_files.MOUNTED == "/run/secrets"
    monkeypatch.setattr(secret_files, "MOUNTED", str(tmp_path))
    (tmp_path / "authapi_key").write_text(SECRET)
    (tmp_path / "authapi_key").chmod(0o444)

    (key,) = load_keys(Settings(secret_key_file=str(tmp_path / "authapi_key")))

    assert SECRET.encode() == key.secret


def test_a_handed_over_secret_that_anyone_can_write(credentials):
    """A secret that others can change is refused wherever it is."""
    (credentials / "secret").write_text(SECRET)
    (credentials / "secret").chmod(0o666)

    with pytest.raises(StartError, match=r"can be written by others \(mode 0666\)"):
        load_keys(Settings(secret_key_file=str(credentials / "secret")))


# AUTHAPI_SECRET_KEY_FILE


def test_secret_key_file(make_client, secret_file):
    """A key in a file is the same as in the environment, without the newline at its end."""
    one = make_client(secret_key=SECRET)
    other = make_client(secret_key_file=str(secret_file))

    token = token_of(one.register())

    assert other.get_as(token).status_code == 200
    assert mode_of(secret_file) == 0o600
    assert not list(secret_file.parent.glob("*.key"))


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_newlines_at_the_end(secret_file, ending):
    """Editors and shells end a file with a newline, which is not part of the key."""
    secret_file.write_bytes(f"{SECRET}{ending}".encode())

    (key,) = load_keys(Settings(secret_key_file=str(secret_file)))

    assert SECRET.encode() == key.secret


def test_a_secret_of_an_operators_is_not_changed(secret_file, caplog):
    """A group of ours may read a secret."""
    secret_file.chmod(0o640)

    load_keys(Settings(secret_key_file=str(secret_file)))

    assert mode_of(secret_file) == 0o640
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("short", "has 5 bytes and needs at least 32"),
        ("", "has 0 bytes"),
        ("changeme-changeme-changeme-changeme", "can be guessed"),
        ('{"keys": []}', "holds a JWK Set: name it in AUTHAPI_KEY_FILE"),
    ],
)
def test_bad_secret_key_files(secret_file, text, says):
    """A file without a valid key is refused; for a JWK Set the message names the right setting."""
    secret_file.write_text(text)

    with pytest.raises(StartError, match=f"The secret key file {secret_file} {says}"):
        load_keys(Settings(secret_key_file=str(secret_file)))


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_no_secret_key_file(tmp_path, name):
    """A file that is missing is not made, as a key file is."""
    with pytest.raises(StartError, match="The secret key file .* (cannot be read|is not a file)"):
        load_keys(Settings(secret_key_file=str(tmp_path / name)))


def test_a_text_as_key_file(key_file):
    """A key file that holds a key as text says which setting was meant."""
    key_file.write_text(SECRET)

    with pytest.raises(StartError, match="name a key that is text in AUTHAPI_SECRET_KEY_FILE"):
        load_keys(Settings(key_file=str(key_file)))


def test_a_key_file_that_lost_its_beginning(key_file):
    """A damaged JWK Set is no text key."""
    key_file.write_text(f" {key_file.read_text()[1:]}")

    with pytest.raises(StartError, match="mend it, or move it away"):
        load_keys(Settings(key_file=str(key_file)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("SECRET_KEY", "SECRET_KEY_FILE"),
        ("SECRET_KEY", "KEY_FILE"),
        ("SECRET_KEY_FILE", "KEY_FILE"),
    ],
)
def test_two_places_for_a_key(first, second):
    """If two settings name a key, the start is refused."""
    values = {"SECRET_KEY": SECRET, "SECRET_KEY_FILE": "/s", "KEY_FILE": "/k"}

    with pytest.raises(SettingError, match=f"^AUTHAPI_{first} and AUTHAPI_{second} are both set"):
        Settings.from_env({f"AUTHAPI_{name}": values[name] for name in (first, second)})


# The database


@pytest.mark.parametrize("ending", BESIDE)
@pytest.mark.parametrize("mode", [0o602, 0o622, 0o666, 0o777])
def test_a_database_that_everyone_can_write(path, ending, mode):
    """A database, log or lock that everyone can write is refused."""
    made(path)
    Path(f"{path}{ending}").chmod(mode)

    with pytest.raises(StartError, match=rf"{path}{ending} can be written by others .*chmod 600"):
        opened(path)

    assert mode_of(Path(f"{path}{ending}")) == mode


@as_root
@pytest.mark.parametrize("ending", BESIDE)
def test_a_database_of_another_user(path, ending):
    """A database, log or lock of another user is refused."""
    made(path)
    os.chown(f"{path}{ending}", STRANGER, STRANGER)

    with pytest.raises(StartError, match=f"{path}{ending} belongs to another user .65533.: chown"):
        opened(path)


@as_root
def test_a_database_of_a_foreign_group(path):
    """A database of root that a foreign group can write is refused."""
    made(path)
    path.parent.chmod(0o1777)
    os.chown(path, 0, FOREIGN_GROUP)
    path.chmod(0o660)

    with as_user(NOBODY, NOBODY), pytest.raises(StartError, match="can be written by others"):
        opened(path)


def test_a_volume_with_a_group(tmp_path):
    """A pod restarts after kubelet gave each file of its volume to a group (fsGroup)."""
    with process(tmp_path):
        pass
    files = list(tmp_path.iterdir())
    for file in files:
        file.chmod(mode_of(file) | 0o660)

    with process(tmp_path) as (service, _):
        assert {0o600} == {mode_of(file) for file in files if file.exists()}
        service.terminate()
        log = service.stderr.read()

    assert {file.name for file in files} >= {
        *("authapi.db", "authapi.db.key", "authapi.db.lock", "authapi.db.root")
    }
    assert "others could read" in log


def test_files_that_everyone_can_read(path, caplog):
    """Files that others can read are made unreadable to them, and the log says so."""
    made(path)
    for ending in BESIDE:
        Path(f"{path}{ending}").chmod(0o644)

    db = opened(path)

    assert {0o600} == {mode_of(Path(f"{path}{ending}")) for ending in BESIDE}
    assert caplog.messages == [
        f"others could read {path}{ending} (mode 0644): access removed" for ending in BESIDE
    ]
    db.close()


def test_a_directory_is_no_database_anywhere(tmp_path):
    """A directory on any file system is refused with a message that says so."""
    for folder in (tmp_path, Path("/dev/shm")):
        with pytest.raises(StartError) as refusal:
            opened(folder)
        assert str(refusal.value) == (
            f"The database {folder} is a directory: name a file in it, "
            f"such as sqlite:///{folder}/authapi.db."
        )


def test_a_pipe_is_no_database(path):
    """A pipe is refused without waiting for it."""
    os.mkfifo(path, 0o600)

    with pytest.raises(StartError, match=f"{path} is not a file"):
        opened(path)


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o700, False), (0o755, False), (0o777, True), (0o1777, False)]
)
def test_a_directory_of_everyone(path, caplog, mode, warns):
    """A directory in which others can replace the database causes a warning."""
    path.parent.chmod(mode)

    opened(path)

    expected = [f"others can replace the files in {path.parent} (mode {mode:04o})"]
    assert caplog.messages == (expected if warns else [])


# Commands that root runs


def unlock(path, **environ):
    """Run `authapi unlock` for the user of a database."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "authapi", "unlock", USER["username"]),
            *("--database-url", f"sqlite:///{path}"),
        ],
        env={**unmeasured(), **CHEAPLY, **environ},
        cwd=RUN.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@as_root
@pytest.mark.parametrize("owner_of_secret", [0, NOBODY])
def test_root_unlocks(secret_file, owner_of_secret):
    """A command of root runs as the database's owner, so the service can open its files."""
    os.chown(secret_file, owner_of_secret, owner_of_secret)
    (folder := secret_file.parent / "data").mkdir()
    os.chown(folder, NOBODY, NOBODY)
    settings = Settings(database_url=f"sqlite:///{folder}/authapi.db", secret_key=SECRET, **CHEAP)
    with as_user(NOBODY, NOBODY):
        app = create_app(settings)
        assert Client(app).register().status_code == 201
        app.close()
    (folder / "authapi.db.lock").unlink()

    done = unlock(settings.database_path, AUTHAPI_SECRET_KEY_FILE=str(secret_file))

    assert (done.returncode, done.stdout) == (0, "There were no failed logins.\n"), done.stderr
    assert {NOBODY} == {file.stat().st_uid for file in folder.iterdir()}
    assert (folder / "authapi.db.lock").exists()
    with as_user(NOBODY, NOBODY):
        app = create_app(settings)
        assert Client(app).log_in().status_code == 200
        app.close()


@as_root
def test_root_unlocks_where_the_owner_cannot(folder):
    """A database that only root can reach (systemd's DynamicUser) is refused with the reason."""
    (folder / "private").mkdir(mode=0o700)
    path = folder / "private" / "authapi.db"
    path.touch(mode=0o600)
    os.chown(path, NOBODY, NOBODY)

    done = unlock(path)

    assert done.returncode == 1
    assert done.stderr == (
        f"authapi: {path} belongs to the user {NOBODY} (Permission denied): "
        "run this as that user, where the service runs.\n"
    )
