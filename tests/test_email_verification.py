"""Email verification: users prove that they receive the mail of their address."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import USER, cookie_of, token_of
from mailboxes import _make_mailing, code_in, links_in, statuses, token_in  # noqa: F401 - a fixture

from authapi import verified

OTHER = {"username": "other", "email": "other@example.com"}
PASSWORDS = {"current_password": USER["password"], "new_password": "a better password"}


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing(email_verification="optional", security_notices="off")


@pytest.fixture(name="mail")
def _mail(client, token):
    """Return the mail that follows the registration of the token's user."""
    return client.mail()


@pytest.fixture(name="proof", params=["link", "code"])
def _proof(request, mail):
    """Return the body that gives the mail's link, or its code."""
    return {"token": token_in(mail)} if request.param == "link" else {"code": code_in(mail)}


def verify(client, token, body):
    return client.request_as(token, "POST", "/user/email/verify", body)


def ask(client, token, **options):
    return client.request_as(token, "POST", "/user/email/verify/request", **options)


def is_verified(client, token):
    return client.get_as(token).json["user"]["email_verified"]


def test_verifying(client, token, mail, proof):
    """The link or the code of the mail proves the address, in the user's session."""
    assert (mail["To"], is_verified(client, token)) == (USER["email"], False)

    answer = verify(client, token, proof)

    assert (answer.status_code, answer.json["message"]) == (200, "Email verified.")
    assert answer.json["user"]["email_verified"] is True
    assert is_verified(client, token) is True
    assert client.events("event", "session_id")[-1][0] == "email_verified"


def test_registration(client):
    """A registration answers as before, and shows that the address is not verified."""
    answer = client.register()

    assert (answer.status_code, answer.json["message"]) == (201, "User created.")
    assert answer.json["user"]["email_verified"] is False


def test_used_twice(client, token, proof):
    """A link or a code counts once."""
    assert verify(client, token, proof).status_code == 200

    answer = verify(client, token, proof)

    assert (answer.status_code, answer.json["error"]) in {
        (400, "invalid_link"),
        (403, "wrong_code"),
    }


def test_another_user(client, token, proof):
    """In a session of another user nothing is verified, and the proof is not used up.

    So a victim verifies nothing by a click on a link of an account that somebody else has made.
    """
    other = token_of(client.register(**OTHER))

    assert verify(client, other, proof).status_code in {400, 403}
    assert [is_verified(client, each) for each in (token, other)] == [False, False]
    assert verify(client, token, proof).status_code == 200


def test_without_a_session(client, proof):
    """Without a session a proof does not count."""
    answer = client.post("/user/email/verify", proof)

    assert (answer.status_code, answer.json["error"]) == (401, "not_authenticated")


def test_expired(client, token, clock, proof):
    """After a day a link and a code do not count."""
    clock.move(86_401)

    assert verify(client, token, proof).status_code in {400, 403}
    assert is_verified(client, token) is False


def test_after_a_password_change(client, token, proof):
    """A change of the password ends the link and the code."""
    changed = client.request_as(token, "PUT", "/user/password", PASSWORDS)

    assert verify(client, token_of(changed), proof).status_code in {400, 403}


def test_a_newer_mail(client, token, proof):
    """A newer mail ends the older one, and counts itself."""
    assert ask(client, token).status_code == 202
    newer = {"token": token_in(client.mail())}

    assert verify(client, token, proof).status_code in {400, 403}
    assert verify(client, token, newer).status_code == 200


def test_many_at_once(client, token, proof):
    """One of 32 requests at once with a link or a code succeeds."""
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: verify(client, token, proof), range(32)))

    assert statuses(*answers).count(200) == 1
    assert client.events().count("email_verified") == 1


def test_verified_already(client, token, proof):
    """A user whose address is verified gets no other mail."""
    verify(client, token, proof)

    answer = ask(client, token)

    assert (answer.status_code, answer.json["error"]) == (409, "already_verified")
    assert client.mails() == []


def test_verified_before_it_is_sent(client, token, mail):
    """A mail that waits is not sent once the address is verified."""
    ask(client, token)
    assert verify(client, token, {"token": token_in(mail)}).status_code == 200

    assert client.mails() == []


def test_limit(client, token, mail):
    """An address gets five mails an hour, that of the registration included."""
    answers = [ask(client, token) for _ in range(5)]

    assert statuses(*answers) == [202] * 4 + [429]


def test_registered_again_and_again(client):
    """Registrations with one address cannot flood it."""
    for number in range(7):
        token = token_of(client.register(username=f"user{number}"))
        client.request_as(token, "DELETE", "/user", {"password": USER["password"]})
        assert client.mails() == []
    token = token_of(client.register())

    assert ask(client, token).status_code == 429


def test_a_reset_after_it(client, token, proof):
    """A reset of a verified account is no claim."""
    verify(client, token, proof)

    client.reset(client.reset_token(USER["email"]))

    assert "account_claimed" not in client.events()


def test_a_reset_verifies(client, token, mail):
    """A reset proves the address too, and ends the verification's link."""
    client.reset(client.reset_token(USER["email"]))

    token = token_of(client.log_in(password="a better password"))
    assert is_verified(client, token) is True
    assert verify(client, token, {"token": token_in(mail)}).status_code == 400


def test_a_need(client, token, mail):
    """A resource can ask for a verified address."""

    class Orders:
        needs = (verified,)

        def on_get(self, req, resp):
            resp.media = []

    client.app.add_route("/orders", Orders())
    before = client.get_as(token, "/orders")
    verify(client, token, {"token": token_in(mail)})

    assert (before.status_code, before.json["error"]) == (403, "email_not_verified")
    assert client.get_as(token, "/orders").status_code == 200


def test_forward_authentication(client, token, mail):
    """A proxy is told an address that is verified, and no other."""
    before = client.get_as(token, "/verify")
    verify(client, token, {"token": token_in(mail)})

    assert "X-Auth-Email" not in before.headers
    assert client.get_as(token, "/verify").headers["X-Auth-Email"] == USER["email"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_by_get(client, token, mail, method):
    """A link that a scanner opens, even in the user's session, changes nothing."""
    path = f"/user/email/verify?token={token_in(mail)}"

    assert client.simulate_request(method, path, headers={"Cookie": f"jwt={token}"}).status == (
        "405 Method Not Allowed"
    )
    assert is_verified(client, token) is False


def test_language(client):
    """The mail after a registration is in the language of the browser."""
    client.post("/register", USER, headers={"Accept-Language": "de"})

    assert client.mail()["Subject"].startswith("Bestätige")


def test_device_cookie_stays(client, token, proof):
    """A verification gives no other token and no cookie."""
    answer = verify(client, token, proof)

    assert not answer.cookies
    assert client.get_as(token).status_code == 200
    assert cookie_of(client.log_in(), "device")


def test_username_like_a_domain(make_mailing):
    """Mail programs make no link of a username, and a name that is copied from a mail logs in."""
    client = make_mailing(email_verification="optional")
    client.register(username="win.at.evil.example")
    message = client.mail()
    shown = "win\u2060.at\u2060.evil\u2060.example"

    for kind in ("plain", "html"):
        part = message.get_body((kind,)).get_content()
        assert shown in part
        assert "evil.example" not in part
    assert len(links_in(message)) == 1
    assert client.log_in(shown).status_code == 200


@pytest.mark.parametrize("settings", [None, {"email_verification": "off"}])
def test_off(make_client, make_mailing, settings):
    """Without mail, or where it is off, the routes are 404 and a user has five fields."""
    client = make_client() if settings is None else make_mailing(**settings)
    token = token_of(client.register())
    client.query("UPDATE users SET email_verified_at = 1")

    assert [*client.get_as(token).json["user"]] == [
        *("id", "username", "email", "created_at", "updated_at")
    ]
    assert statuses(verify(client, token, {"token": "x"}), ask(client, token)) == [404, 404]
    assert "X-Auth-Email" not in client.get_as(token, "/verify").headers
