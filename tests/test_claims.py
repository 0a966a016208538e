"""Claims: after the first proof of an address, nothing counts of what was there before.

`test_pre_hijacking` has the attacks that this ends.
"""

import pytest
from conftest import USER, token_of
from engines import TABLES
from mailboxes import _make_mailing, statuses  # noqa: F401 - a fixture

from authapi.features.one_time_tokens import OneTimeTokens, Purpose
from authapi.features.users import UserRepository

NEW = "a better password"
# Tables whose rows of a user stay, and why.
KEPT = {
    "audit_log": "says what happened, to the owner too",
    "limits": "counts tries against the account, which harm nobody",
    "outbox": "mails that wait go to the proved address",
    "username_lookalikes": "keeps others from names that look like the user's",
    "users": "is the account; its columns are in a test of their own",
}
NOBODYS = {"jobs", "root_keys"}


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing(security_notices="off")


def claim(client):
    assert client.reset(client.reset_token(USER["email"])).status_code == 200


def plant(client, token):
    """Leave a row in each table that keeps something of a user; return a link of theirs."""
    core = client.app.core
    tokens, credential = core.of(OneTimeTokens), core.of(UserRepository).by_id(1)
    client.log_in(headers={"Cookie": f"jwt={token}"})
    with core.database.transaction():
        begun = tokens.begin(PLANTED)
        return tokens.send(PLANTED, begun.id, credential).link


PLANTED = Purpose("planted", 604_800, outlives_changes=True)


def test_every_table(client, token):
    """A claim leaves no row of the user in any table, but in those that are listed.

    A row that is no token remembers the claim.
    """
    plant(client, token)
    emptied = sorted({*TABLES} - {*KEPT} - NOBODYS)
    assert all(client.query(f"SELECT * FROM {table}") for table in emptied)

    claim(client)

    client.query("DELETE FROM one_time_tokens WHERE purpose = 'outdated'")
    assert not [table for table in emptied if client.query(f"SELECT * FROM {table}")]


def test_columns_of_the_user(client, token):
    """A claim changes the password, and all versions; the names stay."""
    columns = "username, email, password_version > 1, credentials_version > 1, password_hash"
    ((*_, before),) = client.query(f"SELECT {columns} FROM users")

    claim(client)

    ((*others, after),) = client.query(f"SELECT {columns} FROM users")
    assert others == [USER["username"], USER["email"], True, True]
    assert before != after


def test_unexpired_link(client, token):
    """No link that the attacker has asked for counts, even one that a change does not end."""
    link = plant(client, token)
    tokens = client.app.core.of(OneTimeTokens)
    assert tokens.find(PLANTED, link)

    claim(client)

    assert tokens.find(PLANTED, link) is None


def test_second_reset(client, token):
    """An address is claimed once: a later reset is none, and leaves what is not a session."""
    claim(client)
    link = plant(client, token_of(client.log_in(password=NEW)))

    claim(client)

    assert client.events().count("account_claimed") == 1
    assert client.app.core.of(OneTimeTokens).find(PLANTED, link)
