"""The commands `user add` and `user password`."""

import pytest
from conftest import USER

from authapi.passwords import Passwords

pytest_plugins = ("operator_fixtures",)

PASSWORD = "a good password"
ADD = ("user", "add", "anna", "Anna@example.com")


def test_add(operate, client):
    """A user who was added logs in."""
    assert operate(*ADD, "--password-stdin", given=f"{PASSWORD}\n") == (
        0,
        "Added 'anna' (id 1).\n",
        "",
    )
    assert client.log_in("anna", PASSWORD).status_code == 200
    assert client.log_in("anna@example.com", PASSWORD).status_code == 200


@pytest.mark.parametrize("is_verified", [True, False])
def test_add_verified(operate, client, is_verified):
    """The operator says that an email needs no proof."""
    operate(*ADD, "--no-password", *["--verified"] * is_verified)

    assert client.query("SELECT email_verified_at IS NOT NULL FROM users") == [(is_verified,)]


@pytest.mark.parametrize("values", [{"registration": "closed"}])
def test_add_while_registration_is_closed(make_client, operate, values, monkeypatch):
    """Closed registration does not bind the operator."""
    operate.client = make_client(**values)
    monkeypatch.setenv("AUTHAPI_REGISTRATION", "closed")

    assert operate.json(*ADD, "--no-password") == [
        {"id": 1, "username": "anna", "email": "Anna@example.com"}
    ]


def test_a_user_without_a_password(operate, client):
    """A user without a password cannot log in, until they are given one."""
    operate(*ADD, "--no-password")

    assert client.log_in("anna", "").status_code in {401, 422}
    assert client.log_in("anna", PASSWORD).status_code == 401
    operate("user", "password", "anna", "--password-stdin", given=PASSWORD)
    assert client.log_in("anna", PASSWORD).status_code == 200


def test_a_hash(operate, client):
    """A user is added with a hash, and logs in with its password."""
    hashed = Passwords(client.app.core.settings).hash(PASSWORD)

    assert operate(*ADD, "--hash-stdin", given=f"{hashed}\n")[0] == 0
    assert client.log_in("anna", PASSWORD).status_code == 200


@pytest.mark.parametrize("text", ["", PASSWORD, "$2y$10$abc", "$argon2id$v=19$m=8,t=1,p=1$a$b"])
def test_a_hash_that_is_none(operate, client, text):
    """What cannot be verified is no hash, and nobody is added."""
    assert operate.refusal(*ADD, "--hash-stdin", given=text)[:2] == (1, "bad_hash")
    assert client.query("SELECT count(*) FROM users") == [(0,)]


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["crispengari", "a@example.com"], "username_taken"),
        (["cr\u0131spengari", "a@example.com"], "username_taken"),
        (["anna", "CRISPENGARI@gmail.com"], "email_taken"),
        (["an na", "a@example.com"], "bad_username"),
        (["anna", "example.com"], "bad_email"),
        (["anna", "a@example.com\n"], "bad_email"),
        (["anna", "é@example.com"], "bad_email"),
    ],
)
def test_names_that_are_refused(operate, client, token, names, error):
    """Names are checked as at a registration, before a password is asked for."""
    status, name, _ = operate.refusal("user", "add", *names)

    assert (status, name) == (1, error)
    assert client.query("SELECT count(*) FROM users") == [(1,)]


@pytest.mark.parametrize("password", ["short", "password1", "a" * 1_025, "anna\0anna"])
def test_a_password_that_is_refused(operate, client, password):
    """Passwords are checked as at a registration."""
    status, error, _ = operate.refusal(*ADD, "--password-stdin", given=password)

    assert (status, error) == (1, "bad_password")
    assert client.query("SELECT count(*) FROM users") == [(0,)]


def test_one_way_to_give_a_password(operate):
    """Only one of the options may be given, and no password as an argument."""
    for wrong in (["--password-stdin", "--no-password"], ["--password", PASSWORD], [PASSWORD]):
        with pytest.raises(SystemExit, match="2"):
            operate(*ADD, *wrong)


def test_password(operate, client, token):
    """Another password ends all sessions, as a change by the user does."""
    status, shown, _ = operate("user", "password", "id:1", "--password-stdin", given=PASSWORD)

    assert (status, shown) == (0, "'crispengari' (id 1) has another password, and no session.\n")
    assert client.get_as(token).status_code == 401
    assert client.log_in().status_code == 401
    assert client.log_in(USER["username"], PASSWORD).status_code == 200
    assert client.events("event", "user_id")[1:5] == [
        ("password_changed", 1),
        ("credentials_changed", 1),
        ("session_revoked", 1),
        ("login_failed", 1),
    ]


def test_password_of_a_known_browser(operate, client):
    """After another password, the user's browsers are not known any more."""
    client.register()
    before = client.query("SELECT password_version, credentials_version FROM users")[0]

    operate("user", "password", "id:1", "--password-stdin", given=PASSWORD)

    after = client.query("SELECT password_version, credentials_version FROM users")[0]
    assert after == tuple(version + 1 for version in before)


def test_no_password(operate, client, token):
    """A password can be taken away."""
    assert operate.json("user", "password", "id:1", "--no-password") == [
        {"id": 1, "username": "crispengari", "password": "none"}
    ]
    assert client.log_in().status_code == 401


def test_password_of_a_disabled_user(operate, client, token):
    """A disabled user gets another password, and stays disabled."""
    operate("user", "disable", "id:1")
    operate("user", "password", "id:1", "--password-stdin", given=PASSWORD)
    assert client.log_in(USER["username"], PASSWORD).status_code == 401

    operate("user", "enable", "id:1")
    assert client.log_in(USER["username"], PASSWORD).status_code == 200
