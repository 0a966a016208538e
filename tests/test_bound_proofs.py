"""Bound proofs: the link or the code of a mail, given in the browser that asked for the mail."""

import pytest
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
from conftest import OTHER, USER, cookie_of
from mailboxes import _make_mailing, statuses  # noqa: F401 - a fixture

pytest_plugins = ("operator_fixtures",)


def test_another_browser(client, browser, mail, proof):
    """In a browser that did not ask, a link and a code open nothing and use nothing up."""
    for _ in range(6):
        answer = Browser(client).log_in(proof)
        assert (answer.status_code, answer.json["error"]) == (409, "other_browser")
        assert answer.json["message"] == (
            "Use the browser that asked for it, or type the code there."
        )
        assert not answer.cookies

    assert browser.log_in(proof).status_code == 200


def test_another_asking_browser(client, browser, mail, proof):
    """A browser that asked for a mail of the same user cannot use the link or code of this one."""
    prove_address(client)
    attacker, cookies = Browser(client), {**browser.cookies}
    attacker.ask()
    theirs = client.mail()

    answers = [attacker.log_in(proof) for _ in range(6)]
    assert {answer.json["error"] for answer in answers} <= {"other_browser", "wrong_code"}

    assert browser.log_in(proof).status_code == 200
    assert Browser(client, **cookies).log_in(proof_in(theirs, "link")).status_code == 409


def test_asking_twice(client, browser, mail):
    """In a browser that asked twice, both links count, and the newer code."""
    browser.ask()
    newer = client.mail()

    assert browser.log_in(proof_in(mail, "code")).status_code == 403
    twin = Browser(client, **browser.cookies)
    assert browser.log_in(proof_in(mail, "link")).status_code == 200
    prove_address(client)
    assert refused(twin.log_in(proof_in(newer, "code")))


def test_tries_of_a_code(browser, mail):
    """After five wrong codes the code is dead; the link is not."""
    answers = [browser.log_in(wrong_code(mail)) for _ in range(5)]

    assert statuses(*answers) == [403] * 5
    assert refused(browser.log_in(proof_in(mail, "code")))
    assert browser.log_in(proof_in(mail, "link")).status_code == 200


@pytest.mark.parametrize("email", [USER["email"], "nobody@example.com"])
def test_codes_for_one_address(client, token, email):
    """Ten wrong codes an hour are taken for one address, whether or not it is a user's."""
    answers = []
    for _ in range(3):
        attacker = Browser(client)
        attacker.ask(email)
        answers += [attacker.log_in({"code": "wrong"}) for _ in range(4)]

    assert statuses(*answers) == [403] * 10 + [429] * 2
    assert answers[-1].headers["ratelimit-policy"] == '"mail-code";q=10;w=3600'
    another = Browser(client)
    another.ask("other@example.com")
    assert another.log_in({"code": "wrong"}).status_code == 403


def test_codes_in_a_row(make_mailing):
    """After many wrong codes in a row for an address, a link is needed; then codes count again."""
    client = make_mailing(**SETTINGS, login_lockout=3, login_account_limit="99/hour")
    client.register()
    attacker, browser = Browser(client), Browser(client)
    attacker.ask()
    client.mail()
    answers = [attacker.log_in({"code": "wrong"}) for _ in range(4)]
    browser.ask()
    mail = client.mail()

    answer = browser.log_in(proof_in(mail, "code"))

    assert statuses(*answers, answer) == [403, 403, 403, 429, 429]
    assert "Open the link of the mail" in answer.json["message"]
    assert browser.log_in(proof_in(mail, "link")).status_code == 200
    browser.cookies.pop("device")
    browser.ask()
    assert browser.log_in(proof_in(client.mail(), "code")).status_code == 200


@pytest.mark.parametrize("email", [USER["email"], "nobody@example.com"])
def test_unlock(operate, client, browser, monkeypatch, email):
    """An operator clears the wrong codes for an address, whether or not it is a user's."""
    settings = client.app.core.settings
    for name in ("mail_login", "mail_url", "mail_from", "pages_url"):
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", getattr(settings, name))
    browsers = [Browser(client) for _ in range(3)]
    for each in browsers:
        each.ask(email)
    answers = [each.log_in({"code": "wrong"}) for each in browsers for _ in range(4)]

    unlocked = operate("user", "unlock", email)

    assert (statuses(*answers), unlocked[1]) == ([403] * 10 + [429] * 2, "Unlocked.\n")
    assert browsers[-1].log_in({"code": "wrong"}).status_code == 403


def test_network_without_tries(make_mailing):
    """A known browser logs in from a network that has no tries left."""
    client = make_mailing(**SETTINGS, login_network_limit="2/hour")
    client.register()
    prove_address(client)
    browser = Browser(client, device=cookie_of(client.log_in(), "device"))
    browser.ask()
    answers = [client.post("/login/mail/verify", {"token": "wrong"}) for _ in range(2)]

    assert statuses(*answers) == [400, 429]
    assert browser.log_in(proof_in(client.mail(), "link")).status_code == 200


@pytest.mark.parametrize("value", ["", "1.x", "{}", "{}x", "{};mail_login={}", "{};mail_login=x"])
def test_cookies(client, browser, mail, value):
    """A cookie counts as it was set, beside others that are not ours; two of ours do not."""
    other = Browser(client)
    other.ask("nobody@example.com")
    good, another = browser.cookies["mail_login"], other.cookies["mail_login"]
    line = f"mail_login={value.replace('{}', good, 1).replace('{}', another)}"

    body = proof_in(mail, "link")
    answer = client.post("/login/mail/verify", body, headers={"Cookie": line})

    expected = 200 if value in {"{}", "{};mail_login=x"} else 409
    assert answer.status_code == expected


def test_two_processes(make_mailing, browser, mail, proof):
    """A link or a code counts in another process of the service too."""
    elsewhere = Browser(make_mailing(**SETTINGS), **browser.cookies)

    assert elsewhere.log_in(proof).status_code == 200


def test_wrong_codes_of_another_address(client, token):
    """A login by the link of an older mail to another address clears no wrong codes."""
    client.register(**OTHER)
    attacker = Browser(client)
    attacker.ask(OTHER["email"])
    own = client.mail()
    attacker.ask()
    client.mail()
    attacker.log_in({"code": "wrong"})
    kept = "SELECT count(*) FROM limits WHERE key LIKE 'mail-code%'"

    assert attacker.log_in(proof_in(own, "link")).status_code == 200
    assert client.query(kept) == [(1,)]


def test_cookie_expires(client, browser, clock):
    """After 20 minutes the cookie of a browser counts no more, and a new one is another's."""
    cookies = {**browser.cookies}
    clock.move(1_201)
    browser.ask()
    link = proof_in(client.mail(), "link")

    assert Browser(client, **cookies).log_in(link).status_code == 409
    assert browser.log_in(link).status_code == 200


def test_unlock_of_known_browsers(operate, client, token, monkeypatch):
    """An unlock clears the wrong codes of a user's own browsers, and those of the address."""
    settings = client.app.core.settings
    for name in ("mail_login", "mail_url", "mail_from", "pages_url"):
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", getattr(settings, name))
    known = Browser(client, device=cookie_of(client.log_in(), "device"))
    for browser in (known, Browser(client)):
        browser.ask()
        browser.log_in({"code": "wrong"})
    kept = "SELECT count(*) FROM limits WHERE key LIKE 'mail-code%'"
    assert client.query(kept) == [(2,)]

    assert operate("unlock", USER["email"])[0] == 0

    assert client.query(kept) == [(0,)]
