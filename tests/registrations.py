"""Registrations of tests where addresses must be proved, and their browsers."""

import pytest
from conftest import USER, cookie_of, token_of
from mailboxes import code_in

from authapi.features.users import UserRepository


def browser_of(answer):
    return {"Cookie": f"registration={cookie_of(answer, 'registration')}"}


def verify(client, body, browser=None):
    return client.post("/register/verify", body, headers=browser)


def users(client):
    return client.query("SELECT username, email FROM users ORDER BY id")


def complete(client, **fields):
    """Register and answer the mail; return the token of the session."""
    browser = browser_of(client.register(**fields))
    return token_of(verify(client, {"code": code_in(client.mail())}, browser))


def add_unproved(client):
    """Add the user as an operator does, without a proof of the address."""
    core = client.app.core
    with core.database.transaction():
        password_hash = core.passwords.hash(USER["password"])
        core.of(UserRepository).insert(USER["username"], USER["email"], password_hash)


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing(email_verification="required")


@pytest.fixture(name="browser")
def _browser(client):
    """Return the headers of the browser that has registered."""
    return browser_of(client.register())


@pytest.fixture(name="mail")
def _mail(client, browser):
    return client.mail()
