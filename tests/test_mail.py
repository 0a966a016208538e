"""Mail: what features write is sent through a relay, once the change is kept."""

import email.policy
from datetime import UTC, datetime
from email import message_from_bytes

import pytest

from authapi.features.mail import Mails
from authapi.mail.kinds import Letter, Mail

TEST = Mail(
    "mail_test",
    lifetime=3_600,
    prepare=lambda _, job: Letter(job.address, {"time": datetime(2022, 8, 16, 10, 21, tzinfo=UTC)}),
    values=("time",),
)


def mail_settings(folder, **settings):
    """Return settings whose mails are files of a directory."""
    return {
        "mail_url": f"file://{folder}",
        "mail_from": "Example <noreply@example.com>",
        "pages_url": "https://app.example.com",
        **settings,
    }


@pytest.fixture(name="folder")
def _folder(tmp_path):
    folder = tmp_path / "mails"
    folder.mkdir()
    return folder


@pytest.fixture(name="client")
def _client(make_client, folder):
    return make_client(**mail_settings(folder))


def messages(folder):
    """Return the messages in a directory, parsed."""
    return [
        message_from_bytes(path.read_bytes(), policy=email.policy.default)
        for path in sorted(folder.glob("*.eml"))
    ]


def test_a_mail(client, folder):
    """A mail that is written in a transaction is sent after it, and its row is gone."""
    core = client.app.core
    mails = core.of(Mails)
    mails.add(TEST)
    with core.database.transaction():
        mails.write(TEST, address="user@example.com", language="de")

    assert mails.sender.run_due() == 1

    (message,) = messages(folder)
    assert message["To"] == "user@example.com"
    assert message["From"] == "Example <noreply@example.com>"
    assert message["Subject"] == "Test von 127.0.0.1"
    assert "16. August 2022, 10:21 UTC" in message.get_body(("plain",)).get_content()
    assert client.query("SELECT count(*) FROM outbox") == [(0,)]
