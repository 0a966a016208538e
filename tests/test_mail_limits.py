"""Mail limits: how many mails clients may ask for."""

import pytest
from conftest import USER, cookie_of
from mailboxes import _make_mailing, statuses  # noqa: F401 - a fixture


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing(security_notices="off")


@pytest.mark.parametrize("name", [USER["username"], "nobody"])
def test_limit_of_a_name(client, token, name):
    """A name has five mails an hour, whether or not it is a user's; case makes no other name."""
    answers = [client.ask_for_reset(each) for each in [name] * 5 + [name.upper()]]

    assert statuses(*answers) == [202] * 5 + [429]
    assert answers[-1].headers["ratelimit-policy"] == '"mail-address";q=5;w=3600'
    assert client.ask_for_reset("somebody").status_code == 202


def test_limit_of_a_network(make_mailing):
    """A network has a number of mails for all names."""
    client = make_mailing(mail_network_limit="2/hour")

    answers = [client.ask_for_reset(f"name{number}") for number in range(3)]

    assert statuses(*answers) == [202, 202, 429]


def test_known_browser(client, token):
    """An owner can ask for a mail in a known browser after others have used up the name's mails."""
    device = {"Cookie": f"device={cookie_of(client.log_in(), 'device')}"}
    for _ in range(6):
        client.ask_for_reset(USER["username"])

    assert client.ask_for_reset(USER["username"]).status_code == 429
    assert client.ask_for_reset(USER["username"], headers=device).status_code == 202


def test_known_browser_of_a_flooded_user(make_mailing):
    """A user who was sent as many mails as a day has gets one for a known browser."""
    client = make_mailing(mail_address_limit="11/day", security_notices="off")
    client.register()
    device = {"Cookie": f"device={cookie_of(client.log_in(), 'device')}"}
    for _ in range(11):
        client.ask_for_reset(USER["username"])
    assert len(client.mails()) == 10

    client.ask_for_reset(USER["username"], headers=device)

    assert client.mail()["To"] == USER["email"]


def test_limit_of_a_user(make_mailing):
    """A user gets ten mails a day. More are dropped in silence."""
    client = make_mailing(mail_address_limit="99/hour", security_notices="off")
    client.register()
    answers = [client.ask_for_reset(USER["email"]) for _ in range(12)]

    assert statuses(*answers) == [202] * 12
    assert len(client.mails()) == 10
