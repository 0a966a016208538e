"""Mailboxes of tests: what the service mails, as files of a directory."""

import email.policy
import re
from email import message_from_bytes

import pytest
from conftest import Client
from engines import TABLES, query

from authapi.features.mail import Mails

PAGES = "https://app.example.com"
CODE = re.compile(r"^([0-9]{6})\r?$", re.MULTILINE)
LINK = re.compile(rf"{PAGES}/([a-z-]+)#token=([A-Za-z0-9_-]+)\s")


def mail_settings(folder, **settings):
    """Return settings whose mails are files of a directory; a registration sends none."""
    return {
        "mail_url": f"file://{folder}",
        "mail_from": "Example <noreply@example.com>",
        "pages_url": PAGES,
        "email_verification": "off",
        **settings,
    }


class MailingClient(Client):
    """A client of a service that mails, with the mails that it has sent."""

    def __init__(self, app, folder):
        super().__init__(app)
        self._folder = folder
        self._seen = set()

    def mails(self):
        """Send what is due, and return the messages since the last call, oldest first."""
        self.app.core.of(Mails).sender.run_due()
        paths = sorted(set(self._folder.glob("*.eml")) - self._seen)
        self._seen |= {*paths}
        return [
            message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths
        ]

    def mail(self):
        """Send what is due, and return the one message since the last call."""
        (message,) = self.mails()
        return message

    def ask_for_reset(self, name, **options):
        return self.post("/password/reset/request", {"usernameOrEmail": name}, **options)

    def reset(self, token, password="a better password"):
        return self.post("/password/reset", {"token": token, "new_password": password})

    def reset_token(self, name):
        """Ask for a reset, and return the token of the link that is mailed."""
        assert self.ask_for_reset(name).status_code == 202
        return token_in(self.mail())


@pytest.fixture(name="make_mailing")
def _make_mailing(make_app, tmp_path, caplog):
    """Return what makes a client that mails; in the end no link and no code is stored or logged."""
    folder, clients = tmp_path / "mails", []
    folder.mkdir()

    def make_mailing(**settings):
        clients.append(MailingClient(make_app(**mail_settings(folder, **settings)), folder))
        return clients[-1]

    yield make_mailing
    if clients:
        secrets = [secret for path in folder.glob("*.eml") for secret in secrets_in(path)]
        lines = [each.getMessage() for each in caplog.get_records("call")]
        kept = "\n".join([rows_of(clients[-1].app.core.database), *lines])
        assert not [each for each in secrets if re.search(rf"(?<!\w){each}(?!\w)", kept)]


def secrets_in(path):
    """Return the links and codes of a mail in a file."""
    message = message_from_bytes(path.read_bytes(), policy=email.policy.default)
    return [token for _, token in links_in(message)] + CODE.findall(text_of(message))


def rows_of(database):
    """Return the rows of all tables, as text."""
    return "\n".join(
        repr(row) for table in TABLES for row in query(database, f"SELECT * FROM {table}", ())
    )


def statuses(*answers):
    return [answer.status_code for answer in answers]


def text_of(message):
    return message.get_body(("plain",)).get_content()


def links_in(message):
    """Return the pages and tokens of the links of a message."""
    return LINK.findall(text_of(message))


def code_in(message):
    """Return the code of a message."""
    (code,) = CODE.findall(text_of(message))
    return code


def token_in(message):
    """Return the token of the only link of a message."""
    ((_, token),) = links_in(message)
    return token
