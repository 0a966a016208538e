"""Security notices: a mail says what happened to the account, and its link locks the account."""

import pytest
from conftest import OTHER, USER, cookie_of, token_of
from mailboxes import _make_mailing, links_in, statuses, text_of, token_in  # noqa: F401 - a fixture

from authapi import Caller
from authapi.features.user_management import Users

NEW = "another password"
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0"
NOBODY = Caller("", "", "")


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing()


def change_password(client, token, new=NEW, **options):
    body = {"current_password": USER["password"], "new_password": new}
    return token_of(client.request_as(token, "PUT", "/user/password", body, **options))


def say_not_me(client, token):
    return client.post("/user/not-me", {"token": token})


def subjects(client):
    return [message["Subject"] for message in client.mails()]


def test_password_change(client, token):
    """A password change is told with its time, address and browser."""
    change_password(client, token, headers={"User-Agent": AGENT})

    message = client.mail()
    text = text_of(message)
    assert message["To"] == USER["email"]
    assert message["Subject"] == "Your password for 127.0.0.1 was changed"
    for part in (USER["username"], "16 August 2022, 10:21 UTC", "127.0.0.1", "Firefox, Linux"):
        assert part in text
    assert [page for page, _ in links_in(message)] == ["not-me"]


def test_reset(client, token):
    """A reset is told, as what it was."""
    client.reset(client.reset_token(USER["email"]))

    assert subjects(client) == ["Your password for 127.0.0.1 was reset"]


def test_rename(client, token):
    """Another username is told, to the address of the user."""
    client.request_as(token, "PATCH", "/user", {"username": "frodo"})

    message = client.mail()
    assert (message["Subject"], "frodo" in text_of(message)) == (
        "Your username at 127.0.0.1 was changed",
        True,
    )


def test_new_login(client, token):
    """A login with a new browser is told, and neither a registration nor a known browser."""
    assert client.mails() == []
    answer = client.log_in()
    assert subjects(client) == ["New login to 127.0.0.1"]

    client.log_in(headers={"Cookie": f"device={cookie_of(answer, 'device')}"})

    assert client.mails() == []
    details = client.events("event", "detail")
    assert details == [
        ("registered", "new_browser"),
        ("logged_in", "new_browser"),
        ("logged_in", None),
    ]


def test_browser_of_another_user(client, token):
    """A browser that only another user has logged in with is a new one."""
    others = cookie_of(client.register(**OTHER), "device")

    client.log_in(headers={"Cookie": f"device={others}"})

    assert client.mail()["To"] == USER["email"]


def test_proof_in_a_session(client, token):
    """A password given in a session is no new login."""
    client.reauthenticate(token)

    assert client.mails() == []


def test_locked_out(make_mailing):
    """A user who is locked out is told, without a link; for a name of nobody no mail is sent."""
    client = make_mailing(login_lockout=2)
    client.register()
    for name in (USER["username"], "nobody"):
        for _ in range(2):
            client.log_in(name, "wrong password")

    message = client.mail()

    assert message["Subject"] == "Too many wrong passwords at 127.0.0.1"
    assert links_in(message) == []


@pytest.mark.parametrize("by", ["user", "operator"])
def test_deleted_user(client, token, by):
    """A deleted user is told at the address that the account had."""
    if by == "user":
        client.request_as(token, "DELETE", "/user")
    else:
        client.app.core.of(Users).delete(1, NOBODY)

    message = client.mail()

    assert message["To"] == USER["email"]
    assert message["Subject"] == "Your account at 127.0.0.1 was deleted"


def test_not_me(client, token):
    """The link of a notice ends the password and every session, and mails a link to set another."""
    stolen = token_of(client.log_in())
    changed = change_password(client, stolen)
    _, notice = client.mails()

    answer = say_not_me(client, token_in(notice))

    assert (answer.status_code, answer.json["user"]) == (200, None)
    assert answer.json["message"] == "Locked. Set a new password by the mail that we sent."
    assert statuses(*map(client.get_as, (token, stolen, changed))) == [401] * 3
    assert statuses(client.log_in(), client.log_in(password=NEW)) == [401, 401]
    assert client.reset(token_in(client.mail()), "the owner's password").status_code == 200
    assert client.log_in(password="the owner's password").status_code == 200
    assert "account_locked" in client.events()


def test_after_more_changes(client, token):
    """Whatever an attacker changes after it, the link of a notice counts."""
    change_password(client, token)
    link = token_in(client.mail())
    token = token_of(client.log_in(password=NEW))
    for number in range(12):
        body = {"current_password": NEW, "new_password": NEW}
        token = token_of(client.request_as(token, "PUT", "/user/password", body))
        client.request_as(token, "PATCH", "/user", {"username": f"attacker{number}"})

    assert say_not_me(client, link).status_code == 200


def test_reset_of_the_attacker(client, token):
    """A link that resets the password, asked for before, counts no more after a lock."""
    reset = client.reset_token(USER["email"])
    change_password(client, token)
    say_not_me(client, token_in(client.mail()))

    assert client.reset(reset).json["error"] == "invalid_link"


def test_mails_are_used_up(client, token):
    """The mail after a lock is sent, however many resets others have asked for."""
    change_password(client, token)
    link = token_in(client.mail())
    for number in range(11):
        client.app.core.of(Users).rename(1, f"name{number}", NOBODY)
        client.ask_for_reset(f"name{number}")
        sent = len(client.mails())
    assert sent == 0

    say_not_me(client, link)

    assert [page for page, _ in links_in(client.mail())] == ["reset"]


def test_used_twice(client, token, clock):
    """The link of a notice counts once, for seven days."""
    change_password(client, token)
    link = token_in(client.mail())
    client.log_in(password=NEW)
    late = token_in(client.mail())

    assert statuses(say_not_me(client, link), say_not_me(client, link)) == [200, 400]
    clock.move(7 * 86_400)
    assert say_not_me(client, late).json["error"] == "invalid_link"


def test_other_links(client, token):
    """No link counts at another endpoint than its own, and none is a session's token."""
    reset = client.reset_token(USER["email"])
    client.log_in()
    not_me = token_in(client.mail())

    assert statuses(client.reset(not_me), say_not_me(client, reset)) == [400, 400]
    assert statuses(client.get_as(not_me), say_not_me(client, token)) == [401, 400]
    assert client.reset(reset).status_code == 200
    assert say_not_me(client, token_in(client.mail())).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_by_get(client, token, method):
    """A link that a scanner opens locks nothing."""
    client.log_in()
    link = token_in(client.mail())

    for path in ("/user/not-me", f"/user/not-me?token={link}"):
        assert client.simulate_request(method, path).status_code in {401, 405}

    assert client.get_as(token).status_code == 200
    assert say_not_me(client, link).status_code == 200


def test_many_notices(make_mailing):
    """A user gets ten notices of a kind in a day; those of other kinds come nevertheless."""
    client = make_mailing(login_network_limit="999/hour")
    token = token_of(client.register())
    for _ in range(12):
        client.log_in()
    change_password(client, token)

    found = subjects(client)

    assert len(found) == 11
    assert "Your password for 127.0.0.1 was changed" in found


@pytest.mark.parametrize(("wanted", "count"), [("all", 2), ("security", 1), ("off", 0)])
def test_which_notices(make_mailing, wanted, count):
    """A setting says which notices are mailed."""
    client = make_mailing(security_notices=wanted)
    client.register()

    change_password(client, token_of(client.log_in()))

    assert len(client.mails()) == count


def test_texts_of_strangers(client, token):
    """Nothing that a client sends stands in a mail but its address."""
    agent = "https://evil.example/?Firefox/1 click here to secure your account"
    change_password(client, token, headers={"User-Agent": agent})

    text = client.mail().as_string()

    assert "evil" not in text
    assert "click" not in text


def test_disabled_user(client, token):
    """A disabled user gets no notice."""
    users = client.app.core.of(Users)
    users.disable(1, NOBODY)
    users.rename(1, "frodo", NOBODY)

    assert client.mails() == []


def test_without_mail(make_client):
    """Without a relay the route is 404, and a login says nothing of its browser."""
    client = make_client()
    client.register()
    client.log_in()

    assert client.post("/user/not-me", {}).status_code == 404
    assert client.events("event", "detail")[-1] == ("logged_in", None)
