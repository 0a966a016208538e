"""Mail end to end: a served application, a relay that speaks SMTP, and links from its mails."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import USER, request, running
from mailboxes import links_in
from relay import mail_settings

from authapi.features.mail import Mails

pytest_plugins = ("relay_fixtures",)

NEW = "a better password"


@pytest.fixture(name="app")
def _app(make_app, relay):
    return make_app(**mail_settings(relay.url, email_verification="off"))


def sent(app, relay):
    """Send the one mail that is due; return the page and the token of its link."""
    before = len(relay.messages)
    app.core.of(Mails).sender.run_due()
    (message,) = relay.messages[before:]
    (link,) = links_in(message)
    return link


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
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("authapi.db*"))
    assert USER["email"].encode() in stored
    assert not [link for link in (reset, not_me, again) if link.encode() in stored]
