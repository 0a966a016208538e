"""Mail login: a session by a link or a code that is mailed, in the browser that asked for it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import second_factor
from browsers import (  # noqa: F401 - fixtures
    SETTINGS,
    Browser,
    _browser,
    _client,
    _mail,
    _proof,
    proof_in,
    prove_address,
    refused,
    wrong_code,
)
from conftest import OTHER, USER, attributes_of, cookie_of, token_of
from emails import ask as ask_for_email
from emails import change_password, confirm, mail_to
from mailboxes import (
    _make_mailing,  # noqa: F401 - a fixture
    code_in,
    links_in,
    statuses,
    text_of,
    token_in,
)
from test_statement_faults import KINDS, World, _plan  # noqa: F401 - a fixture

from authapi import Caller, SettingError, features
from authapi.events import Restored
from authapi.features.session_commands import OperatedSessions
from authapi.features.user_management import Users

NOBODY = Caller("", "", "")


def test_login(client, browser, mail, proof):
    """The link or the code of the mail opens a session, in the browser that asked."""
    assert (mail["To"], [page for page, _ in links_in(mail)]) == (USER["email"], ["mail-login"])
    assert all(each in text_of(mail) for each in (USER["username"], "10 minutes"))

    answer = browser.log_in(proof)

    assert (answer.status_code, answer.json["message"]) == (200, "Logged in.")
    assert answer.json["user"]["id"] == 1
    assert {*answer.cookies} == {"jwt", "device", "mail_login"}
    assert browser.cookies["mail_login"] == ""
    assert browser.user["username"] == USER["username"]
    assert client.query("SELECT methods FROM sessions") == [("mail",)]


def test_token_in_the_body(client, browser, mail):
    """A client that keeps the token gets it in the body; the cookie of the login is deleted."""
    answer = browser.log_in({"code": code_in(mail)}, headers={"Authapi-Token": "body"})

    assert {*answer.cookies} == {"mail_login"}
    assert browser.cookies["mail_login"] == ""
    assert client.get_as(answer.json["token"]).status_code == 200


@pytest.mark.parametrize("email", [USER["email"], USER["email"].upper(), "nobody@example.com"])
def test_asking(client, token, email):
    """Whoever is asked for, the answer is one and the same, and has a cookie for ten minutes."""
    answer = Browser(client).ask(email)

    message = "If there is such an account, a mail is on its way."
    assert (answer.status_code, answer.json["message"]) == (202, message)
    assert [mail["To"] for mail in client.mails()] == [USER["email"]] * ("nobody" not in email)
    assert attributes_of(answer, "mail_login") == (1_200, "/", None, True, "Lax", False)


def test_events(client, browser, mail, proof):
    """The log says that somebody asked, whose the address was first proved, and who logged in."""
    browser.log_in(proof)

    assert client.events("event", "user_id", "detail")[1:] == [
        ("mail_login_requested", None, None),
        ("account_claimed", 1, None),
        ("session_revoked", 1, None),
        ("logged_in", 1, None),
    ]


def test_first_proof(client, token, browser, proof):
    """The first proof of an address ends whatever was there before, the password too."""
    browser.log_in(proof)

    assert client.query("SELECT email_verified_at IS NOT NULL FROM users") == [(True,)]
    assert statuses(client.get_as(token), client.log_in()) == [401, 401]


def test_proved_address(client, token, browser, mail, proof):
    """Where the address was proved before, the password and the other sessions stay."""
    prove_address(client)

    assert browser.log_in(proof).status_code == 200
    assert statuses(client.get_as(token), client.log_in()) == [200, 200]
    assert "account_claimed" not in client.events()


def test_used_twice(client, browser, proof):
    """A link or a code counts once, and so does what else is in the mail."""
    cookies = {**browser.cookies}
    assert browser.log_in(proof).status_code == 200

    assert refused(Browser(client, **cookies).log_in(proof))
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]


def test_used_up_by_the_code(browser, mail):
    """Once the code was given, the link does not count."""
    cookie = browser.cookies["mail_login"]
    assert browser.log_in(proof_in(mail, "code")).status_code == 200
    browser.cookies["mail_login"] = cookie

    assert refused(browser.log_in(proof_in(mail, "link")))


@pytest.mark.parametrize("kind", ["link", "code"])
def test_32_at_once(client, browser, mail, kind):
    """One of 32 logins at once with the same link or code opens a session."""
    cookies, proof = {**browser.cookies}, proof_in(mail, kind)

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda _: Browser(client, **cookies).log_in(proof), range(32)))

    assert statuses(*answers).count(200) == 1
    assert {*statuses(*answers)} <= {200, 400, 403, 429, 503}
    assert client.events().count("logged_in") == 1
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]


def test_expired(clock, browser, proof):
    """A link and a code count for ten minutes after they were sent."""
    clock.move(600)

    assert refused(browser.log_in(proof))


def test_slow_relay(client, clock, browser):
    """A mail that was sent late counts for ten minutes from then, in the browser that waits."""
    clock.move(599)
    mail = client.mail()
    clock.move(599)

    assert browser.log_in(proof_in(mail, "link")).status_code == 200


def test_sent_too_late(client, clock, browser):
    """A mail that could not be sent for ten minutes is not sent."""
    clock.move(600)

    assert client.mails() == []


def disable(client, _token):
    client.app.core.of(Users).disable(1, NOBODY)


def log_out_everywhere(client, token):
    assert client.request_as(token, "POST", "/logout", {"everywhere": True}).status_code == 200


def change_email(client, token):
    prove_address(client)
    ask_for_email(client, token)
    body = {"token": token_in(mail_to(client, "new@example.com"))}
    assert confirm(client, token, body).status_code == 200


def reset(client, _token):
    assert client.reset(client.reset_token(USER["email"])).status_code == 200


def delete(client, token):
    assert client.request_as(token, "DELETE", "/user").status_code == 200


def restore(client, _token):
    with client.app.core.database.transaction():
        client.app.core.events.emit(Restored(None, NOBODY))


def end_sessions(client, _token):
    assert client.app.core.of(OperatedSessions).end_of_user(1, NOBODY) == 1


def end_all_sessions(client, _token):
    client.query("DELETE FROM sessions")
    assert [*client.app.core.of(OperatedSessions).end_all(NOBODY)] == [0]


CHANGES = (
    *(change_password, change_email, reset, disable, delete),
    *(log_out_everywhere, end_sessions, end_all_sessions, restore),
)


@pytest.mark.parametrize("change", CHANGES)
def test_what_ends_a_waiting_login(client, token, browser, proof, change):
    """A login that waits ends with a credential, the account, or all sessions of the user."""
    change(client, token)
    sessions = client.query("SELECT count(*) FROM sessions")

    assert refused(browser.log_in(proof))
    assert client.query("SELECT count(*) FROM sessions") == sessions


def disable_and_enable(client, token):
    disable(client, token)
    client.app.core.of(Users).enable(1, NOBODY)


AT_ONCE = (
    *(change_password, disable_and_enable, delete, log_out_everywhere),
    *(end_sessions, end_all_sessions, restore),
)


@pytest.mark.parametrize("change", AT_ONCE)
def test_what_ends_a_login_whose_mail_waits(client, token, browser, change):
    """A mail that was asked for before such a change is not sent after it; one of later is."""
    assert client.ask_for_reset(USER["email"]).status_code == 202
    change(client, token)

    assert client.mails() == []
    if change is not delete:
        browser.ask()
        assert browser.log_in({"code": code_in(client.mail())}).status_code == 200


def test_lock_ends_a_waiting_login(make_mailing):
    """A user who says of a notice that it was not them ends the logins that wait."""
    client = make_mailing(mail_login="on")
    client.register()
    prove_address(client)
    client.log_in()
    notice = client.mail()
    browser = Browser(client)
    browser.ask()
    link = proof_in(client.mail(), "link")

    assert client.post("/user/not-me", {"token": token_in(notice)}).status_code == 200

    assert refused(browser.log_in(link))


def test_disabled_user(client, token):
    """A disabled user is answered as anybody is, and gets no mail."""
    disable(client, token)

    assert Browser(client).ask().status_code == 202
    assert client.mails() == []


def test_login_csrf(client, other):
    """A victim who opens the link of an attacker, or types their code, is not logged in as them."""
    attacker, victim = Browser(client), Browser(client)
    attacker.ask(OTHER["email"])
    theirs = client.mail()
    for waits in (False, True):
        if waits:
            victim.ask()
        for kind in ("link", "code"):
            answer = victim.log_in(proof_in(theirs, kind))
            assert answer.json["error"] in {"other_browser", "wrong_code"}
    assert victim.user is None

    forged = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    assert victim.ask(OTHER["email"], headers=forged).status_code == 403
    assert victim.log_in(proof_in(client.mail(), "link")).status_code == 200
    assert victim.user["id"] == 1


def test_nobody_ends_the_login_of_another(client, browser, mail, proof):
    """However often others ask for the same address, the mail of this browser counts."""
    for _ in range(4):
        Browser(client).ask()
    client.mails()

    assert browser.log_in(proof).status_code == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_scanner(client, browser, mail, method):
    """A scanner that opens each link, and posts what it finds there, uses nothing up."""
    link, code = token_in(mail), code_in(mail)
    before = client.query("SELECT * FROM one_time_tokens")
    for path in ("/login/mail", "/login/mail/verify", "/mail-login"):
        answer = client.simulate_request(method, path, query_string=f"token={link}&code={code}")
        assert answer.status_code in {200, 401, 404, 405}
    for body in ({"token": link}, {"code": code}):
        assert client.post("/login/mail/verify", body).status_code == 409

    assert client.query("SELECT * FROM one_time_tokens") == before
    assert browser.log_in({"token": link}).status_code == 200


def test_session_of_another_user(client, other):
    """A login by mail ends the session that the browser has, also of another user."""
    browser = Browser(client, jwt=other)
    browser.ask()

    assert browser.log_in(proof_in(client.mail(), "link")).status_code == 200

    assert browser.user["id"] == 1
    assert client.get_as(other).status_code == 401


def test_fresh(client, clock, browser, mail, proof):
    """The session is fresh, for users without a password too; another login makes it so again."""
    browser.log_in(proof)
    rename = {"username": "frodo"}
    token = browser.cookies["jwt"]
    assert client.request_as(token, "PATCH", "/user", rename).status_code == 200
    clock.move(301)
    assert client.request_as(token, "PATCH", "/user", {"username": "sam"}).status_code == 403

    browser.ask()
    browser.log_in(proof_in(client.mail(), "link"))

    answer = client.request_as(browser.cookies["jwt"], "PATCH", "/user", {"username": "sam"})
    assert answer.status_code == 200
    assert client.get_as(token).status_code == 401


def test_second_factor(make_mailing):
    """A login by mail passes no second factor: it is asked for, and the link is used up."""
    client = make_mailing(**SETTINGS, features=(*features.DEFAULT, second_factor))
    token = token_of(client.register())
    prove_address(client)
    client.request_as(token, "POST", "/factors", {"code": second_factor.CODE})
    browser = Browser(client)
    browser.ask()
    link = proof_in(client.mail(), "link")
    cookie = browser.cookies["mail_login"]

    asked = browser.log_in(link)

    assert (asked.status_code, asked.json["error"]) == (401, "second_factor_required")
    assert {*asked.cookies} == {"login"}
    assert refused(Browser(client, mail_login=cookie).log_in(link))
    answer = browser.post("/login/second", {"code": second_factor.CODE})
    assert answer.json["message"] == "Logged in."
    vault = client.get_as(token_of(answer), "/vault")
    assert vault.json == {"methods": ["mail", "otp"], "aal": 2}


def test_known_browser(make_mailing):
    """What others ask for and guess keeps no owner from a login with a known browser."""
    client = make_mailing(**SETTINGS, mail_address_limit="12/hour", login_account_limit="2/hour")
    client.register()
    prove_address(client)
    device = cookie_of(client.log_in(), "device")
    attacker = Browser(client)
    asked = [attacker.ask() for _ in range(13)]
    guessed = [attacker.log_in({"code": "wrong"}) for _ in range(3)]
    assert (asked[-1].status_code, guessed[-1].status_code) == (429, 429)
    assert len(client.mails()) == 10  # those of a day
    browser = Browser(client, device=device)

    assert browser.ask().status_code == 202
    assert browser.log_in(proof_in(client.mail(), "code")).status_code == 200


@pytest.mark.parametrize("email", [USER["email"], "nobody@example.com"])
def test_flood(client, token, email):
    """An address gets five mails an hour, and is answered alike whether or not it is a user's."""
    answers = [Browser(client).ask(email) for _ in range(6)]

    assert statuses(*answers) == [202] * 5 + [429]
    assert not answers[-1].cookies


def test_wrong_links(client, token):
    """A wrong link is 400, a failed login, and takes a try of the network."""
    answers = [client.post("/login/mail/verify", {"token": link}) for link in ("", "\U0001f9d9")]

    assert {answer.json["error"] for answer in answers} == {"invalid_link"}
    assert client.events("event", "detail")[1:] == [("login_failed", "invalid_link")] * 2


def test_link_of_another_purpose(client, browser, mail):
    """The link of a reset logs nobody in, and that of a login resets no password."""
    reset_link = client.reset_token(USER["email"])

    assert browser.log_in({"token": reset_link}).json["error"] == "invalid_link"
    assert client.reset(token_in(mail)).json["error"] == "invalid_link"
    assert browser.log_in({"token": token_in(mail)}).status_code == 200


def test_bodies(client):
    """What is no email is 422, whoever has it as a username, and so are both a link and a code."""
    for email in (USER["username"], "", "a\0@b", "x" * 251 + "@a.b", 1):
        assert client.post("/login/mail", {"email": email}).status_code == 422
    for body in ({}, {"token": "a", "code": "b"}, {"code": 1}, {"token": "a", "next": "/"}):
        assert client.post("/login/mail/verify", body).status_code == 422
    assert client.post("/login/mail", {"email": "a@b.c", "redirectTo": "d"}).status_code == 422


def test_email_that_a_rule_refuses_today(client, token):
    """A user with an email of before a rule can log in by it."""
    client.query("UPDATE users SET email = 'a..b@x.io', email_key = 'a..b@x.io'")
    browser = Browser(client)
    assert browser.ask("a..b@x.io").status_code == 202

    assert browser.log_in(proof_in(client.mail(), "link")).status_code == 200


def test_user_without_a_password(client, token, browser, proof):
    """A user who has no password logs in by mail."""
    client.query("UPDATE users SET password_hash = NULL")

    assert browser.log_in(proof).status_code == 200


def test_language_and_host(client, token):
    """The mail is in the browser's language, and no link is made of a request's Host."""
    headers = {"Accept-Language": "de", "Host": "evil.example", "X-Forwarded-Host": "evil"}
    Browser(client).ask(headers=headers)

    mail = client.mail()
    assert mail["Subject"].startswith("Anmeldung")
    assert "evil" not in mail.as_string()


@pytest.mark.parametrize("settings", [{}, {"mail_login": "off"}])
def test_off(make_mailing, settings):
    """Unless it is on, the routes are 404."""
    client = make_mailing(**settings)

    assert client.post("/login/mail", {"email": USER["email"]}).status_code == 404
    assert client.post("/login/mail/verify", {"code": "1"}).status_code == 404


def test_on_without_mail(make_client):
    """Turned on without a relay it stops the start, with the setting that is missing."""
    with pytest.raises(SettingError, match="AUTHAPI_MAIL_URL"):
        make_client(mail_login="on")


@pytest.mark.sqlite("a search of the database file")
def test_no_secret_is_stored(client, browser, mail, tmp_path, caplog):
    """Neither link nor cookie is in the database or the log, nor the code in the audit log."""
    caplog.set_level(0)
    link, code, cookie = token_in(mail), code_in(mail), browser.cookies["mail_login"]
    browser.log_in({"code": code})

    stored = b"".join(path.read_bytes() for path in tmp_path.glob("authapi.db*"))
    assert USER["email"].encode() in stored
    for secret in (link, cookie):
        assert secret.encode() not in stored
        assert secret not in caplog.text
    assert not client.query("SELECT * FROM audit_log WHERE detail LIKE ?", f"%{code}%")


def test_where_it_was_asked_for(client, token):
    """The mail names the browser of the request, and its address, or a hyphen without one."""
    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
    Browser(client).ask(headers={"User-Agent": firefox})

    text = text_of(client.mail())

    assert "Address: -" in text
    assert "Browser: Firefox" in text
