"""Registration where addresses must be proved: an account exists once its mail was answered."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from browsers import Browser
from conftest import OTHER, USER, token_of
from mailboxes import _make_mailing, code_in, links_in, statuses, text_of, token_in  # noqa: F401 - a fixture
from registrations import (  # noqa: F401 - fixtures
    _browser,
    _client,
    _mail,
    add_unproved,
    browser_of,
    complete,
    users,
    verify,
)
from test_admission import full
from test_statement_faults import KINDS, World, _plan  # noqa: F401 - a fixture

from authapi import Settings, create_app
from authapi.settings import SettingError


@pytest.fixture(name="proof", params=["link", "code"])
def _proof(request, mail):
    """Return the body that gives the mail's link, or its code."""
    return {"token": token_in(mail)} if request.param == "link" else {"code": code_in(mail)}


def test_registering(client, browser, mail, proof):
    """The link or the code of the mail adds the user, whose address is proved, and logs in."""
    assert (mail["To"], users(client)) == (USER["email"], [])

    answer = verify(client, proof, browser)

    assert (answer.status_code, answer.json["message"]) == (201, "User created.")
    assert answer.json["user"]["email_verified"] is True
    assert client.get_as(token_of(answer)).json["user"]["username"] == USER["username"]
    assert answer.cookies["registration"].max_age in {None, 0}
    assert client.log_in().status_code == 200
    assert client.events()[:3] == ["registration_requested", "email_verified", "registered"]


def test_answer_of_a_registration(client):
    """A registration is answered 202 without a session and without a user."""
    answer = client.register()

    assert (answer.status_code, answer.json["message"]) == (202, "Check your mail.")
    assert (answer.json["user"], [*answer.cookies]) == (None, ["registration"])
    assert client.log_in().status_code == 401


def test_taken_username(client):
    """A taken username is refused, whoever has the address: usernames are public."""
    complete(client)

    for email in (USER["email"], OTHER["email"]):
        answer = client.register(email=email)
        assert (answer.status_code, answer.json["error"]) == (409, "username_taken")
    assert client.mails() == []


def test_faults(client):
    """The rules are those of other registrations, and of a proof with exactly one of two fields."""
    fields = {"username": "a b", "email": "no", "password": "short"}
    faults = client.register(**fields).json["errors"]
    assert [each["field"] for each in faults] == [*fields]

    for body in ({}, {"token": "x", "code": "1"}, {"token": "x", "username": "a b"}):
        assert verify(client, body).status_code == 422


def test_used_twice(client, browser, proof):
    """A link or a code counts once."""
    assert verify(client, proof, browser).status_code == 201

    answer = verify(client, proof, browser)

    assert answer.json["error"] in {"invalid_link", "wrong_code"}
    assert len(users(client)) == 1


def test_last_second(client, clock, browser, proof):
    """A link and a code count for a day after they were sent."""
    clock.move(86_399)

    assert verify(client, proof, browser).status_code == 201


def test_expired(client, clock, browser, proof):
    """A link and a code do not count after a day."""
    clock.move(86_400)

    assert verify(client, proof, browser).json["error"] in {"invalid_link", "wrong_code"}
    assert users(client) == []


def test_many_at_once(client, browser, proof):
    """One of 32 requests at once with a link or a code adds the user."""
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: verify(client, proof, browser), range(32)))

    assert statuses(*answers).count(201) == 1
    assert {*statuses(*answers)} <= {201, 400, 403, 429, 503}
    assert len(users(client)) == 1


def test_link_in_another_browser(client, mail):
    """A link in another browser needs the password that was chosen."""
    token, other = token_in(mail), browser_of(client.register(**OTHER))

    without = [verify(client, {"token": token}, each) for each in (None, other)]
    wrong = verify(client, {"token": token, "password": "wrong password"})
    right = verify(client, {"token": token, "password": USER["password"]})

    assert statuses(*without, wrong, right) == [409, 409, 403, 201]
    errors = [each.json["error"] for each in (*without, wrong)]
    assert errors == ["other_browser", "other_browser", "wrong_password"]


def test_token_in_the_body(client, mail):
    """A client without cookies completes a registration by the link and the password."""
    body = {"token": token_in(mail), "password": USER["password"]}

    answer = verify(client, body, {"Authapi-Token": "body"})

    assert (answer.status_code, [*answer.cookies]) == (201, ["registration"])
    bearer = {"Authorization": f"Bearer {answer.json['token']}"}
    assert client.simulate_get("/user", headers=bearer).status_code == 200


def test_code_in_another_browser(client, mail):
    """A code counts in the browser that registered alone."""
    other = browser_of(client.register(**OTHER))

    answers = [verify(client, {"code": code_in(mail)}, each) for each in (None, other)]

    assert [each.json["error"] for each in answers] == ["other_browser", "wrong_code"]
    assert users(client) == []


def test_username_taken_meanwhile(client, browser, proof):
    """The proof counts with another username and the password, where the first name was taken."""
    complete(client, email=OTHER["email"])
    other = {**proof, "username": "another"}

    refused = verify(client, proof, browser)
    wrong = verify(client, {**other, "password": "wrong password"}, browser)
    answer = verify(client, {**other, "password": USER["password"]}, browser)

    assert (refused.status_code, refused.json["error"]) == (409, "username_taken")
    assert (wrong.status_code, wrong.json["error"]) == (403, "wrong_password")
    assert (answer.status_code, answer.json["user"]["username"]) == (201, "another")


def test_another_username_is_compared_with_the_password(make_mailing):
    """Another username that the password is made of is refused, and so is one without password."""
    client = make_mailing(email_verification="required", own_name_passwords="refused")
    browser = browser_of(client.register(password="Zebrafisch77"))
    proof = {"code": code_in(client.mail()), "username": "zebrafisch"}

    for body, field in ((proof, "password"), ({**proof, "password": "Zebrafisch77"}, "username")):
        answer = verify(client, body, browser)
        assert (answer.status_code, [each["field"] for each in answer.json["errors"]]) == (
            422,
            [field],
        )
    wrong = verify(client, {**proof, "password": "short"}, browser)
    assert (wrong.status_code, wrong.json["error"]) == (403, "wrong_password")
    other = {**proof, "username": "another", "password": "Zebrafisch77"}
    assert verify(client, other, browser).status_code == 201


def test_closed(make_mailing):
    """Neither route adds a user where registration is closed."""
    client = make_mailing(email_verification="required", registration="closed")

    answers = [client.register(), verify(client, {"token": "x"})]

    assert [each.json["error"] for each in answers] == ["registration_closed"] * 2


def test_closed_with_mails_waiting(make_mailing, clock):
    """Mails of registrations wait while registration is closed, and are sent if it opens."""
    client = make_mailing(email_verification="required")
    browser = browser_of(client.register())
    url = client.app.core.settings.database_url
    closed = make_mailing(email_verification="required", registration="closed", database_url=url)

    assert closed.mails() == []
    clock.move(3_600)

    proof = {"code": code_in(client.mail())}
    assert verify(closed, proof, browser).json["error"] == "registration_closed"
    assert verify(client, proof, browser).status_code == 201


def test_places(client, browser, mail):
    """A link or a code takes no place of those who hash, unless a password goes with it."""
    token = token_in(mail)
    with full(client):
        refused = verify(client, {"token": token, "password": USER["password"]})
        assert (refused.status_code, refused.json["error"]) == (503, "overloaded")
        assert verify(client, {"token": token}).json["error"] == "other_browser"
        assert verify(client, {"code": code_in(mail)}, browser).status_code == 201


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_by_get(client, browser, mail, method):
    """A link that a scanner opens, even in the browser, changes nothing."""
    path = f"/register/verify?token={token_in(mail)}"

    answer = client.simulate_request(method, path, headers=browser)

    assert (answer.status_code, users(client)) == (405, [])


def test_unproved_user(make_mailing):
    """Users of before who have not proved the address log in after a reset, which proves it."""
    client = make_mailing(email_verification="required")
    add_unproved(client)

    answer = client.log_in()
    assert (answer.status_code, answer.json["error"]) == (403, "email_not_verified")
    assert client.log_in(password="wrong password").status_code == 401
    assert client.events("event", "detail")[0] == ("login_failed", "email_not_verified")

    client.reset(client.reset_token(USER["email"]))
    assert client.log_in(password="a better password").status_code == 200


def test_mail_login_of_an_unproved_user(make_mailing):
    """A login by mail proves the address, and so is not refused."""
    client = make_mailing(email_verification="required", mail_login="on")
    add_unproved(client)
    browser = Browser(client)
    browser.ask()

    assert browser.log_in({"code": code_in(client.mail())}).status_code == 200
    assert browser.user["email_verified"] is True


def test_sessions_of_unproved_users(make_mailing):
    """Sessions that are open when the operator requires proofs go on, and prove the address."""
    client = make_mailing(email_verification="optional")
    token = token_of(client.register())
    proof = {"code": code_in(client.mail())}
    url = client.app.core.settings.database_url
    after = make_mailing(email_verification="required", database_url=url)

    assert after.log_in().status_code == 403
    assert after.request_as(token, "POST", "/user/email/verify", proof).status_code == 200
    assert after.log_in().status_code == 200


def test_without_mail(tmp_path):
    """A start that requires proofs without mail is refused, and names both settings."""
    with pytest.raises(SettingError, match=r"AUTHAPI_EMAIL_VERIFICATION.*AUTHAPI_MAIL_URL"):
        create_app(
            Settings(email_verification="required", database_url=f"sqlite:///{tmp_path}/a.db")
        )


@pytest.mark.parametrize("mode", ["off", "optional"])
def test_off(make_mailing, mode):
    """A registration adds the user where proofs are not required, and the other route is 404."""
    client = make_mailing(email_verification=mode)

    assert client.register().status_code == 201
    assert verify(client, {"token": "x"}).status_code == 404
