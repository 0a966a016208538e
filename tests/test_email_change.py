"""Email change: another address, once its owner has proved it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import OTHER, USER, cookie_of, token_of
from emails import NEW, ask, change_password, confirm, email_of, mail_to
from mailboxes import (  # noqa: F401 - a fixture
    _make_mailing,
    code_in,
    links_in,
    statuses,
    text_of,
    token_in,
)


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing()


@pytest.fixture(name="mail")
def _mail(client, token):
    """Return the mail to the new address that the token's user has asked for."""
    assert ask(client, token).status_code == 202
    return mail_to(client, NEW)


@pytest.fixture(name="proof", params=["link", "code"])
def _proof(request, mail):
    """Return the body that gives the mail's link, or its code."""
    return {"token": token_in(mail)} if request.param == "link" else {"code": code_in(mail)}


def test_changing(client, token, proof):
    """The link or the code that was mailed to the new address changes the email."""
    assert email_of(client, token) == USER["email"]

    answer = confirm(client, token, proof)

    assert (answer.status_code, answer.json["message"]) == (200, "Email changed.")
    assert answer.json["user"]["email"] == email_of(client, token_of(answer)) == NEW
    assert statuses(client.log_in(NEW), client.log_in(USER["email"])) == [200, 401]
    assert {"email_change_requested", "email_changed", "credentials_changed"} <= {*client.events()}


def test_verified(make_mailing):
    """The new address is verified."""
    client = make_mailing(email_verification="optional")
    token = token_of(client.register())
    ask(client, token)
    answer = confirm(client, token, {"token": token_in(mail_to(client, NEW))})

    assert answer.json["user"]["email_verified"] is True


def test_other_sessions_end(client, token, proof):
    """A change ends the other sessions, and gives this one another token."""
    other = token_of(client.log_in())

    changed = token_of(confirm(client, token, proof))

    assert statuses(*[client.get_as(each) for each in (changed, token, other)]) == [200, 401, 401]


def test_used_twice(client, token, proof):
    """A link or a code counts once."""
    changed = token_of(confirm(client, token, proof))

    assert confirm(client, changed, proof).status_code in {400, 403}


def test_another_user(client, token, proof):
    """In a session of another user the link and the code do not count, and stay."""
    other = token_of(client.register(**OTHER))

    assert confirm(client, other, proof).status_code in {400, 403}
    assert email_of(client, other) == OTHER["email"]
    assert confirm(client, token, proof).status_code == 200


def test_without_a_session(client, proof):
    """Without a session nothing is confirmed."""
    assert client.post("/user/email/confirm", proof).status_code == 401


def test_expired(client, token, clock, proof):
    """After 30 minutes the link and the code do not count."""
    clock.move(1_801)

    assert confirm(client, token, proof).status_code in {400, 403}


def test_after_a_password_change(client, token, proof):
    """A change of the password ends the link and the code."""
    changed = token_of(change_password(client, token))

    assert confirm(client, changed, proof).status_code in {400, 403}


def test_password_changed_before_it_is_sent(client, token):
    """A change of the password ends the change of an email whose mail still waits."""
    ask(client, token)
    change_password(client, token)

    assert NEW not in [message["To"] for message in client.mails()]


def test_given_up(client, token, proof):
    """A change that its user gives up is ended."""
    answer = client.request_as(token, "DELETE", "/user/email/pending")

    assert (answer.status_code, answer.json["message"]) == (200, "Email change ended.")
    assert confirm(client, token, proof).status_code in {400, 403}


def test_given_up_before_it_is_sent(client, token):
    """Nothing is mailed to the new address of a change that its user has given up."""
    ask(client, token)
    client.request_as(token, "DELETE", "/user/email/pending")

    assert NEW not in [message["To"] for message in client.mails()]


def test_asked_again(client, token, proof):
    """The mail to a second address ends the first one's link and code."""
    ask(client, token, "second@example.com")
    second = {"token": token_in(mail_to(client, "second@example.com"))}

    assert confirm(client, token, proof).status_code in {400, 403}
    assert confirm(client, token, second).json["user"]["email"] == "second@example.com"


def test_many_at_once(client, token, proof):
    """One of 32 requests at once with a link or a code succeeds."""
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: confirm(client, token, proof), range(32)))

    assert statuses(*answers).count(200) == 1
    assert client.events().count("email_changed") == 1


def test_taken(client, token):
    """An address that another user has is mailed as any other; only its owner is told."""
    client.register(**OTHER)
    free, answer = ask(client, token), ask(client, token, OTHER["email"].upper())
    assert (answer.status_code, answer.json["message"]) == (202, free.json["message"])
    proof = {"token": token_in(mail_to(client, OTHER["email"].upper()))}

    refused = confirm(client, token, proof)

    assert (refused.status_code, refused.json["error"]) == (409, "email_taken")
    assert email_of(client, token) == USER["email"]


def test_taken_meanwhile(client, token, proof):
    """A user who registers with the address before it is confirmed keeps it."""
    client.register(**{**OTHER, "email": NEW})

    assert confirm(client, token, proof).status_code == 409
    assert client.get_as(token).status_code == 200


def test_notice(client, token):
    """The old address is told at once, with a link that locks the account."""
    ask(client, token)
    notice = mail_to(client, USER["email"])

    assert [page for page, _ in links_in(notice)] == ["not-me"]
    assert NEW not in text_of(notice)
    assert client.post("/user/not-me", {"token": token_in(notice)}).status_code == 200


def test_locked_meanwhile(client, token):
    """The link to the new address does not count once the owner has locked the account."""
    ask(client, token)
    notice, mail = sorted(client.mails(), key=lambda each: each["To"] == NEW)
    client.post("/user/not-me", {"token": token_in(notice)})

    assert confirm(client, token, {"token": token_in(mail)}).status_code == 401
    assert client.query("SELECT email FROM users") == [(USER["email"],)]


def test_notices_off(make_mailing):
    """Without notices only the new address gets a mail."""
    client = make_mailing(security_notices="off")
    ask(client, token_of(client.register()))

    assert client.mail()["To"] == NEW


def test_fresh(client, token, clock):
    """A change needs a password given within five minutes."""
    clock.move(301)

    answer = ask(client, token)

    assert (answer.status_code, answer.json["error"]) == (403, "fresh_login_required")


@pytest.mark.parametrize("email", ["a..b@c", "nobody", "a@\u00fc.example", USER["email"], ""])
def test_bad_emails(client, token, email):
    """An email that breaks a rule, or is the user's, is 422."""
    answer = ask(client, token, email)

    (fault,) = answer.json["errors"]
    assert (answer.status_code, fault["field"]) == (422, "email")


def test_another_case(client, token):
    """A user may write the own address in another case."""
    ask(client, token, USER["email"].upper())
    answer = confirm(client, token, {"token": token_in(client.mails()[0])})

    assert answer.json["user"]["email"] == USER["email"].upper()


def test_limit(client, token):
    """One address gets five mails an hour, whoever asks."""
    answers = [ask(client, token) for _ in range(6)]

    assert statuses(*answers) == [202] * 5 + [429]


def test_limit_of_a_user(make_mailing):
    """A user has ten mails a day to new addresses. More are dropped in silence."""
    client = make_mailing(security_notices="off")
    token = token_of(client.register())
    answers = [ask(client, token, f"new{number}@example.com") for number in range(12)]

    assert statuses(*answers) == [202] * 12
    assert len(client.mails()) == 10


def test_known_browser_stays(client, token, proof):
    """A browser that its user has logged in with stays known."""
    device = cookie_of(confirm(client, token, proof), "device")
    for _ in range(11):
        client.log_in(NEW, password="wrong password")

    answer = client.log_in(NEW, headers={"Cookie": f"device={device}"})
    assert answer.status_code == 200


def test_without_mail(make_client):
    """Without mail the routes are 404."""
    client = make_client()
    token = token_of(client.register())

    answers = [
        ask(client, token),
        confirm(client, token, {"token": "x"}),
        client.request_as(token, "DELETE", "/user/email/pending"),
    ]
    assert statuses(*answers) == [404] * 3
