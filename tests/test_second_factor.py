"""A second factor is a feature of its own: no library file knows it, and no way in goes past it."""

import pytest
import second_factor
from conftest import OTHER, USER, Client, cookie_of, token_of
from second_factor import CODE

from authapi import features

FEATURES = (*features.DEFAULT, second_factor)
NEW = {"current_password": USER["password"], "new_password": "another password"}


@pytest.fixture(name="client")
def _client(make_app):
    return Client(make_app(features=FEATURES))


@pytest.fixture(name="added")
def _added(client):
    """Return the token of a user who has just added a second factor, with five tries an hour."""
    token = token_of(client.register())
    return token_of(give(client, token, "/factors"))


def give(client, token, path="/sessions/code", code=CODE):
    return client.request_as(token, "POST", path, {"code": code})


def second_step(client, asked, code=CODE):
    headers = {"Cookie": f"login={cookie_of(asked, 'login')}"}
    return client.post("/login/second", {"code": code}, headers=headers)


def test_login_in_two_steps(client, added):
    """The password alone opens no session and makes no browser known; with the code it does."""
    asked = client.log_in()
    assert (asked.status_code, asked.json["error"]) == (401, "second_factor_required")
    assert set(asked.cookies) == {"login"}

    answer = second_step(client, asked)

    assert answer.json["message"] == "Logged in."
    assert set(answer.cookies) == {"device", "jwt"}
    vault = client.get_as(token_of(answer), "/vault")
    assert vault.json == {"methods": ["otp", "pwd"], "aal": 2}
    assert client.events()[-2:] == ["second_factor_asked", "logged_in"]


def test_other_users_log_in_as_before(client, added):
    """A user without a second factor is not asked for one, and a new user has none."""
    assert client.register(**OTHER).status_code == 201
    assert client.log_in(OTHER["username"], OTHER["password"]).status_code == 200


def test_wrong_codes_are_failed_logins(client, added):
    """Wrong codes at a login are recorded, and limited by a budget of their own."""
    asked = client.log_in()

    answers = [second_step(client, asked, "000000") for _ in range(5)]

    assert [answer.status_code for answer in answers] == [401] * 4 + [429]
    assert answers[-1].headers["ratelimit-policy"].startswith('"second-factor"')
    assert client.events().count("login_failed") == 4


def test_a_change_of_credentials_ends_the_first_step(client, added):
    """A login that was begun with the older password does not go on."""
    asked = client.log_in()
    assert client.request_as(added, "PUT", "/user/password", NEW).status_code == 200

    assert second_step(client, asked).json["error"] == "second_factor_required"


def test_a_new_factor_ends_other_sessions(client):
    """Sessions that were opened without it end; the session that added it is strong."""
    first = token_of(client.register())
    second = token_of(client.log_in())

    newer = token_of(give(client, second, "/factors"))

    assert [client.get_as(each).status_code for each in (first, second)] == [401, 401]
    assert client.get_as(newer, "/vault").json["aal"] == 2
    assert client.query("SELECT credentials_version FROM users") == [(2,)]


def test_a_trusted_browser(client, added):
    """A login without the code is no strong one, until the code is given in its session."""
    token = token_of(client.log_in(headers={"X-Trusted": "yes"}))
    refused = client.get_as(client.reauthenticate(token), "/vault")
    assert (refused.status_code, refused.json["error"]) == (403, "strong_login_required")
    token = token_of(client.log_in(headers={"X-Trusted": "yes"}))

    token = token_of(give(client, token))

    assert client.get_as(token, "/vault").json == {"methods": ["dev", "otp", "pwd"], "aal": 2}


def test_wrong_codes_in_a_session(client, added):
    """Wrong codes in a session and at a login share a budget."""
    answers = [give(client, added, code="000000") for _ in range(5)]

    assert [answer.json["error"] for answer in answers[:4]] == ["invalid_code"] * 4
    assert answers[4].status_code == 429
    assert second_step(client, client.log_in()).status_code == 429
