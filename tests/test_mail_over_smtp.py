"""Mail end to end: a served application, a relay that speaks SMTP, and links from its mails."""

import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import USER, request, running
from mailboxes import code_in, links_in, token_in
from relay import mail_settings

from authapi.features.mail import Mails

pytest_plugins = ("relay_fixtures",)

NEW = "a better password"


@pytest.fixture(name="app")
def _app(make_app, relay):
    return make_app(**mail_settings(relay.url, email_verification="off", mail_login="on"))


def delivered(app, relay):
    """Send the one mail that is due, and return it as the relay has got it."""
    before = len(relay.messages)
    app.core.of(Mails).sender.run_due()
    (message,) = relay.messages[before:]
    return message


def sent(app, relay):
    """Send the one mail that is due; return the page and the token of its link."""
    (link,) = links_in(delivered(app, relay))
    return link


def stored(folder, links):
    """Return the links that the files of the database hold."""
    found = b"".join(path.read_bytes() for path in folder.glob("authapi.db*"))
    assert USER["email"].encode() in found
    return [link for link in links if link.encode() in found]


def test_registration(make_app, relay, tmp_path):
    """A registration is completed by mail, 32 at once in another browser; no link is stored."""
    app = make_app(**mail_settings(relay.url, email_verification="required"))
    with running(app) as port, ThreadPoolExecutor(32) as threads:
        url = f"http://127.0.0.1:{port}"
        asked = request(f"{url}/register", USER)
        page, link = sent(app, relay)
        body = {"token": link, "password": USER["password"]}
        answers = threads.map(lambda _: request(f"{url}/register/verify", body)[0], range(32))
        statuses = list(answers)
        again = request(f"{url}/register", {**USER, "username": "another"})
        app.core.of(Mails).sender.run_due()

    assert (asked[0], page, again[0]) == (202, "confirm-registration", 202)
    assert (statuses.count(201), {*statuses} <= {201, 400, 503}) == (1, True)
    assert (len(relay.messages), links_in(relay.messages[-1])) == (2, [])
    assert stored(tmp_path, [link]) == []


def test_reset_and_not_me(app, relay, tmp_path):
    """A reset, its notice and the lock by it work by mail, 32 at once; no link is stored."""
    with running(app) as port, ThreadPoolExecutor(32) as threads:
        url = f"http://127.0.0.1:{port}"
        request(f"{url}/register", USER)
        asked = request(f"{url}/password/reset/request", {"usernameOrEmail": USER["email"]})
        page, reset = sent(app, relay)
        body = {"token": reset, "new_password": NEW}
        answers = threads.map(lambda _: request(f"{url}/password/reset", body)[0], range(32))
        statuses = list(answers)
        notice_page, not_me = sent(app, relay)
        locked = request(f"{url}/user/not-me", {"token": not_me})
        _, again = sent(app, relay)
        body = {"usernameOrEmail": USER["email"], "password": NEW}
        refused = request(f"{url}/login", body)

    assert (asked[0], page, notice_page) == (202, "reset", "not-me")
    assert (statuses.count(200), {*statuses} <= {200, 400, 503}) == (1, True)
    assert (locked[0], refused[0]) == (200, 401)
    assert stored(tmp_path, [reset, not_me, again]) == []


@pytest.mark.parametrize("kind", ["link", "code"])
def test_mail_login(app, relay, kind):
    """A login by mail works in the browser that asked, and in it alone, 32 at once."""
    with running(app) as port, ThreadPoolExecutor(32) as threads:
        url = f"http://127.0.0.1:{port}"
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        request(f"{url}/register", USER)
        asked = request(f"{url}/login/mail", {"email": USER["email"]}, browser)
        mail = delivered(app, relay)
        body = {"token": token_in(mail)} if kind == "link" else {"code": code_in(mail)}
        elsewhere = request(f"{url}/login/mail/verify", body)
        answers = threads.map(
            lambda _: request(f"{url}/login/mail/verify", body, browser)[0], range(32)
        )
        statuses = list(answers)
        _, answer, _ = request(f"{url}/user", None, browser)

    assert (asked[0], elsewhere[0], elsewhere[1]["error"]) == (202, 409, "other_browser")
    assert statuses.count(200) == 1
    assert answer["user"]["email"] == USER["email"]
