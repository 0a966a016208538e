"""Users: their ids, and what a username and an email may be."""

import re

import pytest
from conftest import USER
from hypothesis import given
from hypothesis import strategies as st

from authapi import User
from authapi.database.statements import SQL
from authapi.identifiers import email_fault, email_key, username_key


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
    ["a@b", "crispengari@gmail.com", "a.b+c@d-e.f", "!#$%&'*+/=?^_`{|}~-@x.y", f"a@{'b' * 63}.c"]
    + [f"{'a' * 64}@b", "a.b.c@d", "a@xn--bcher-kva.example"],
)
def test_good_emails(email):
    """A dot-atom before the @ and a domain after it are an email."""
    assert email_fault(email) is None


@pytest.mark.parametrize(
    "email",
    ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@-b", "a@b-", "a@b..c", "a@b\n", "é@b", "@é"]
    + [f"a@{'b' * 64}", "a\r\nBcc: x@y", ".a@b", "a.@b", "a..b@c", ".@b", '"a b"@c', "a@[::1]"],
)
def test_bad_emails(email):
    """An address that a browser refuses is refused, and one whose dots separate nothing."""
    assert email_fault(email) == "Is not an email address."


def test_email_length():
    """254 characters are an email, one more is not."""
    domain = ".".join(["d" * 60] * 4)
    local_part = "a" * (253 - len(domain))

    assert email_fault(f"{local_part}@{domain}") is None
    assert email_fault(f"{local_part}a@{domain}") == "Must have at most 254 characters."


def test_local_part_length():
    """65 characters before the @ are too many."""
    assert email_fault(f"{'a' * 65}@b") == "Must have at most 64 characters before the @."


def test_internationalised_domain(client):
    """A domain beyond ASCII is refused with what to write instead."""
    answer = client.register(email="anna@bücher.example")

    (fault,) = answer.json["errors"]
    assert (answer.status_code, fault["field"]) == (422, "email")
    assert "xn--bcher-kva.example" in fault["message"]


def test_older_emails_stay(client):
    """A user whose email is older than a rule logs in with it."""
    client.register()
    client.query("UPDATE users SET email = 'A..b@x.io', email_key = 'a..b@x.io'")

    assert client.log_in("a..b@x.io").json["user"]["email"] == "A..b@x.io"


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
    """Two spellings of one email are one email, at registration and at login."""
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
    """Each Unicode character has a stable key."""
    for number in range(0x110000):
        key = username_key(chr(number))
        assert key == chr(number) or key == username_key(key)


def test_caseless_keys_of_reordered_marks():
    """Marks in another order, which Unicode holds for the same text, make the same key."""
    assert username_key("\u03b1\u0345\u0301") == username_key("\u1fb4")


def test_every_statement_shows_the_same_user():
    """Each statement that selects a user selects the same columns, in the order of the record."""
    shown = re.compile(r"(?:users\.)?id, (?:users\.)?username, [^;]*?(?=,\s+password_hash|\s+FROM)")
    found = [
        re.sub(r"users\.", "", columns)
        for name in ("users", "sessions")
        for columns in shown.findall((SQL / "queries" / f"{name}.sql").read_text())
    ]

    assert len(found) == 7
    assert set(found) == {", ".join(User.__struct_fields__)}
