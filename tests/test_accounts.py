"""Accounts: who a user is, and what a username and an email may be."""

import pytest
from conftest import OTHER, USER, deletes_cookie, token_of
from hypothesis import given
from hypothesis import strategies as st

from authapi.features.accounts import UserRepository
from authapi.identifiers import email_fault, email_key, username_key


@pytest.mark.parametrize("path", ["/user", "/"])
def test_current_user(client, path, token):
    """The documented routes answer the user of the session, and nothing more of them."""
    answer = client.get_as(token, path)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert {"code", "message", "timestamp", "user"} == set(answer.json)
    assert (answer.json["code"], answer.json["message"]) == (200, "User.")
    assert answer.json["timestamp"] == "Tue, 16 Aug 2022 10:21:29 GMT"
    user = answer.json["user"]
    assert {"id", "username", "email", "created_at", "updated_at"} == set(user)
    assert (1, USER["username"], USER["email"]) == (user["id"], user["username"], user["email"])


@pytest.mark.parametrize("path", ["/user", "/"])
def test_head(client, path, token):
    """HEAD answers as GET does, without the body."""
    answer = client.simulate_head(path, headers={"Cookie": f"jwt={token}"})

    assert (answer.status_code, answer.text) == (200, "")
    assert len(client.get_as(token, path).content) == int(answer.headers["content-length"])


def test_id_is_never_reused(client):
    """The id of a deleted user is never anyone else's."""
    client.register()
    client.query("DELETE FROM users")

    assert client.register().json["user"]["id"] == 2


def test_updated_at_follows_a_change(client, token):
    """The schema itself keeps `updated_at`, and a rehash does not count as a change."""
    client.query("UPDATE users SET updated_at = 0, password_hash = password_hash || 'x'")
    assert client.get_as(token).json["user"]["updated_at"] == "Thu, 01 Jan 1970 00:00:00 GMT"

    client.query("UPDATE users SET email = 'new@example.com', email_key = 'new@example.com'")
    user = client.get_as(token).json["user"]
    assert user["created_at"][:16] == user["updated_at"][:16]  # the day


@pytest.mark.parametrize(
    "email",
    ["a@b", "crispengari@gmail.com", "a.b+c@d-e.f", "!#$%&'*+/=?^_`{|}~-@x.y", f"a@{'b' * 63}.c"],
)
def test_good_emails(email):
    """What a browser's `input type=email` takes is an email."""
    assert email_fault(email) is None


@pytest.mark.parametrize(
    "email",
    ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@-b", "a@b-", "a@b..c", "a@b\n", "é@b", "a@é"]
    + [f"a@{'b' * 64}", "a\r\nBcc: x@y"],
)
def test_bad_emails(email):
    """What a browser would not take is refused."""
    assert email_fault(email) == "Is not an email address."


def test_email_length():
    """254 characters are an email, one more is not."""
    domain = ".".join(["d" * 60] * 4)

    assert email_fault("a" * (253 - len(domain)) + "@" + domain) is None
    assert email_fault("a" * (254 - len(domain)) + "@" + domain) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CrispenGari", "crispengari"),
        ("ÉCOLE", "école"),
        ("e\u0301cole", "école"),
        ("straße", "STRASSE"),
        ("ﬁn", "fin"),
        ("ｗｉｄｅ", "wide"),  # noqa: RUF001
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
    ],
)
def test_usernames_are_caseless(client, one, other):
    """Two spellings of one name are one name: at registration, and at login."""
    client.register(username=one)

    taken = client.register(username=other, email="other@example.com")
    assert (taken.status_code, taken.json["error"]) == (409, "username_taken")
    assert one == client.log_in(other).json["user"]["username"]


def test_emails_are_caseless(client):
    """So it is with emails."""
    client.register()

    taken = client.register(username="other", email=USER["email"].upper())
    assert (taken.status_code, taken.json["error"]) == (409, "email_taken")
    assert USER["email"] == client.log_in(USER["email"].upper()).json["user"]["email"]


@given(st.text())
def test_keys_are_stable(text):
    """A key's key is itself, so that no name has two."""
    assert username_key(text) == username_key(username_key(text))
    assert email_key(text) == email_key(email_key(text))


def test_every_character_has_a_stable_key():
    """So it is for each character that there is."""
    for number in range(0x110000):
        key = username_key(chr(number))
        assert key == username_key(key)


def test_caseless_keys_of_reordered_marks():
    """Marks in another order, which Unicode holds for the same text, make the same key."""
    assert username_key("\u03b1\u0345\u0301") == username_key("\u1fb4")


# Another username


def rename(client, token, username):
    return client.request_as(token, "PATCH", "/user", {"username": username})


def test_rename(client, token):
    """A user takes another username, and logs in by that one alone."""
    client.query("UPDATE users SET updated_at = 0")
    answer = rename(client, token, "Renamed")

    assert (answer.status_code, answer.json["message"]) == (200, "User renamed.")
    assert (answer.json["user"]["id"], answer.json["user"]["username"]) == (1, "Renamed")
    assert answer.json["user"]["updated_at"] != "Thu, 01 Jan 1970 00:00:00 GMT"
    assert answer.json["user"] == client.get_as(token).json["user"]
    assert client.log_in("renamed").status_code == 200
    assert client.log_in().status_code == 401
    assert client.events("event", "user_id")[1] == ("user_renamed", 1)


def test_rename_gives_a_token(client, token, clock):
    """The answer's token carries the new name and lives as long; older ones stay good."""
    clock.move(100)
    answer = rename(client, token, "renamed")
    newer = token_of(answer)

    old, new = (client.app.core.tokens.read(each, clock.now) for each in (token, newer))
    assert (new.username, new.sid, new.iat, new.exp) == ("renamed", old.sid, old.iat, old.exp)
    assert answer.cookies["jwt"].max_age == 259_100
    assert client.get_as(newer).json["user"]["username"] == "renamed"
    assert client.get_as(token).json["user"]["username"] == "renamed"


def test_renewal_carries_the_new_name(client, token, clock):
    """Another session's token gets the new name with its renewal."""
    other = token_of(client.log_in())
    rename(client, token, "renamed")
    clock.move(3_600)

    newer = token_of(client.get_as(other))

    assert client.app.core.tokens.read(newer, clock.now).username == "renamed"


@pytest.mark.parametrize("username", ["", "a b", "a@b", "x" * 81, "\u034f"])
def test_rename_follows_the_rules(client, token, username):
    """What is no username at a registration is none here."""
    answer = rename(client, token, username)

    assert (answer.status_code, answer.json["error"]) == (422, "validation_failed")
    assert client.get_as(token).json["user"]["username"] == USER["username"]


@pytest.mark.parametrize("username", ["other", "OTHER", "\uff4fther"])
def test_rename_to_a_taken_name(client, token, username):
    """Another's username is taken, caselessly, and nothing changes."""
    client.register(**OTHER)

    answer = rename(client, token, username)

    assert (answer.status_code, answer.json["error"]) == (409, "username_taken")
    assert client.get_as(token).json["user"]["username"] == USER["username"]
    assert "user_renamed" not in client.events()


def test_rename_to_ones_own_name(client, token):
    """One's own name in another case is free; the very same is no change."""
    assert rename(client, token, "CrispenGari").json["user"]["username"] == "CrispenGari"
    assert rename(client, token, "CrispenGari").status_code == 200
    assert client.events().count("user_renamed") == 1


def test_rename_takes_no_other_field(client, token):
    """Nothing but the username can be changed here."""
    body = {"username": "a", "email": "a@example.com", "id": 7, "disabled_at": None}
    answer = client.request_as(token, "PATCH", "/user", body)

    assert {"email", "id", "disabled_at"} == {fault["field"] for fault in answer.json["errors"]}
    assert client.request_as(token, "PATCH", "/user", {}).status_code == 422


# The end of an account


def test_delete(client, token, clock):
    """The user and all that is theirs is gone, with the password; another user stays."""
    client.log_in()
    stranger = token_of(client.register(**OTHER))
    clock.move(300)

    answer = client.request_as(token, "DELETE", "/user", {"password": USER["password"]})

    assert (answer.status_code, answer.json["message"]) == (200, "User deleted.")
    assert answer.json["user"] is None
    assert deletes_cookie(answer)
    assert client.get_as(token).status_code == 401
    assert client.log_in().status_code == 401
    assert client.query("SELECT user_id FROM sessions") == [(2,)]
    assert client.query("SELECT id FROM users") == [(2,)]
    assert client.get_as(stranger).status_code == 200
    assert client.events("event", "user_id")[-2] == ("user_deleted", 1)
    assert client.register().json["user"]["id"] == 3


def test_delete_while_fresh(client, token, clock):
    """A fresh session needs no password, up to the last second of five minutes."""
    other = token_of(client.register(**OTHER))
    clock.move(299)
    assert client.request_as(token, "DELETE", "/user").status_code == 200

    clock.move(1)
    answer = client.request_as(other, "DELETE", "/user")
    assert (answer.status_code, answer.json["error"]) == (403, "fresh_login_required")
    assert client.get_as(other).status_code == 200


def test_delete_with_a_wrong_password(client, token):
    """A wrong password deletes nothing, in a fresh session neither."""
    answer = client.request_as(token, "DELETE", "/user", {"password": "wrong password"})

    assert (answer.status_code, answer.json["error"]) == (403, "wrong_password")
    assert client.get_as(token).status_code == 200
    assert client.events() == ["registered", "login_failed"]


@pytest.mark.parametrize("body", [{}, {"password": 1}, {"password": "x", "sure": True}])
def test_delete_with_a_bad_body(client, token, body):
    """What is no body of a deletion deletes nothing."""
    assert client.request_as(token, "DELETE", "/user", body).status_code == 422
    assert client.get_as(token).status_code == 200


def test_delete_overtaken_by_a_password_change(client, token, monkeypatch):
    """A password that was changed while it was checked deletes nothing."""
    other = token_of(client.log_in())
    kind = type(client.app.core.passwords)
    verify = kind.verify

    def overtaken(self, *arguments, **options):
        verdict = verify(self, *arguments, **options)
        monkeypatch.setattr(kind, "verify", verify)
        body = {"current_password": USER["password"], "new_password": "another password"}
        assert client.request_as(other, "PUT", "/user/password", body).status_code == 200
        return verdict

    monkeypatch.setattr(kind, "verify", overtaken)
    body = {"password": USER["password"]}

    assert client.request_as(token, "DELETE", "/user", body).status_code == 401
    assert client.log_in(password="another password").status_code == 200


def test_password_of_a_user_deleted_meanwhile(client, token, monkeypatch):
    """Who was deleted a moment ago has no password that could be right."""
    kind = type(client.app.core.passwords)
    verify = kind.verify

    def overtaken(self, *arguments, **options):
        client.query("DELETE FROM users")
        return verify(self, *arguments, **options)

    monkeypatch.setattr(kind, "verify", overtaken)
    body = {"password": USER["password"]}

    assert client.request_as(token, "DELETE", "/user", body).status_code == 401


def test_rename_in_a_fresh_session(client, token, clock):
    """A rename changes what one logs in with, so it takes a fresh session (ASVS 7.5.1)."""
    clock.move(300)

    answer = rename(client, token, "renamed")

    assert (answer.status_code, answer.json["error"]) == (403, "fresh_login_required")
    assert client.get_as(token).json["user"]["username"] == USER["username"]
    assert rename(client, client.reauthenticate(token), "renamed").status_code == 200


def test_rename_keeps_a_renewal(client, token, clock):
    """A rename by an older token gives one up to the renewed end, and no shorter one."""
    clock.move(3_600)
    client.get_as(token)
    client.query("UPDATE sessions SET authenticated_at = ?", int(clock.now))

    answer = rename(client, token, "renamed")

    assert answer.cookies["jwt"].max_age == 259_200
    clock.move(31)
    assert client.get_as(token_of(answer)).json["user"]["username"] == "renamed"


def test_rename_of_a_user_who_is_gone(client, token, monkeypatch):
    """Who was deleted a moment ago is not renamed, and it is not told."""
    rename_row = UserRepository.rename

    def overtaken(self, *arguments):
        client.query("DELETE FROM users")
        return rename_row(self, *arguments)

    monkeypatch.setattr(UserRepository, "rename", overtaken)

    answer = rename(client, token, "renamed")

    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert client.events() == ["registered"]


def test_user_deleted_before_the_password_is_checked(client, token, monkeypatch):
    """Who is gone has no password to be wrong: 401, and no failure is told of them."""
    monkeypatch.setattr(UserRepository, "by_id", lambda *_: None)
    body = {"password": USER["password"]}

    for method, path in (("DELETE", "/user"), ("POST", "/sessions/reauthenticate")):
        answer = client.request_as(token, method, path, body)
        assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert client.events() == ["registered"]
