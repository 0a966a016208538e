"""The five attacks of Sudhodanan and Paverd, Pre-hijacked accounts (USENIX Security 2022).

An attacker makes an account with the address of a victim, who comes later and resets the password;
or, where addresses must be proved, registers.
"""

import json

import pytest
from conftest import OTHER, USER, cookie_of, token_of
from mailboxes import _make_mailing, code_in, links_in, statuses, token_in  # noqa: F401 - a fixture
from registrations import browser_of, complete, verify

pytest_plugins = ("operator_fixtures",)

NEW = "a better password"
ATTACKERS = "attacker@example.com"
VICTIM = {**USER, "username": "victim", "password": NEW}


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing(email_verification="optional", security_notices="off")


@pytest.fixture(name="strict")
def _strict(make_mailing):
    """Return a client of a service where addresses must be proved."""
    return make_mailing(email_verification="required", security_notices="off")


@pytest.fixture(name="planted")
def _planted(client):
    """Return the session of an account that the attacker has made with the victim's address."""
    return token_of(client.register())


def recover(client):
    """Reset the password as the victim, and log in; return the session."""
    client.mails()
    assert client.reset(client.reset_token(USER["email"])).status_code == 200
    return token_of(client.log_in(USER["email"], NEW))


def change(client, token, email):
    """Ask for another email; return the mail to it."""
    assert client.request_as(token, "POST", "/user/email", {"email": email}).status_code == 202
    (mail,) = [each for each in client.mails() if each["To"] == email]
    return mail


def confirm(client, token, mail):
    return client.request_as(token, "POST", "/user/email/confirm", {"token": token_in(mail)})


def test_classic_federated_merge(client, planted):
    """The password of the attacker does not open the account after the victim's other way in."""
    recover(client)

    assert statuses(client.log_in(), client.log_in(USER["email"])) == [401, 401]


def test_classic_federated_merge_with_proofs(strict):
    """The attacker's registration makes no account, and the victim's has the victim's password."""
    attacker = browser_of(strict.register())
    link = token_in(strict.mail())

    victims = verify(strict, {"token": link})
    complete(strict, **VICTIM)

    assert victims.json["error"] == "other_browser"
    assert strict.log_in(USER["email"], NEW).status_code == 200
    assert strict.log_in(USER["email"]).status_code == 401
    assert verify(strict, {"token": link}, attacker).json["error"] == "email_taken"


def test_unexpired_session(client, planted):
    """No session that the attacker has kept open goes on."""
    sessions = [planted, token_of(client.log_in())]

    recover(client)

    assert statuses(*map(client.get_as, sessions)) == [401, 401]


def test_unexpired_session_with_proofs(strict):
    """A registration opens no session that could wait for the victim."""
    answer = strict.register()

    assert [*answer.cookies] == ["registration"]
    assert strict.query("SELECT count(*) FROM sessions") == [(0,)]


def test_trojan_identifier(client, planted):
    """A browser that the attacker has made known is known no more."""
    device = cookie_of(client.log_in(), "device")
    recover(client)
    for _ in range(11):
        client.log_in(password="wrong password")

    answer = client.log_in(password=NEW, headers={"Cookie": f"device={device}"})
    assert answer.status_code == 429


def test_trojan_identifier_with_proofs(strict):
    """The attacker's browser, which has registered with the address, is not in the account."""
    answer = strict.register()
    attacker = browser_of(answer)
    strict.mails()
    victim = browser_of(strict.register(**VICTIM))
    code = {"code": code_in(strict.mail())}

    assert verify(strict, code, attacker).json["error"] == "wrong_code"
    assert verify(strict, code, victim).status_code == 201
    assert "device" not in answer.cookies


def test_unexpired_email_change(client, planted):
    """A change to the attacker's address, begun before the victim came, cannot be completed."""
    mail = change(client, planted, ATTACKERS)
    session = recover(client)

    assert statuses(*(confirm(client, each, mail) for each in (planted, session))) == [401, 400]
    assert client.get_as(session).json["user"]["email"] == USER["email"]


def test_unexpired_email_change_with_proofs(strict):
    """A change to the victim's address, begun before the victim came, cannot be completed."""
    attackers = complete(strict, **OTHER)
    mail = change(strict, attackers, USER["email"])
    session = complete(strict, **VICTIM)

    assert confirm(strict, session, mail).status_code == 400
    assert confirm(strict, attackers, mail).json["error"] == "email_taken"


def imported(operate, tmp_path, client):
    """Import the attacker's user of another system, which did not verify the victim's address."""
    hashed = client.app.core.passwords.hash(USER["password"])
    path = tmp_path / "users.jsonl"
    path.write_text(
        json.dumps(
            {
                "username": USER["username"],
                "email": USER["email"],
                "password_hash": hashed,
                "email_verified_at": None,
            }
        )
    )
    operate.client = client
    assert operate("import", str(path))[0] == 0


@pytest.mark.parametrize("mode", ["optional", "required"])
def test_non_verifying_provider(make_mailing, operate, tmp_path, mode):
    """An account from a system which verifies no address is the victim's after a proof."""
    client = make_mailing(email_verification=mode, security_notices="off")
    imported(operate, tmp_path, client)
    assert client.log_in().status_code == (200 if mode == "optional" else 403)

    recover(client)

    assert client.log_in().status_code == 401
    assert client.log_in(password=NEW).json["user"]["email_verified"] is True
