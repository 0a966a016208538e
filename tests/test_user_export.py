"""A user's data: all of it can be given to them, and nothing of it stays when they are deleted."""

import json

import pytest
from conftest import OTHER, USER, token_of
from engines import TABLES
from mailboxes import mail_settings

from authapi import User, features
from authapi.commands.cli import main
from authapi.feature import load
from authapi.features.limits import Limits
from authapi.features.lockout import LoginBudgets
from authapi.features.one_time_tokens import OneTimeTokens, Purpose
from authapi.features.user_export import exported

NOBODYS = {"jobs", "root_keys"}  # tables that hold nothing of a user
MARK = "quetzalcoatl"
MARKED = {
    "username": "Quetzalcoatl",
    "email": "Quetzalcoatl@Example.com",
    "password": "correct horse",
}


@pytest.fixture(name="lived")
def _lived(client):
    """Return a client whose user 2 has done what there is to do."""
    client.register()
    token = token_of(client.register(**MARKED))
    client.log_in("nobody", "wrong password")
    client.log_in(MARKED["username"], "wrong password")
    client.log_in(MARKED["email"], "wrong password")
    client.log_in(MARKED["email"], MARKED["password"], headers={"User-Agent": "Quetzal/1.0"})
    client.log_in(MARKED["username"].upper(), "wrong password")
    client.request_as(token, "POST", "/sessions/reauthenticate", {"password": "wrong password"})
    client.request_as(token, "PATCH", "/user", {"username": "quetzalcoatl\u00e9"})
    with client.app.core.database.transaction():
        client.app.core.of(OneTimeTokens).begin(Purpose("test", 60), user_id=2)
    client.token = token
    return client


def export(client, name, capsys, *options):
    url = client.app.core.settings.database_url
    assert main(["user", "export", name, *options, "--database-url", url]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_that_is_kept(lived, capsys):
    """The export has the account, every session, the failures and every audit entry of a user."""
    found = export(lived, MARKED["email"], capsys)

    assert {"exported_at", "activity", "failures_in_a_row", "account", "sessions"} <= {*found}
    account = found["account"]
    assert (account["id"], account["username"]) == (2, "quetzalcoatl\u00e9")
    assert (account["email"], account["has_password"]) == (MARKED["email"], True)
    assert account["created_at"].endswith("Z")
    assert "Quetzal/1.0" in {session["user_agent"] for session in found["sessions"]}
    assert [session["methods"] for session in found["sessions"]] == [["pwd"], ["pwd"]]
    events = [entry["event"] for entry in found["activity"]]
    assert events[-1] == "registered"
    assert {"login_failed", "logged_in", "user_renamed", "user_exported"} <= {*events}
    assert {entry["detail"] for entry in found["activity"]} == {None, "wrong_password"}
    (token,) = found["one_time_tokens"]
    assert (token["purpose"], token["data"]) == ("test", "{}")


def test_failures_that_are_counted(lived):
    """The export has the failures in a row by which a user may be locked out."""
    user = User(2, "", "", 0, 0)

    assert exported(lived.app.core, user)["failures_in_a_row"] == {
        "username": 1,
        "email": 0,
        "password_in_a_session": 1,
        "networks_without_tries": 0,
    }


def test_no_secret_and_nobody_elses(lived, capsys):
    """An export holds no hash of a password, and nothing of another user."""
    text = json.dumps(export(lived, "id:2", capsys, "--json"))

    assert "argon2" not in text
    assert USER["username"] not in text


def test_every_table_is_declared(client):
    """Each table is exported by the feature that keeps it, or holds nothing of a user."""
    declared = {
        table
        for feature in load(features.DEFAULT)
        for each in feature.personal_data
        for table in each.tables
    }

    assert declared | NOBODYS == {*TABLES}
    assert not declared & NOBODYS
    tables = (
        client.query("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if (client.app.core.database.is_local)
        else [(table,) for table in TABLES]
    )
    assert {name for (name,) in tables} - {"migrations", "sqlite_sequence"} == {*TABLES}


def values(client, table):
    """Return every value of a table as a text."""
    return [
        str(value).casefold() for row in client.query(f"SELECT * FROM {table}") for value in row
    ]


def test_nothing_stays(lived):
    """After `DELETE /user` no table holds the name, the email or the id, but for the audit log."""
    hashed = lived.query("SELECT password_hash FROM users WHERE id = 2")[0][0].casefold()
    sessions = {session["id"] for session in lived.sessions_of(lived.token)}
    core, body = lived.app.core, {"password": MARKED["password"]}
    with core.database.transaction():
        core.of(Limits).take(core.of(LoginBudgets)._known.of("2"))
    assert lived.request_as(lived.token, "DELETE", "/user", body).status_code == 200

    for table in TABLES:
        found = values(lived, table)
        assert not [each for each in found if MARK in each or hashed in each], table
        if table != "audit_log":
            assert not sessions & {*found}, table
            assert not [each for each in found if each.endswith((":2", ":2:username", ":2:email"))]
    for table in ("sessions", "username_lookalikes", "one_time_tokens"):
        assert lived.query(f"SELECT count(*) FROM {table} WHERE user_id = 2") == [(0,)]


@pytest.mark.parametrize("settings", [mail_settings, lambda _: {}], ids=["mail", "no mail"])
def test_mails_that_could_not_be_sent(make_client, tmp_path, settings):
    """A deleted user's mails that could not be sent are deleted too, and nobody else's."""
    client = make_client(**settings(tmp_path))
    token = token_of(client.register())
    for user_id in (1, 2):
        client.query(
            "INSERT INTO outbox (channel, kind, user_id, address, data, language, created_at,"
            " expires_at, died_at) VALUES ('mail', 'kind', ?, 'a@b.de', '{}', 'en', 0, 9, 1)",
            user_id,
        )

    client.request_as(token, "DELETE", "/user", {"password": USER["password"]})

    assert client.query("SELECT user_id FROM outbox WHERE died_at IS NOT NULL") == [(2,)]


def test_the_audit_log_goes_after_90_days(lived, clock):
    """What the audit log keeps of a deleted user is deleted after 90 days."""
    body = {"password": MARKED["password"]}
    lived.request_as(lived.token, "DELETE", "/user", body)
    assert lived.query("SELECT count(*) FROM audit_log WHERE user_id = 2") > [(5,)]

    clock.move(91 * 86_400)
    lived.register(**OTHER)
    lived.app.jobs.run_due()

    assert lived.query("SELECT count(*) FROM audit_log WHERE user_id = 2") == [(0,)]


@pytest.mark.sqlite("pages of a file")
def test_no_page_of_the_file_holds_it(lived):
    """The file is overwritten where a deleted user stood; at a stop the log is gone as well."""
    path = lived.app.core.database.path
    body = {"password": MARKED["password"]}
    lived.request_as(lived.token, "DELETE", "/user", body)
    lived.app.close()

    found = {
        each.name: each.read_bytes().lower()
        for each in path.parent.iterdir()
        if each.name.startswith(path.name)
    }
    assert path.name in found
    assert not [name for name, data in found.items() if MARK.encode() in data]


@pytest.mark.parametrize("name", ["nobody", "id:9", "nobody@example.com"])
def test_nobody(client, capsys, name):
    """There is nothing to export of a user who is not there."""
    url = client.app.core.settings.database_url

    assert main(["user", "export", name, "--database-url", url]) == 1

    assert f"There is no user '{name}'." in capsys.readouterr().err
