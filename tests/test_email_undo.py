"""Email undo: the owner of a user's old address takes the account back by a mailed link."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import OTHER, USER, token_of
from emails import NEW, ask, change_password, confirm, email_of, mail_to
from mailboxes import _make_mailing, links_in, statuses, token_in  # noqa: F401 - a fixture

HOURS = 3_600  # seconds


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing(security_notices="off")


def change(client, token, email=NEW):
    """Change the email of a session's user; return the session's new token."""
    ask(client, token, email)
    return token_of(confirm(client, token, {"token": token_in(mail_to(client, email))}))


@pytest.fixture(name="changed")
def _changed(client, token):
    """Return the token of a session whose user has another email."""
    return change(client, token)


@pytest.fixture(name="link")
def _link(client, changed):
    """Return the token of the link to the old address."""
    return token_in(mail_to(client, USER["email"]))


def undo(client, link):
    return client.post("/user/email/undo", {"token": link})


def pages_in(message):
    return [page for page, _ in links_in(message)]


def emails(client):
    return [email for (email,) in client.query("SELECT email FROM users ORDER BY id")]


def test_undoing(client, changed, link):
    """The link restores the address, ends every session and the password, and mails a reset."""
    answer = undo(client, link)

    assert (answer.status_code, answer.json["user"]) == (200, None)
    assert answer.json["message"] == (
        "Email restored. Set a new password by the mail that we sent."
    )
    assert emails(client) == [USER["email"]]
    assert statuses(client.get_as(changed), client.log_in(), client.log_in(NEW)) == [401] * 3
    reset = mail_to(client, USER["email"])
    assert [page for page, _ in links_in(reset)] == ["reset"]
    assert client.reset(token_in(reset), "the owner's password").status_code == 200
    assert client.log_in(USER["email"], "the owner's password").status_code == 200
    assert {"email_restored", "account_locked"} <= {*client.events()}


def test_used_twice(client, link):
    """The link counts once."""
    undo(client, link)

    answer = undo(client, link)

    assert (answer.status_code, answer.json["error"]) == (400, "invalid_link")


@pytest.mark.parametrize(("hours", "status"), [(71, 200), (73, 400)])
def test_expired(client, clock, link, hours, status):
    """The link counts for 72 hours."""
    clock.move(hours * HOURS)

    assert undo(client, link).status_code == status


def test_after_a_password_change(client, changed, link):
    """A thief of the account cannot end the link by another password."""
    change_password(client, changed)

    assert undo(client, link).status_code == 200


def test_many_at_once(client, link):
    """One of 32 requests at once succeeds."""
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: undo(client, link), range(32)))

    assert sorted(statuses(*answers))[:2] == [200, 400]
    assert client.events().count("email_restored") == 1


def test_changed_twice(client, token):
    """The oldest address undoes all changes; the links of later ones end with it."""
    client.query("UPDATE users SET email_verified_at = 1")
    changed = change(client, token)
    link = token_in(mail_to(client, USER["email"]))
    change(client, changed, "third@example.com")
    later = token_in(mail_to(client, NEW))

    assert undo(client, link).status_code == 200
    assert undo(client, later).json["error"] == "invalid_link"
    assert emails(client) == [USER["email"]]


def test_undone_by_the_thief(client, changed, link):
    """A thief who changed the email twice cannot end the owner's link by undoing the second."""
    change(client, changed, "third@example.com")
    assert undo(client, token_in(mail_to(client, NEW))).status_code == 200
    assert emails(client) == [NEW]

    assert undo(client, link).status_code == 200
    assert emails(client) == [USER["email"]]


def test_squatted(client, link):
    """An account that took the old address without a proof loses it, and nothing else."""
    squatter = token_of(client.register(**{**OTHER, "email": USER["email"].upper()}))

    assert undo(client, link).status_code == 200
    restored, withdrawn = emails(client)
    assert (restored, withdrawn.endswith("@email.invalid")) == (USER["email"], True)
    assert client.get_as(squatter).status_code == 401
    session = token_of(client.log_in(OTHER["username"], OTHER["password"]))
    change(client, session, "honest@example.com")
    assert emails(client) == [USER["email"], "honest@example.com"]
    assert "email_withdrawn" in client.events()


def test_links_of_a_squatter(make_mailing):
    """The links that the squatter was sent at the old address end."""
    client = make_mailing(email_verification="optional")
    token = token_of(client.register())
    client.mails()
    change(client, token)
    (link,) = [token_in(each) for each in client.mails() if pages_in(each) == ["undo-email"]]
    client.register(**{**OTHER, "email": USER["email"]})
    client.log_in(OTHER["username"], OTHER["password"])
    links = [links_in(each)[0] for each in client.mails()]
    assert [page for page, _ in links] == ["verify-email", "not-me"]

    undo(client, link)

    session = token_of(client.log_in(OTHER["username"], OTHER["password"]))
    verified = client.request_as(session, "POST", "/user/email/verify", {"token": links[0][1]})
    locked = client.post("/user/not-me", {"token": links[1][1]})
    assert statuses(verified, locked) == [400, 400]


def test_notices_of_a_thief(make_mailing):
    """The links of notices that went to the new address end."""
    client = make_mailing()
    changed = change(client, token_of(client.register()))
    undoing = [each for each in client.mails() if each["To"] == USER["email"]]
    client.request_as(changed, "PATCH", "/user", {"username": "thief"})
    notice = client.mail()
    assert notice["To"] == NEW

    (link,) = [token_in(each) for each in undoing if pages_in(each) == ["undo-email"]]
    assert undo(client, link).status_code == 200
    assert client.post("/user/not-me", {"token": token_in(notice)}).status_code == 400


def test_taken_with_a_proof(client, changed, link):
    """An account whose owner has proved the old address keeps it."""
    client.register(**{**OTHER, "email": USER["email"]})
    client.query("UPDATE users SET email_verified_at = 1 WHERE username = ?", OTHER["username"])

    answer = undo(client, link)

    assert (answer.status_code, answer.json["error"]) == (409, "email_taken")
    assert email_of(client, changed) == NEW


def test_claim(client, link):
    """Undoing proves an address that was never proved, and claims the account."""
    undo(client, link)

    assert "account_claimed" in client.events()


def test_no_claim(client, token):
    """An address that was proved before is not claimed again."""
    client.query("UPDATE users SET email_verified_at = 1")
    change(client, token)

    undo(client, token_in(mail_to(client, USER["email"])))

    assert "account_claimed" not in client.events()


def test_wrong_links(make_mailing):
    """A wrong link is a failed login, and takes a try of its network."""
    client = make_mailing(login_network_limit="2/hour")

    answers = [undo(client, wrong) for wrong in ("", "wrong", "\U0001f9d9")]

    assert statuses(*answers) == [400, 400, 429]
    assert client.events("event", "detail") == [("login_failed", "invalid_link")] * 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_by_get(client, changed, link, method):
    """A link that a scanner opens changes nothing."""
    answer = client.simulate_request(method, f"/user/email/undo?token={link}")

    assert (answer.status_code, email_of(client, changed)) == (405, NEW)


def test_without_mail(make_client):
    """Without mail the route is 404."""
    assert undo(make_client(), "x").status_code == 404
