"""Password reset: a new password by a link that is mailed."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import second_factor
from conftest import OTHER, USER, cookie_of, token_of
from mailboxes import _make_mailing, links_in, statuses, text_of, token_in  # noqa: F401 - a fixture
from test_statement_faults import KINDS, World, _plan  # noqa: F401 - a fixture

from authapi import Caller, features
from authapi.errors import Overloaded
from authapi.features.user_management import Users

NEW = "a better password"
NOBODY = Caller("", "", "")


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing(security_notices="off")


@pytest.mark.parametrize("name", [USER["username"], USER["email"], USER["email"].upper()])
def test_reset(client, token, name):
    """A forgotten password is replaced by a link, which is mailed to the stored address."""
    asked = client.ask_for_reset(name)

    message = client.mail()
    answer = client.reset(token_in(message))

    assert (asked.status_code, asked.json["message"]) == (
        202,
        "If there is such an account, a mail is on its way.",
    )
    assert message["To"] == USER["email"]
    assert [page for page, _ in links_in(message)] == ["reset"]
    assert USER["username"] in text_of(message)
    assert (answer.status_code, answer.json["message"]) == (200, "Password changed.")
    assert answer.json["user"] is None
    assert statuses(client.log_in(), client.log_in(password=NEW)) == [401, 200]


def test_nobody_is_logged_in(client, token):
    """A reset opens no session and sets no cookie."""
    answer = client.reset(client.reset_token(USER["email"]))

    assert "set-cookie" not in answer.headers
    assert client.query("SELECT count(*) FROM sessions") == [(0,)]


def test_all_sessions_end(client, token):
    """A reset ends every session of the user, and the browsers that were known are not."""
    answer = client.log_in()
    device = cookie_of(answer, "device")
    other = token_of(client.register(**OTHER))

    client.reset(client.reset_token(USER["email"]))

    assert statuses(client.get_as(token), client.get_as(token_of(answer))) == [401, 401]
    assert client.get_as(other).status_code == 200
    for _ in range(10):
        client.log_in(password="wrong password")
    known = {"Cookie": f"device={device}"}
    assert client.log_in(password=NEW, headers=known).status_code == 429


def test_events(client, token):
    """The log says that a reset was asked for, and that the password was changed by one."""
    client.reset(client.reset_token(USER["email"]))

    assert client.events("event", "user_id", "detail")[1:] == [
        ("password_reset_requested", None, None),
        ("account_claimed", 1, None),
        ("session_revoked", 1, None),
        ("password_changed", 1, "reset"),
        ("credentials_changed", 1, "reset"),
    ]


def test_names_of_nobody(client, token):
    """A name of nobody is answered as a user's is, and nothing is mailed."""
    names = ["nobody", "nobody@example.com", "", "a\0b", "x" * 300, "@", "\U0001f9d9"]
    known = client.ask_for_reset(USER["username"])

    answers = [client.ask_for_reset(name) for name in names]

    assert len(client.mails()) == 1
    for answer in answers:
        assert answer.status_code == 202
        assert answer.json | {"timestamp": ""} == known.json | {"timestamp": ""}
    assert client.query("SELECT count(*) FROM outbox") == [(0,)]


def test_disabled_user(client, token):
    """A disabled user gets no mail, and a link of before counts no more."""
    link = client.reset_token(USER["email"])
    client.app.core.of(Users).disable(1, NOBODY)

    assert client.ask_for_reset(USER["email"]).status_code == 202
    assert client.mails() == []
    assert client.reset(link).json["error"] == "invalid_link"


def test_first_password(client):
    """A user without a password gets the first one."""
    client.app.users.create(USER["username"], USER["email"])

    client.reset(client.reset_token(USER["email"]))

    assert client.log_in(password=NEW).status_code == 200


def test_used_twice(client, token):
    """A link counts once."""
    link = client.reset_token(USER["email"])

    answers = client.reset(link), client.reset(link, "yet another password")

    assert statuses(*answers) == [200, 400]
    assert answers[1].json["error"] == "invalid_link"
    assert answers[1].json["message"] == "The link is not valid, or no longer."
    assert client.log_in(password=NEW).status_code == 200


def test_32_at_once(client, token):
    """One of 32 resets at once with a link succeeds, and its password counts."""
    link = client.reset_token(USER["email"])
    passwords = [f"a better password {number}" for number in range(32)]

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda each: client.reset(link, each), passwords))

    done = [
        each for each, answer in zip(passwords, answers, strict=True) if answer.status_code == 200
    ]
    assert len(done) == 1
    assert {answer.status_code for answer in answers} <= {200, 400, 503}
    assert client.log_in(password=done[0]).status_code == 200


def test_expired(client, token, clock):
    """A link counts for 30 minutes after it was sent."""
    link = client.reset_token(USER["email"])
    clock.move(1_800)

    assert client.reset(link).json["error"] == "invalid_link"


def test_after_a_password_change(client, token):
    """A link counts no more when the password was changed."""
    link = client.reset_token(USER["email"])
    body = {"current_password": USER["password"], "new_password": "another password"}
    client.request_as(token, "PUT", "/user/password", body)

    assert client.reset(link).json["error"] == "invalid_link"
    assert client.log_in(password="another password").status_code == 200


def test_link_of_another_user(client, token):
    """A link changes the password of its own user, in whoever's session it is opened."""
    other = token_of(client.register(**OTHER))
    body = {"token": client.reset_token(USER["email"]), "new_password": NEW}

    answer = client.request_as(other, "POST", "/password/reset", body)

    assert answer.status_code == 200
    assert client.log_in(password=NEW).json["user"]["id"] == 1
    assert client.log_in(OTHER["username"], OTHER["password"]).status_code == 200
    assert client.get_as(other).status_code == 200


def test_newer_link(client, token):
    """A newer link ends the older one."""
    older = client.reset_token(USER["email"])
    newer = client.reset_token(USER["username"])

    assert statuses(client.reset(older), client.reset(newer)) == [400, 200]


@pytest.mark.parametrize("password", ["short", "password1234"])
def test_refused_password(client, token, password):
    """A password against the rules is 422, and costs neither the link nor a try."""
    link = client.reset_token(USER["email"])

    for _ in range(3):
        answer = client.reset(link, password)
        fields = [fault["field"] for fault in answer.json["errors"]]
        assert (answer.status_code, fields) == (422, ["new_password"])

    assert client.reset(link).status_code == 200


@pytest.mark.parametrize("password", [USER["username"], USER["email"]])
def test_own_name(make_mailing, password):
    """Where passwords made of names are refused, a reset compares the names of the link's user."""
    client = make_mailing(own_name_passwords="refused")
    fields = {"password": "correct horse"}
    client.register(**fields)

    answer = client.reset(client.reset_token(USER["email"]), password)

    assert answer.json["errors"][0]["message"].startswith("Must not be your username")


def test_no_place_to_hash(client, token, monkeypatch):
    """A reset that finds no place to hash leaves the link as it was."""
    link = client.reset_token(USER["email"])
    lane = client.app.core.passwords.lane
    monkeypatch.setattr(lane, "run", _overloaded)
    assert client.reset(link).status_code == 503
    monkeypatch.undo()

    assert client.reset(link).status_code == 200


def _overloaded(*_arguments):
    raise Overloaded


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_nothing_by_get(client, token, method):
    """A link that a scanner opens is not used up: only a POST changes anything."""
    link = client.reset_token(USER["email"])
    before = client.query("SELECT * FROM one_time_tokens"), client.query("SELECT * FROM users")

    for path in ("/password/reset", f"/password/reset?token={link}", f"/reset?token={link}"):
        assert client.simulate_request(method, path).status_code in {200, 401, 404, 405}

    assert before == (
        client.query("SELECT * FROM one_time_tokens"),
        client.query("SELECT * FROM users"),
    )
    assert client.reset(link).status_code == 200


def test_wrong_links(make_mailing):
    """A wrong link is a failed login, and takes a try of its network."""
    client = make_mailing(login_network_limit="2/hour")

    answers = [client.reset(wrong) for wrong in ("", "wrong", "\U0001f9d9")]

    assert statuses(*answers) == [400, 400, 429]
    assert client.events("event", "detail") == [("login_failed", "invalid_link")] * 2


def test_token_of_a_session(client, token):
    """A session's token is no link, and a link's is no session."""
    link = client.reset_token(USER["email"])

    assert client.reset(token).json["error"] == "invalid_link"
    assert client.get_as(link).status_code == 401


def test_second_factor_stays(make_mailing):
    """A reset takes no second factor away: a login needs it as before (ASVS 6.4.3)."""
    client = make_mailing(features=(*features.DEFAULT, second_factor))
    token = token_of(client.register())
    client.request_as(token, "POST", "/factors", {"code": second_factor.CODE})

    client.reset(client.reset_token(USER["email"]))

    assert client.log_in(password=NEW).json["error"] == "second_factor_required"


def test_failed_logins_are_cleared(client, token):
    """A reset clears the failed logins of others, so its user can log in at once."""
    for _ in range(10):
        client.log_in(password="wrong password")
        client.log_in(USER["email"], password="wrong password")
    assert client.log_in(password=NEW).status_code == 429

    client.reset(client.reset_token(USER["email"]))

    assert client.log_in(password=NEW).status_code == 200


def test_language(client, token):
    """The mail is in the language that the browser asks for."""
    client.ask_for_reset(USER["email"], headers={"Accept-Language": "de-AT,en;q=0.5"})

    assert client.mail()["Subject"].startswith("Neues Passwort")


def test_without_mail(make_client):
    """Without a relay the routes are 404."""
    client = make_client()

    assert client.post("/password/reset", {}).status_code == 404
    assert client.post("/password/reset/request", {}).status_code == 404


def test_host_of_a_request(client, token):
    """No link is made of the Host that a request names."""
    client.ask_for_reset(
        USER["email"], headers={"Host": "evil.example", "X-Forwarded-Host": "evil"}
    )

    assert "evil" not in client.mail().as_string()


def test_only_strings(client):
    """A body of other types, or with other fields, is 422."""
    for body in ({"usernameOrEmail": 1}, {}, {"usernameOrEmail": "a", "redirectTo": "b"}):
        assert client.post("/password/reset/request", body).status_code == 422


@pytest.mark.sqlite("a search of the database file")
def test_no_secret_is_stored(client, token, tmp_path, caplog):
    """No link that was mailed is in the database file, its WAL, or the log."""
    caplog.set_level(0)
    links = [client.reset_token(USER["email"]) for _ in range(3)]
    client.reset(links[-1])

    stored = b"".join(path.read_bytes() for path in tmp_path.glob("authapi.db*"))
    assert USER["email"].encode() in stored
    for link in links:
        assert link.encode() not in stored
        assert link not in caplog.text
