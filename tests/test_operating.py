"""Commands as processes beside running workers, on a terminal and in a pipe."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from conftest import CHEAPLY, USER
from databases import MIGRATIONS, insert_user, opened
from system_users import NOBODY
from terminal import AUTHAPI, environment, in_pipe, on_terminal
from worker_service import ask, serving

from authapi import Settings, create_app

HOSTILE = "\x1b]0;owned\x07\x1b[2Jan na\u202e\x9b5n"
USERS = "(username, username_key, email, email_key)"
MEASURED = """
import resource, sys
from authapi.commands.cli import main
status = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def service(folder):
    """Make the database of a service in a directory; return its settings."""
    url = f"sqlite:///{folder}/authapi.db"
    create_app(Settings(database_url=url)).close()
    return {**CHEAPLY, "AUTHAPI_DATABASE_URL": url}


@pytest.fixture(name="environ")
def _environ(tmp_path):
    """Return the settings of a service in the test's directory."""
    return service(tmp_path)


def query(folder, statement):
    with closing(sqlite3.connect(folder / "authapi.db")) as connection:
        return connection.execute(statement).fetchall()


def add_users(folder, *rows):
    """Add users whose names no rule has checked, as an import may bring them."""
    with closing(sqlite3.connect(folder / "authapi.db")) as connection, connection:
        connection.executemany(f"INSERT INTO users {USERS} VALUES (?, ?, ?, ?)", rows)


def names(folder):
    return [name for (name,) in query(folder, "SELECT username FROM users ORDER BY id")]


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
def test_every_worker_knows_at_once(tmp_path):
    """As soon as a command has ended, every worker answers by what it did."""
    url = f"sqlite:///{tmp_path}/authapi.db"
    run = {**CHEAPLY, "AUTHAPI_DATABASE_URL": url}
    with serving(tmp_path) as service, service.each() as connections:
        one = next(iter(connections.values()))
        status, _, said = in_pipe(
            *(*AUTHAPI, "user", "add", USER["username"], USER["email"], "--password-stdin"),
            given=USER["password"] + "x",
            **run,
        )
        assert (status, said) == (0, "")
        login = {"usernameOrEmail": USER["username"], "password": USER["password"] + "x"}
        for command, login_status in (
            (["session", "end", "--all", "--yes"], 200),
            (["user", "disable", "id:1"], 401),
        ):
            headers = ask(one, "POST", "/login", login)[2]
            cookie = headers["Set-Cookie"].partition(";")[0]
            assert in_pipe(*AUTHAPI, *command, **run)[0] == 0
            for connection in connections.values():
                assert ask(connection, "GET", "/user", Cookie=cookie)[0] == 401
                assert ask(connection, "POST", "/login", login)[0] == login_status


def test_a_password_on_a_terminal(tmp_path, environ):
    """`user add` asks for the password twice, and shows neither."""
    typed = [("Password: ", "a good password\n"), ("Again: ", "a good password\n")]

    status, shown = on_terminal(
        *AUTHAPI, "user", "add", "anna", "anna@example.com", answers=typed, **environ
    )

    assert (status, shown) == (0, "Password: \nAgain: \nAdded 'anna' (id 1).\n")
    assert names(tmp_path) == ["anna"]


@pytest.mark.parametrize("typed", ["\x03", "\x04"])
def test_an_interrupted_command(tmp_path, environ, typed):
    """^C and ^D at a question change nothing, and show no traceback."""
    status, shown = on_terminal(
        *(*AUTHAPI, "user", "add", "anna", "anna@example.com"),
        answers=[("Password: ", typed)],
        **environ,
    )

    assert status == (-signal.SIGINT if typed == "\x03" else 1)
    assert "Traceback" not in shown
    assert names(tmp_path) == []


def test_deleting_on_a_terminal(tmp_path, environ):
    """`user delete` asks for each name before it deletes anybody."""
    add_users(tmp_path, ["anna"] * 4, ["bob"] * 4)
    command = (*AUTHAPI, "user", "delete", "anna", "bob")
    prompts = [
        f"Delete '{name}' (id {number}), with all that is theirs? Type '{name}' to go on: "
        for number, name in ((1, "anna"), (2, "bob"))
    ]

    status, shown = on_terminal(
        *command, answers=[(prompts[0], "anna\n"), (prompts[1], "\n")], **environ
    )
    assert (status, "nothing is changed" in shown) == (1, True)
    assert names(tmp_path) == ["anna", "bob"]

    answers = [(prompts[0], "anna\n"), (prompts[1], "bob\n")]
    assert on_terminal(*command, answers=answers, **environ)[0] == 0
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "command", [["user", "list"], ["user", "list", "--json"], ["user", "disable", "id:1"]]
)
def test_a_hostile_name(tmp_path, environ, command):
    """A name that an import brought drives no terminal."""
    add_users(tmp_path, [HOSTILE, "a", "b", "b"])

    status, shown = on_terminal(*AUTHAPI, *command, **environ)

    assert status == 0
    assert "owned" in shown
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(shown)


def test_a_server_that_is_away(environ):
    """A command that cannot reach a server says so in one sentence."""
    environ["AUTHAPI_DATABASE_URL"] = "postgresql://authapi@127.0.0.1:1/authapi"
    environ["AUTHAPI_SECRET_KEY"] = os.urandom(32).hex()

    status, _, errors = in_pipe(*AUTHAPI, "user", "list", **environ)

    assert status == 1
    assert errors.startswith("authapi: The database cannot be used (")
    assert errors.count("\n") == 1


def test_an_older_schema(tmp_path, environ):
    """A command changes no schema under a service of an older release, and says what to do."""
    newest = max(each[0] for each in query(tmp_path, "SELECT version FROM migrations"))
    (tmp_path / "authapi.db").unlink()
    older = opened(tmp_path / "authapi.db", until=newest - 1)
    with older.transaction():
        insert_user(older, "anna")
    older.close()

    status, shown, errors = in_pipe(*AUTHAPI, "user", "list", **environ)

    assert (status, shown) == (1, "")
    assert f"(it lacks {MIGRATIONS[-1].name})" in errors
    assert "authapi db migrate" in errors
    assert query(tmp_path, "SELECT max(version) FROM migrations") == [(newest - 1,)]
    assert in_pipe(*AUTHAPI, "db", "migrate", **environ)[0] == 0
    assert "anna" in in_pipe(*AUTHAPI, "user", "list", **environ)[1]


def test_a_hostile_argument(environ):
    """An error that repeats an argument drives no terminal."""
    for command in (["user", "show", HOSTILE], ["user", HOSTILE], ["user", "list", HOSTILE]):
        status, shown = on_terminal(*AUTHAPI, *command, **environ)
        assert status in {1, 2}
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(shown)


def test_names_in_other_writing(tmp_path, environ):
    """Names of all scripts are shown as they are, and their columns are aligned."""
    written = ["Ελένη", "田中", "עדה", "anna"]
    add_users(tmp_path, *([name] * 4 for name in written))

    header, *lines = in_pipe(*AUTHAPI, "user", "list", **environ)[1].splitlines()

    assert [line.split()[1] for line in lines] == written
    columns = {line.index(name, 5) for line, name in zip(lines, written, strict=True)}
    assert columns == {header.index("EMAIL"), header.index("EMAIL") - 2}  # two wide characters


def test_many_users(tmp_path, environ):
    """10,000 users are listed in the memory that ten take."""
    add_users(tmp_path, *([f"user{number}"] * 4 for number in range(10_000)))
    used = {}
    for limit in (10, 10_000):
        for further in ([], ["--json"]):
            status, shown, said = in_pipe(
                *(sys.executable, "-c", MEASURED, "user", "list", "--limit", str(limit)),
                *further,
                **environ,
            )
            assert status == 0
            assert len(shown.splitlines()) == limit + (not further)
            used[limit, len(further)] = int(said)

    assert used[10_000, 0] < used[10, 0] + 4_096
    assert used[10_000, 1] < used[10, 1] + 4_096


def test_following_in_a_pipe(tmp_path, environ):
    """Each entry is written when it comes, and ^C ends the command without a traceback."""
    follow = subprocess.Popen(
        [*AUTHAPI, "audit", "list", "--follow", "--json", "--since", "1h"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**environ),
    )
    with follow:
        for name in ("anna", "bob"):
            add = (*AUTHAPI, "user", "add", name, f"{name}@example.com", "--no-password")
            assert in_pipe(*add, **environ)[0] == 0
            assert json.loads(follow.stdout.readline())["event"] == "user_added"
        follow.send_signal(signal.SIGINT)
        assert follow.communicate() == ("", "")
    assert follow.returncode == -signal.SIGINT


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root(folder):
    """Root becomes the owner of the database; the audit log says that it was root."""
    environ = service(folder)
    for path in folder.iterdir():
        os.chown(path, NOBODY, NOBODY)

    add = (*AUTHAPI, "user", "add", "anna", "anna@example.com", "--no-password")
    assert in_pipe(*add, **environ) == (0, "Added 'anna' (id 1).\n", "")

    assert {path.stat().st_uid for path in folder.iterdir()} == {NOBODY}
    ((operator,),) = query(folder, "SELECT user_agent FROM audit_log")
    assert operator.endswith(" uid=0 user=root")
