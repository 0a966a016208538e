"""The commands `mail list`, `retry`, `drop`, `test` and `send`."""

import pytest
from relay import ANSWERS, Script, mail_settings, running

from authapi.features.mail import Mails
from authapi.features.mail_commands import TEST

pytest_plugins = ("operator_fixtures",)


@pytest.fixture(name="relay")
def _relay():
    with running(Script()) as relay:
        yield relay


@pytest.fixture(name="client")
def _client(make_client, relay, monkeypatch):
    settings = mail_settings(relay.url)
    for name, value in settings.items():
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", value)
    client = make_client(**settings)
    client.app.core.of(Mails).add(TEST)
    return client


def write(client, address="user@example.org"):
    mails = client.app.core.of(Mails)
    with client.app.core.database.transaction():
        return mails.write(TEST, address=address, user_id=7)


@pytest.fixture(name="dead")
def _dead(operate, client, relay, clock):
    """Return the number of a dead mail."""
    relay.answers["RCPT"] = "550 No such user"
    dead = write(client)
    client.app.core.of(Mails).sender.run_due()
    relay.answers = dict(ANSWERS)
    clock.move(60)  # so that it is not behind that of the commands
    return dead


def test_list(operate, client, dead):
    """Waiting and dead mails are listed, or the dead ones alone."""
    waiting = write(client, "other@example.org")

    first, second = operate.json("mail", "list")
    assert (first["id"], first["state"], first["error"]) == (dead, "dead", "550 No such user")
    assert (second["id"], second["state"], second["user_id"]) == (waiting, "waiting", 7)
    assert operate.json("mail", "list", "--dead") == [first]
    assert operate.json("mail", "list", "--limit", "1") == [first]
    assert "other@example.org" in operate("mail", "list")[1]


@pytest.mark.parametrize("which", ["id", "all"])
def test_retry(operate, client, relay, dead, which):
    """A dead mail that is retried is sent, and the audit log says so."""
    operate("mail", "retry", str(dead) if which == "id" else "--all")
    client.app.core.of(Mails).sender.run_due()

    assert len(relay.messages) == 1
    assert client.events("event", "detail")[-1] == ("mail_retried", "mail_test")
    assert operate.refusal("mail", "retry", str(dead))[1] == "no_such_mail"


def test_drop(operate, client, dead):
    """A mail is deleted once that was confirmed, and the audit log says so."""
    assert operate.refusal("mail", "drop", str(dead))[1] == "not_confirmed"
    assert operate("mail", "drop", str(dead), "--yes")[0] == 0

    assert operate("mail", "list") == (0, "", "No mail waits.\n")
    assert client.events("event", "user_id")[-1] == ("mail_dropped", 7)
    assert operate.refusal("mail", "drop", str(dead), "--yes")[1] == "no_such_mail"


def test_test(operate, relay):
    """A test mail is sent at once, and what the relay says is told."""
    assert operate.json("mail", "test", "me@example.org") == [
        {"address": "me@example.org", "sent": True}
    ]
    assert b"\r\nTo: me@example.org\r\n" in relay.messages[0]

    relay.answers["RCPT"] = "550 No such user"
    refusal = operate.refusal("mail", "test", "me@example.org")
    assert refusal == (1, "mail_refused", "The mail is refused: 550 No such user.")
    relay.answers["BANNER"] = "554 No"
    assert operate.refusal("mail", "test", "me@example.org")[1] == "relay_failed"


def test_mail_is_off(operate, monkeypatch):
    """Without a relay a command says which setting turns mail on."""
    for name in ("URL", "FROM"):
        monkeypatch.delenv(f"AUTHAPI_MAIL_{name}")
    monkeypatch.delenv("AUTHAPI_PAGES_URL")

    refusal = (1, "cannot_start", "The feature mail_commands is off: set AUTHAPI_MAIL_URL.")
    assert operate.refusal("mail", "test", "me@example.org") == refusal
