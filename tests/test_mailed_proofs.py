"""Mailed proofs: the link or the code of a mail, given in a session of the user who got it."""

import pytest
from conftest import OTHER, USER, token_of
from mailboxes import _make_mailing, code_in, statuses, token_in  # noqa: F401 - a fixture


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing(email_verification="optional", security_notices="off")


@pytest.fixture(name="mail")
def _mail(client, token):
    """Return the mail that follows the registration of the token's user."""
    return client.mail()


def verify(client, token, body):
    return client.request_as(token, "POST", "/user/email/verify", body)


def test_tries_of_a_code(client, token, mail):
    """After five wrong codes the right one does not count; the link does."""
    right = code_in(mail)
    wrong = f"{(int(right) + 1) % 1_000_000:06}"
    answers = [verify(client, token, {"code": code}) for code in (*[wrong] * 5, right)]

    assert [answer.json["error"] for answer in answers] == ["wrong_code"] * 6
    assert verify(client, token, {"token": token_in(mail)}).status_code == 200


def test_wrong_proofs_are_failed_logins(client, token):
    """A wrong proof is in the audit log, and takes a try of the passwords given in sessions."""
    wrong = [{"token": "x"}, {"code": "x"}] * 5
    answers = [verify(client, token, body) for body in [*wrong, wrong[0]]]

    assert statuses(*answers) == [400, 403] * 5 + [429]
    failed = [("login_failed", "invalid_link"), ("login_failed", "wrong_code")]
    assert client.events("event", "detail")[-10:] == failed * 5


@pytest.mark.parametrize("body", [{}, {"token": "a", "code": "b"}, {"token": None}])
def test_one_proof(client, token, body):
    """A body has a token or a code."""
    answer = verify(client, token, body)

    (fault,) = answer.json["errors"]
    assert (answer.status_code, fault["field"]) == (422, "token")


def test_code_of_another_session(client, token, mail):
    """A code counts in each session of its user, on another device too."""
    session = token_of(client.log_in())

    assert verify(client, session, {"code": code_in(mail)}).status_code == 200


@pytest.mark.parametrize("text", ["", "12345", "1234567", "\U0001f9d9", "\x00", "\uff11" * 6])
def test_texts_that_are_no_code(client, token, mail, text):
    """Any other text is a wrong code, or a wrong link."""
    assert verify(client, token, {"code": text}).json["error"] == "wrong_code"
    assert verify(client, token, {"token": text}).json["error"] == "invalid_link"


def test_link_of_a_reset(client, token, mail):
    """The link of another purpose does not count, even in a session of its user."""
    link = client.reset_token(USER["email"])

    assert verify(client, token, {"token": link}).json["error"] == "invalid_link"
    assert client.reset(token_in(mail)).json["error"] == "invalid_link"


def test_link_of_another_user(client, token, mail):
    """A link counts in no session of another user, whoever registered first."""
    other = token_of(client.register(**OTHER))
    theirs = client.mail()

    answers = [
        verify(client, session, {"token": token_in(of)})
        for session, of in ((token, theirs), (other, mail))
    ]

    assert [each.json["error"] for each in answers] == ["invalid_link"] * 2
    assert verify(client, other, {"token": token_in(theirs)}).status_code == 200


def test_a_token_that_has_ended_is_not_sent(client, token, caplog):
    """A mail whose token has ended while it waited is not sent, and is no fault."""
    client.query("DELETE FROM one_time_tokens")

    assert client.mails() == []
    assert client.query("SELECT count(*) FROM outbox") == [(0,)]
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []
