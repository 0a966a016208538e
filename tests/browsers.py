"""Browsers that log in by mail, with their fixtures."""

import pytest
from conftest import USER
from mailboxes import code_in, token_in

SETTINGS = {"mail_login": "on", "security_notices": "off"}


class Browser:
    """A browser: it keeps the cookies of answers and sends them with each request."""

    def __init__(self, client, **cookies):
        self._client = client
        self.cookies = cookies

    def post(self, path, body, headers=None):
        line = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {**({"Cookie": line} if line else {}), **(headers or {})}
        answer = self._client.post(path, body, headers=headers)
        self.cookies |= {name: cookie.value for name, cookie in answer.cookies.items()}
        return answer

    def ask(self, email=USER["email"], **options):
        return self.post("/login/mail", {"email": email}, **options)

    def log_in(self, body, **options):
        return self.post("/login/mail/verify", body, **options)

    @property
    def user(self):
        """Return the user of the browser's session, or None."""
        answer = self._client.get_as(self.cookies.get("jwt", ""))
        return answer.json["user"] if answer.status_code == 200 else None


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing(**SETTINGS)


@pytest.fixture(name="browser")
def _browser(client, token):
    """Return a browser that has asked for a mail to log in by, for a user of another one."""
    browser = Browser(client)
    assert browser.ask().status_code == 202
    return browser


@pytest.fixture(name="mail")
def _mail(client, browser):
    """Return the mail that the browser waits for."""
    return client.mail()


@pytest.fixture(name="proof", params=["link", "code"])
def _proof(request, mail):
    """Return the body that gives the mail's link, or its code."""
    return proof_in(mail, request.param)


def proof_in(mail, kind):
    return {"token": token_in(mail)} if kind == "link" else {"code": code_in(mail)}


def wrong_code(mail):
    return {"code": f"{(int(code_in(mail)) + 1) % 1_000_000:06}"}


def refused(answer):
    """Return whether an answer refuses a link or a code and opens no session."""
    errors = {(400, "invalid_link"), (403, "wrong_code")}
    return (answer.status_code, answer.json["error"]) in errors and "jwt" not in answer.cookies


def prove_address(client):
    """Let the user's address be proved, so that a login by mail claims nothing."""
    client.query("UPDATE users SET email_verified_at = 1")
