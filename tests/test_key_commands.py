"""`authapi key`: the keys are listed, rotated and retired while the service runs."""

import json
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest
from conftest import CHEAPLY, USER, Clock, token_of
from terminal import AUTHAPI, in_pipe, on_terminal
from test_signing_keys import LOGIN, kid_of
from worker_service import ask, serving

from authapi import Settings
from authapi.commands.cli import main
from authapi.keys import Key, change_keys, load_keys, read_keys
from authapi.keys.root import load_root

HOUR = 3_600


@pytest.fixture(name="clock")
def _clock():
    """Return a clock a day behind that of the commands, which tests move."""
    clock = Clock()
    clock.now = time.time() - 24 * HOUR
    return clock


@pytest.fixture(name="key_file")
def _key_file(tmp_path, monkeypatch):
    """Return a key file, made two days ago, which the environment names."""
    files = {name: str(tmp_path / f"a.{name}") for name in ("key_file", "root_key_file")}
    settings = Settings(**files)
    load_root(settings, load_keys(settings))
    path = Path(files["key_file"])
    made = int(time.time()) - 48 * HOUR
    change_keys(path, lambda keys: [msgspec.structs.replace(keys[0], iat=made)])
    monkeypatch.delenv("AUTHAPI_SECRET_KEY", raising=False)
    for name, file in files.items():
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", file)
    return path


@pytest.fixture(name="client")
def _client(make_client, key_file):
    return make_client(key_file=str(key_file), root_key_file=f"{key_file.parent}/a.root_key_file")


@pytest.fixture(name="run")
def _run(client, capsys):
    """Run a command on the client's service; return its status, its JSON and its errors."""

    def run(*arguments):
        url = client.app.core.settings.database_url
        status = main(["key", *arguments, "--json", "--database-url", url])
        shown, errors = capsys.readouterr()
        return status, [json.loads(line) for line in shown.splitlines()], errors

    return run


RELEASE_0_1 = {"kty", "kid", "alg", "k", "use", "key_ops"}  # the members of a key that it knows


def listed(run):
    """Return what `key list` says of each key."""
    status, rows, errors = run("list")
    assert (status, errors) == (0, "")
    return rows


def test_a_rotation(client, run, clock, key_file):
    """A new key signs, the older one is listed with the sessions that need it, and is retired."""
    token = token_of(client.register())
    (first,) = listed(run)
    assert (first["state"], first["alg"], first["age_days"]) == ("signs", "HS256", 2)
    assert (first["sessions"], first["kid"]) == (1, kid_of(token))

    status, (rotated,), _ = run("rotate", "--yes")
    clock.move(25 * HOUR)
    newer = token_of(client.log_in())

    assert status == 0
    assert rotated == {"kid": kid_of(newer), "file": str(key_file)}
    old, new = listed(run)
    assert (old["kid"], old["state"], old["sessions"]) == (first["kid"], "verifies", 1)
    assert (new["kid"], new["state"], new["sessions"]) == (rotated["kid"], "signs", 1)
    assert old["needed_until"] < new["needed_until"]
    assert client.get_as(newer).status_code == 200
    status, (retired,), _ = run("retire", old["kid"], "--yes")
    assert (status, retired["sessions"]) == (0, 1)
    client.app.maintain()
    assert [client.get_as(each).status_code for each in (token, newer)] == [401, 200]
    assert [key.kid for key in read_keys(key_file)] == [new["kid"]]
    assert client.events()[1:-1] == ["key_rotated", "logged_in"]
    ((user_id, agent),) = client.query(
        "SELECT user_id, user_agent FROM audit_log WHERE event = 'key_retired'"
    )
    assert user_id is None
    assert agent.startswith("authapi-cli/")


def test_a_session_that_was_renewed_needs_the_old_key_no_more(client, run, clock):
    """A renewal gives a session a token of the new key, and the old one can go."""
    token = token_of(client.register())
    run("rotate", "--yes")
    clock.move(25 * HOUR)
    renewed = token_of(client.get_as(token))

    old, new = listed(run)

    assert (old["sessions"], old["needed_until"], new["sessions"]) == (0, None, 1)
    assert run("retire", old["kid"], "--yes")[1][0]["sessions"] == 0
    client.app.maintain()
    assert [client.get_as(each).status_code for each in (token, renewed)] == [401, 200]


def test_a_prepared_key(client, run, key_file):
    """A key that is prepared verifies; the next rotation lets it sign, and makes no other."""
    token = token_of(client.register())

    _, (prepared,), _ = run("rotate", "--prepare")

    assert [(row["kid"], row["state"]) for row in listed(run)] == [
        (prepared["kid"], "prepared"),
        (kid_of(token), "signs"),
    ]
    assert kid_of(token_of(client.log_in())) == kid_of(token)
    status, _, errors = run("rotate", "--prepare")
    assert (status, json.loads(errors)["error"]) == (1, "already_prepared")
    assert run("rotate")[1][0]["kid"] == prepared["kid"]  # nothing is asked: other nodes have it
    assert kid_of(token_of(client.log_in())) == prepared["kid"]
    assert [row["state"] for row in listed(run)] == ["verifies", "signs"]
    assert len(read_keys(key_file)) == 2
    assert client.events()[1:] == ["key_prepared", "logged_in", "key_rotated", "logged_in"]


def test_a_prepared_key_is_taken_back(client, run):
    """A key that never signed can be retired."""
    _, (prepared,), _ = run("rotate", "--prepare")

    assert run("retire", prepared["kid"], "--yes")[0] == 0
    assert [row["state"] for row in listed(run)] == ["signs"]
    assert client.events() == ["key_prepared", "key_retired"]


def test_keys_that_cannot_be_retired(client, run, key_file):
    """The key that signs stays, and so does the file where there is no such key."""
    (row,) = listed(run)
    before = key_file.read_bytes()

    for kid, error in ((row["kid"], "key_signs"), ("no-key", "no_such_key")):
        status, shown, errors = run("retire", kid, "--yes")
        assert (status, shown, json.loads(errors)["error"]) == (1, [], error)
    assert before == key_file.read_bytes()
    assert client.events() == []


def test_retiring_asks(client, run):
    """Without a terminal and without --yes no key is retired."""
    client.register()
    run("rotate", "--yes")
    old, _ = listed(run)

    status, _, errors = run("retire", old["kid"])

    assert (status, json.loads(errors)["error"]) == (1, "not_confirmed")
    assert "Up to one session ends (the last would expire at 20" in errors
    assert len(listed(run)) == 2


def test_several_nodes(client, run):
    """On PostgreSQL a rotation without a prepared key is asked for: nodes have a file each."""
    status, _, errors = run("rotate")

    is_server = not client.app.core.database.is_local
    assert (status, "Other nodes refuse the tokens" in errors) == (int(is_server), is_server)


def test_a_file_without_times(client, run, key_file):
    """The times of keys that were made by hand are unknown, and sessions count for each key."""
    client.register()
    change_keys(
        key_file,
        lambda keys: [Key.of(keys[0].secret), Key.of(b"31415926535897932384626433832795")],
    )

    old, new = listed(run)

    assert (old["since"], old["age_days"], old["sessions"]) == (None, None, 1)
    assert (new["since"], new["sessions"]) == (None, 1)


@pytest.mark.sqlite("a key file in another state is the same on each engine")
@pytest.mark.parametrize("name", ["SECRET_KEY", "SECRET_KEY_FILE"])
def test_a_secret_key(make_client, tmp_path, capsys, monkeypatch, name):
    """A secret key cannot be rotated, and the message says what to do."""
    secret = "31415926535897932384626433832795"
    (file := tmp_path / "secret").write_text(secret)
    file.chmod(0o600)
    url = make_client(secret_key=secret).app.core.settings.database_url
    monkeypatch.setenv(f"AUTHAPI_{name}", str(file) if name.endswith("FILE") else secret)

    for verb in (["rotate"], ["retire", "a"]):
        assert main(["key", *verb, "--database-url", url]) == 1
        assert f"The key is that of AUTHAPI_{name}, beside" in capsys.readouterr().err
    assert main(["key", "list", "--database-url", url]) == 0
    assert "signs" in capsys.readouterr().out


@pytest.mark.sqlite("a key file in another state is the same on each engine")
def test_a_file_that_cannot_be_replaced(client, run, key_file, monkeypatch):
    """Where the file cannot be replaced, the command says so, and no event is kept."""

    def fail(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", fail)
    before = key_file.read_bytes()

    status, _, errors = run("rotate", "--yes")

    assert status == 1
    assert f"{key_file} cannot be used (Read-only file system)" in json.loads(errors)["message"]
    assert before == key_file.read_bytes()
    assert client.events() == []
    assert not list(key_file.parent.glob("*.new"))


@pytest.mark.sqlite("processes are the same on each engine")
@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
def test_rotations_beside_two_workers(tmp_path):
    """While commands rotate and retire keys, workers refuse no token of a key in the file."""
    environ = {"AUTHAPI_DATABASE_URL": f"sqlite:///{tmp_path}/authapi.db"}
    environ |= {**CHEAPLY, "AUTHAPI_RATE_LIMITS": "off"}
    with serving(tmp_path, **environ) as service, service.each() as connections:
        first, second = connections.values()
        ask(first, "POST", "/register", USER)
        statuses, kids, done = [], set(), threading.Event()

        def load(first, second):
            while not done.is_set():
                status, _, headers = ask(first, "POST", "/login", LOGIN)
                cookie = session_cookie(headers)
                kids.add(kid_of(cookie.removeprefix("jwt=")))
                checks = [ask(each, "GET", "/user", Cookie=cookie)[0] for each in (second, first)]
                statuses.extend([status, *checks])
                first, second = second, first

        thread = threading.Thread(target=load, args=(first, second))
        thread.start()
        for _ in range(2):
            oldest = read_keys(tmp_path / "authapi.db.key")[0].kid
            for verb in (["rotate"], ["retire", oldest, "--yes"]):
                assert in_pipe(*AUTHAPI, "key", *verb, **environ)[0] == 0
        done.set()
        thread.join()

    assert set(statuses) == {200}
    assert len(kids) == 3
    assert len(read_keys(tmp_path / "authapi.db.key")) == 1


def session_cookie(headers):
    """Return the session's cookie of an answer, as a request brings it."""
    pairs = (line.partition(";")[0] for line in headers.get_all("Set-Cookie"))
    return next(pair for pair in pairs if pair.startswith("jwt="))


@pytest.mark.sqlite("a terminal is the same on each engine")
def test_on_a_terminal(client, run):
    """People see a table, and type the key's name to retire it."""
    client.register()
    run("rotate")
    old, new = listed(run)
    url = ("--database-url", client.app.core.settings.database_url)

    status, shown = on_terminal(*AUTHAPI, "key", "list", *url)
    assert status == 0
    assert shown.splitlines()[0].split()[:4] == ["KID", "STATE", "ALG", "SINCE"]
    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [
        [old["kid"], "verifies"],
        [new["kid"], "signs"],
    ]
    answers = [("to go on: ", f"{old['kid']}\n")]
    status, shown = on_terminal(*AUTHAPI, "key", "retire", old["kid"], *url, answers=answers)
    assert status == 0
    assert "Up to one session ends" in shown
    assert f"The key {old['kid']} is no longer in" in shown


def test_older_releases_read_what_rotate_writes(run, key_file):
    """A new key has no member that release 0.1 refuses, so an update leaves the way back open."""
    assert run("rotate", "--yes")[0] == 0
    keys = json.loads(key_file.read_text())["keys"]
    assert [set(key) for key in keys] == [RELEASE_0_1, RELEASE_0_1]
    assert all(row["since"] for row in listed(run))


def test_a_key_file_with_times_in_its_keys_is_read(run, key_file):
    """The `iat` of a key may also be a member of it."""
    made = json.loads(key_file.read_text())
    made["keys"][0] |= {"iat": made.pop("iat")[made["keys"][0]["kid"]]}
    key_file.write_text(json.dumps(made))
    assert [row["age_days"] for row in listed(run)] == [2]
