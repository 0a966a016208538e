"""Imports: users move in from other systems, all or with every fault named, and can log in."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from conftest import OTHER, USER, Client, eventually, unmeasured

from authapi.commands.cli import main
from authapi.features import imports

HASHES = {  # of "correct horse", made by the libraries (tests/data/foreign-hashes.json has more)
    "werkzeug": "pbkdf2:sha256:1000$dDLvR5zSxwCXBnLj$c8e4a019963184ebd8dacd8b040f57b3b8c3ce2069c6"
    "2b73d3540b0dc0a212ff",
}
PASSWORD = "correct horse"


@pytest.fixture(name="vectors", scope="module")
def _vectors():
    """Return the hashes that other libraries made."""
    return json.loads((Path(__file__).parent / "data" / "foreign-hashes.json").read_text())


@pytest.fixture(name="run")
def _run(client, tmp_path, capsys):
    """Run `authapi import` on a text or a file; return the status, the counts and the faults."""

    def run(content, *options, form="authapi"):
        path = tmp_path / "users"
        if isinstance(content, (list, tuple)):
            content = "".join(f"{json.dumps(each)}\n" for each in content)
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        settings = client.app.core.settings
        arguments = ["import", str(path), "--from", form, "--json", *options]
        status = main([*arguments, "--database-url", settings.database_url])
        shown = capsys.readouterr()
        faults = [json.loads(line) for line in shown.err.splitlines()]
        counts = json.loads(shown.out) if shown.out else {}
        return status, {name: count for name, count in counts.items() if count}, faults

    return run


def person(number=1, **values):
    """Return a user of another system with a number."""
    return {
        "email": f"person{number}@example.com",
        "username": f"person{number}",
        "password": HASHES["werkzeug"],
        **values,
    }


def names(client):
    return [name for (name,) in client.query("SELECT username FROM users ORDER BY id")]


def errors(faults):
    return [(fault["line"], fault["error"]) for fault in faults]


def test_users_of_another_system(client, run):
    """Users of a table move in, log in with their passwords, and have an audit entry each."""
    found = run(
        [person(1), person(2, is_active=False, created_at="2020-01-02 03:04:05")], form="werkzeug"
    )

    assert found == (0, {"imported": 2}, [])
    assert client.log_in("person1", PASSWORD).status_code == 200
    assert client.log_in("person2@example.com", PASSWORD).status_code == 401
    assert client.query(
        "SELECT id, created_at, updated_at FROM users WHERE disabled_at IS NOT NULL"
    ) == [(2, 1_577_934_245, 1_577_934_245)]
    assert client.query(
        "SELECT user_id, detail, ip FROM audit_log WHERE event = 'imported' ORDER BY id"
    ) == [(1, None, ""), (2, None, "")]


def test_a_dry_run(client, run):
    """A dry run says what would happen, and writes nothing."""
    assert run([person()], "--dry-run", form="werkzeug") == (0, {"would_import": 1}, [])
    assert names(client) == []


def test_faults_are_named_before_anything_is_written(client, run):
    """With a fault in one line nothing is imported; every fault is named with its line."""
    client.register()
    rows = [
        person(1),
        person(2, email=USER["email"].upper()),
        person(3, username="Person1"),
        person(4, username="CrispenGari"),
        person(5, username="admin"),
        person(6, username="a b"),
        person(7, username=None),
        person(8, email="nobody"),
        person(9, email=None),
        person(10, password="secret"),
        person(11, email="PERSON1@example.com"),
        person(12, username="\u0440\u0430\u0443"),  # Cyrillic, as Latin letters
        person(13, username="pay"),
        person(14, email="a..b@example.com"),
    ]
    status, counts, faults = run(rows, form="werkzeug")

    assert (status, counts) == (1, {"would_import": 2, "faults": 12})
    assert sorted(errors(faults)) == [
        (2, "email_taken"),
        (3, "username_taken"),
        (4, "username_taken"),
        (5, "invalid_username"),
        (6, "invalid_username"),
        (7, "no_username"),
        (8, "invalid_email"),
        (9, "no_email"),
        (10, "unusable_hash"),
        (11, "email_taken"),
        (13, "username_taken"),
        (14, "invalid_email"),
    ]
    assert names(client) == [USER["username"]]


def test_skip(client, run):
    """With `--on-conflict skip` the rows without a fault are imported; others stay as they are."""
    client.register()
    rows = [person(1), person(2, email=USER["email"]), person(3, email="nobody")]

    status, counts, faults = run(rows, "--on-conflict", "skip", form="werkzeug")

    assert (status, counts) == (1, {"imported": 1, "skipped": 1, "faults": 1})
    assert errors(faults) == [(3, "invalid_email")]
    assert client.log_in().status_code == 200
    assert names(client) == [USER["username"], "person1"]


def test_update(client, run, token):
    """With `--on-conflict update` a user who is there gets the password, and is logged out."""
    rows = [person(1, email=USER["email"])]

    assert run(rows, "--on-conflict", "update", form="werkzeug") == (0, {"updated": 1}, [])

    assert client.get_as(token).status_code == 401
    assert client.log_in(password=USER["password"]).status_code == 401
    assert client.log_in(USER["username"], PASSWORD).status_code == 200
    assert client.query("SELECT detail FROM audit_log WHERE event = 'imported'") == [("updated",)]


def test_an_update_without_a_hash(client, run):
    """A user without a hash in the file keeps the password."""
    client.register()

    run(
        [{"email": USER["email"]}], "--on-conflict", "update", "--username-from", "email-local-part"
    )

    assert client.log_in().status_code == 200


def test_names_from_emails(client, run):
    """Usernames that are missing or break a rule are made of the emails, each another one."""
    rows = [
        person(1, username=None, email="anna+news@example.com"),
        person(2, username="anna b", email="anna@example.com"),
        person(3, username=None, email="info@example.com"),
        person(4, username=None, email="+@example.com"),
        person(5, username="\u00e4rger"),
    ]
    found = run(rows, "--username-from", "email-local-part", form="werkzeug")

    assert found == (0, {"imported": 5}, [])
    assert names(client) == ["anna", "anna-f7d54c", "info-fb1a47", "user", "\u00e4rger"]
    assert client.log_in("anna@example.com", PASSWORD).status_code == 200


def test_again_after_a_part(client, run, monkeypatch):
    """An import that ended half way goes on where it was, without doubles and without a fault."""
    monkeypatch.setattr(imports, "BATCH", 2)
    rows = [person(number) for number in range(1, 6)]
    written = []
    write = imports.ImportedUsers.write

    def interrupted(self, planned):
        write(self, planned)
        written.append(1)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(imports.ImportedUsers, "write", interrupted)
    assert run(rows, form="werkzeug")[0] == 130
    assert names(client) == ["person1", "person2"]

    assert run(rows, form="werkzeug") == (0, {"imported": 3, "done_before": 2}, [])
    assert names(client) == [f"person{number}" for number in range(1, 6)]
    assert run(rows, form="werkzeug") == (0, {"done_before": 5}, [])


KILLED = """
import os, sys
from authapi.commands.cli import main
from authapi.features import imports
imports.BATCH = 10
write, count = imports.ImportedUsers.write, [0]

def killed(self, planned):
    write(self, planned)
    count[0] += 1
    if count[0] == 3:
        os.kill(os.getpid(), 9)

imports.ImportedUsers.write = killed
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_import(client, run, tmp_path):
    """A killed process leaves whole transactions, and the next run does the rest."""
    rows = [person(number) for number in range(1, 41)]
    path = tmp_path / "users"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
    url = client.app.core.settings.database_url
    command = ["import", str(path), "--from", "werkzeug", "--database-url", url]

    killed = subprocess.run([sys.executable, "-c", KILLED, *command], env=unmeasured(), check=False)

    assert killed.returncode == -9
    assert eventually(lambda: len(names(client)) == 20)
    assert run(None, form="werkzeug") == (0, {"imported": 20, "done_before": 20}, [])
    assert len(names(client)) == 40


def test_ids_are_kept(client, run):
    """With `--keep-ids` users keep their ids, and the next user gets a higher one."""
    rows = [person(7, id=7), person(9, id="9")]

    assert run(rows, "--keep-ids", form="werkzeug") == (0, {"imported": 2}, [])
    client.register()

    assert client.query("SELECT id FROM users ORDER BY id") == [(7,), (9,), (10,)]


@pytest.mark.parametrize("name", ["id", "password_version", "credentials_version"])
def test_numbers_that_leave_no_next_one(client, run, name):
    """No row takes the last id of the database, or of a version, after which nothing can change."""
    rows = [person(1, password_hash=None, **{"id": 1, name: 2**63 - 1})]

    status, counts, faults = run(rows, "--keep-ids")

    assert (status, counts, len(faults)) == (1, {"faults": 1}, 1)
    client.register()


def test_ids_that_were_given(client, run):
    """An id that a user has, or has had, is not given to another."""
    client.register()
    client.register(**OTHER)
    client.query("DELETE FROM users WHERE id = 2")
    rows = [
        person(1, id=1),
        person(2, id=2),
        person(3, id="uuid"),
        person(4, id=4),
        person(5, id=3),
    ]

    status, _, faults = run(rows, "--keep-ids", "--on-conflict", "skip", form="werkzeug")

    assert status == 1
    assert sorted(errors(faults)) == [
        (1, "id_taken"),
        (2, "id_taken"),
        (3, "no_id"),
        (5, "id_taken"),
    ]
    assert client.query("SELECT id FROM users ORDER BY id") == [(1,), (4,)]


@pytest.mark.sqlite("the reading of a file")
@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{}\n", "no_email"),
        (b"{" + b"x" * 2_000_000 + b"}\n", "too_long"),
        (b'{"email": "a\xff@b.de"}\n', "invalid"),
        (b'{"email": "a\\u0000@b.de"}\n', "invalid"),
        (b'{"email": "a\\ud800@b.de"}\n', "invalid"),
        (b'{"email": ["a@b.de"]}\n', "invalid"),
        (b'{"email": "a@b.de", "email": "c@d.de"}\n', "not_json"),
        (b'{"email": "a@b.de", "id": 1e400}\n', "invalid"),
        (b'{"email": "a@b.de", "id": ' + b"9" * 5_000 + b"}\n", "not_json"),
        (b'{"email": "a@b.de", "created_at": -1}\n', "invalid"),
        (b'{"email": "a@b.de", "created_at": "yesterday"}\n', "invalid"),
        (b'{"email": NaN}\n', "not_json"),
        (b'{"a": ' + b"[" * 100_000 + b"\n", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'[{"email": "a@b.de"}', "not_json"),
        (b"[1, 2]", "not_json"),
        (b"no CSV\n", "unknown_file"),
        (b"email\rpassword\n", "unknown_file"),
        (b'email,password\n"a@b.de,x\n' + b"y" * 200_000, "not_csv"),
        (b"email,password\na@b.de\n", "invalid"),
        (b"email,username\n\x00@b.de,a\n", "invalid"),
        (b"\x00" * 1_000, "unknown_file"),
    ],
)
def test_hostile_files(client, run, content, error):
    """Whatever stands in a file is a fault with its line, and nothing is written."""
    status, _, faults = run(content)

    assert status == 1
    assert error in {fault["error"] for fault in faults}
    assert names(client) == []


@pytest.mark.sqlite("the reading of a file")
def test_no_file(run, tmp_path, capsys):
    """A file that is missing or no database is refused with a sentence."""
    status, _, (refusal,) = run(None)
    assert (status, refusal["error"]) == (1, "no_file")

    status, _, faults = run(b"SQLite format 3\0" + b"x" * 10_000)
    assert (status, faults[0]["error"]) == (1, "no_file")


@pytest.mark.sqlite("the reading of a file")
def test_an_empty_file(run):
    """A file without users is no failure in JSON, and a fault where the format is unclear."""
    assert run("[]", form="django") == (0, {}, [])
    assert run("")[0] == 1


@pytest.mark.sqlite("the reading of a file")
def test_csv_of_supabase(client, run):
    """The CSV of Supabase, with a byte order mark and quotes, becomes users."""
    rows = (
        "\ufeffid,email,encrypted_password,email_confirmed_at,banned_until,created_at,deleted_at\n"
        '4f,"a@example.com",$2b$04$QA/wzYLw5F9G/kVfiDLUkuC342PWOSiuKK.YVbUvnWSwrPx3soxVC,'
        "2024-05-06 07:08:09.123+00,,2024-05-06 07:08:09+00,\n"
        "5f,b@example.com,,,2999-01-01 00:00:00+00,2024-05-06 07:08:09+00,\n"
        "6f,c@example.com,,,,,2024-05-06 07:08:09+00\n"
    )
    found = run(rows, "--username-from", "email-local-part", form="supabase")

    assert found == (0, {"imported": 2, "left_out": 1}, [])
    assert client.query(
        "SELECT username, email_verified_at, created_at FROM users ORDER BY id"
    ) == [
        ("a", 1_714_979_289, 1_714_979_289),
        ("b", None, 1_714_979_289),
    ]


@pytest.mark.sqlite("the reading of a file")
def test_dumpdata_of_django(client, run):
    """The JSON of `dumpdata` becomes users; other models in it are left out."""
    fields = {
        "username": "anna",
        "email": "anna@example.com",
        "password": "!unusable",
        "is_active": True,
        "date_joined": "2024-05-06T07:08:09.123Z",
    }
    rows = [
        {"model": "auth.group", "pk": 1, "fields": {}},
        {"model": "auth.user", "pk": 5, "fields": fields},
    ]

    assert run(json.dumps(rows), "--keep-ids", form="django") == (
        0,
        {"imported": 1, "left_out": 1},
        [],
    )
    assert client.query("SELECT id, username, password_hash, created_at FROM users") == [
        (5, "anna", None, 1_714_979_289)
    ]


@pytest.mark.sqlite("the reading of a file")
def test_a_realm_of_keycloak(client, run):
    """The users of a realm move in, wherever they stand in its JSON."""
    realm = {
        "realm": "x",
        "clients": [{"users": []}],
        "users": [
            {"username": "anna", "email": "anna@example.com", "enabled": False, "credentials": []},
            {"username": "service-account-x", "serviceAccountClientId": "x"},
        ],
        "roles": {},
    }
    found = run(json.dumps(realm, indent=2), form="keycloak")

    assert found == (0, {"imported": 1, "left_out": 1}, [])
    assert names(client) == ["anna"]


def test_objects_in_odd_places(run):
    """A value of another type than the format has is a fault of its row."""
    rows = [
        person(1, custom_password_hash={"algorithm": ["bcrypt"], "hash": {"value": "x"}}),
        person(2, custom_password_hash={"algorithm": "bcrypt", "hash": "x"}),
        person(3, custom_password_hash=[]),
    ]

    assert errors(run(rows, form="auth0")[2]) == [
        (1, "invalid"),
        (2, "unusable_hash"),
        (3, "unusable_hash"),
    ]


TABLES = {
    "table": "CREATE TABLE user (id TEXT, email TEXT, username TEXT, hashed_password TEXT);"
    "INSERT INTO user VALUES ('4f', 'a@example.com', 'anna', '{argon2}');",
    "better-auth": "CREATE TABLE user (id TEXT, email TEXT, emailVerified INTEGER, createdAt TEXT);"
    "CREATE TABLE account (userId TEXT, providerId TEXT, password TEXT);"
    "INSERT INTO user VALUES ('4f', 'a@example.com', 1, '2024-05-06T07:08:09.123Z');"
    "INSERT INTO account VALUES ('4f', 'github', NULL), ('4f', 'credential', '{better}');",
    "lucia": "CREATE TABLE auth_user (id TEXT, username TEXT);"
    "CREATE TABLE auth_key (id TEXT, user_id TEXT, hashed_password TEXT);"
    "INSERT INTO auth_user VALUES ('4f', 'anna');"
    "INSERT INTO auth_key VALUES ('email:a@example.com', '4f', '{lucia}');",
    "pocketbase": "CREATE TABLE users"
    " (id TEXT, email TEXT, password TEXT, verified BOOLEAN, created TEXT);"
    "INSERT INTO users VALUES ('4f', 'a@example.com', '{bcrypt}', 1, '2024-05-06 07:08:09.123Z');",
    "django": "CREATE TABLE auth_user (id INTEGER, email TEXT, username TEXT, password TEXT,"
    " is_active BOOLEAN);"
    "INSERT INTO auth_user VALUES (3, 'a@example.com', 'anna', '{django}', 1);",
}
MADE = {
    "argon2": ("table", ""),
    "better": ("better-auth", ""),
    "lucia": ("lucia", ""),
    "bcrypt": ("pocketbase", ""),
    "django": ("django", "pbkdf2_sha256$1000$"),
}


@pytest.mark.sqlite("the reading of a file")
@pytest.mark.parametrize("form", TABLES)
def test_sqlite_files(client, run, tmp_path, form, vectors):
    """The SQLite file of another system is read as it is, and its user logs in."""
    hashes = {
        name: next(
            each["hash"]
            for each in vectors
            if (each["from"], each["password"]) == (of, PASSWORD) and each["hash"].startswith(start)
        )
        for name, (of, start) in MADE.items()
    }
    with closing(sqlite3.connect(tmp_path / "users")) as connection:
        connection.executescript(TABLES[form].format(**hashes))

    found = run(None, "--username-from", "email-local-part", form=form)

    assert found == (0, {"imported": 1}, [])
    assert client.log_in("a@example.com", PASSWORD).status_code == 200


@pytest.mark.sqlite("the reading of a file")
def test_a_sqlite_file_without_users(run, tmp_path):
    """A file in which no table, or more than one, may have the users is refused by name."""
    with closing(sqlite3.connect(tmp_path / "users")) as connection:
        connection.executescript(
            "CREATE TABLE a (email, password); CREATE TABLE b (email, password);"
            "CREATE VIEW c AS SELECT * FROM a;"
        )

    _, _, (fault,) = run(None, form="table")

    assert "these do: a, b." in fault["message"]


def test_a_pipe(client, monkeypatch, tmp_path):
    """Users come through a pipe too."""
    url = client.app.core.settings.database_url
    command = [sys.executable, "-m", "authapi", "import", "-", "--from", "werkzeug"]

    done = subprocess.run(
        [*command, "--database-url", url],
        input=json.dumps(person()).encode(),
        env=unmeasured(),
        check=False,
        capture_output=True,
    )

    assert (done.returncode, done.stdout) == (0, b"imported: 1\n")
    assert client.log_in("person1", PASSWORD).status_code == 200


@pytest.mark.sqlite("the reading of a file")
def test_a_named_pipe(client, tmp_path):
    """Users come through a pipe that has a name, as `<(…)` of a shell has."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    url = client.app.core.settings.database_url
    writer = threading.Thread(target=pipe.write_text, args=[json.dumps(person())])
    writer.start()

    status = main(["import", str(pipe), "--from", "werkzeug", "--database-url", url])
    writer.join()

    assert (status, names(client)) == (0, ["person1"])


@pytest.mark.sqlite("the reading of a file")
def test_a_named_pipe_of_sqlite(client, tmp_path, capsys):
    """A SQLite file that comes through a pipe with a name is refused, and not waited for."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    url = client.app.core.settings.database_url
    writer = threading.Thread(target=pipe.write_bytes, args=[b"SQLite format 3\0"])
    writer.start()

    status = main(["import", str(pipe), "--database-url", url])
    writer.join()

    assert (status, "cannot be piped" in capsys.readouterr().err) == (1, True)


@pytest.mark.sqlite("the reading of a file")
def test_messages_are_harmless(client, tmp_path, capsys):
    """A name that would drive a terminal is escaped in a fault."""
    path = tmp_path / "users"
    path.write_text(json.dumps(person(username="\x1b[2J\u202e")))
    url = client.app.core.settings.database_url

    assert main(["import", str(path), "--from", "werkzeug", "--database-url", url]) == 1

    assert not {"\x1b", "\u202e"} & {*capsys.readouterr().err}


def test_a_registration_meanwhile(client, run, monkeypatch):
    """Somebody who registers while the file is read keeps the name; the row becomes a fault."""
    check = imports.Importer.check

    def checked(self):
        found = check(self)
        Client(client.app).register(username="person1")
        return found

    monkeypatch.setattr(imports.Importer, "check", checked)

    status, counts, faults = run([person(1), person(2)], form="werkzeug")

    assert (status, counts) == (1, {"imported": 1, "faults": 1})
    assert errors(faults) == [(1, "username_taken")]
    assert names(client) == ["person1", "person2"]


@pytest.mark.sqlite("the reading of a file")
def test_a_file_that_changes(client, run, monkeypatch, tmp_path):
    """A file that changes between its check and the import is not imported."""
    check = imports.Importer.check

    def checked(self):
        found = check(self)
        (tmp_path / "users").write_text(json.dumps(person(3)))
        return found

    monkeypatch.setattr(imports.Importer, "check", checked)

    assert run([person(1)], form="werkzeug")[0] == 1
    assert names(client) == []
