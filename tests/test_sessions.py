"""Sessions: the row under each token."""

import hashlib
import json
from base64 import urlsafe_b64decode

import pytest
from conftest import deletes_cookie, token_of

from authapi.features.sessions import PRUNED_AT_ONCE


def claims_of(token):
    payload = token.split(".")[1]
    return json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def test_only_a_digest_is_stored(client, token):
    """The row holds the SHA-256 of a 256-bit id, and the id is nowhere in the database."""
    secret = claims_of(token)["sid"]

    ((id_hash, user_id),) = client.query("SELECT id_hash, user_id FROM sessions")

    assert len(urlsafe_b64decode(secret + "=")) == 32
    assert hashlib.sha256(secret.encode()).hexdigest() == id_hash
    assert user_id == 1
    client.query("PRAGMA wal_checkpoint(TRUNCATE)")
    assert secret.encode() not in client.app.core.settings.database_path.read_bytes()


def test_lifetime(client, token, clock):
    """A session lives to the last second of the setting, and not one more."""
    clock.move(259_199)
    assert client.get_as(token).status_code == 200

    clock.move(1)
    answer = client.get_as(token)
    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert deletes_cookie(answer)


def test_lifetime_is_a_setting(make_client, clock):
    """Cookie, token and row end together."""
    client = make_client(session_lifetime=60)
    answer = client.register()
    token = token_of(answer)

    assert answer.cookies["jwt"].max_age == 60
    assert clock.now + 60 == claims_of(token)["exp"]
    clock.move(59)
    assert client.get_as(token).status_code == 200
    clock.move(1)
    assert client.get_as(token).status_code == 401


def test_row_decides(client, token, clock):
    """A row that expires earlier than its token ends the session, in that very second."""
    client.query("UPDATE sessions SET expires_at = ?", int(clock.now) + 1)
    assert client.get_as(token).status_code == 200

    clock.move(1)
    assert client.get_as(token).status_code == 401


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM sessions",
        "DELETE FROM users",
        "UPDATE users SET disabled_at = unixepoch()",
        "UPDATE sessions SET user_id = 2",
    ],
)
def test_ends_at_once(client, token, statement):
    """Revoked, deleted, disabled: the next request is refused, and the cookie deleted."""
    client.register(username="other", email="other@example.com")
    assert client.get_as(token).status_code == 200

    client.query(statement)

    answer = client.get_as(token)
    assert (answer.status_code, answer.json["message"]) == (401, "Invalid token or it has expired.")
    assert deletes_cookie(answer)


def test_session_of_another(client, token):
    """A session is found only for its own user."""
    other = token_of(client.register(username="other", email="other@example.com"))

    assert client.get_as(token).json["user"]["username"] == "crispengari"
    assert client.get_as(other).json["user"]["username"] == "other"


def test_pruning_is_bounded(client, clock):
    """A login deletes expired sessions, the oldest first, so many and no more."""
    client.register()
    for number in range(PRUNED_AT_ONCE + 20):
        client.query(
            "INSERT INTO sessions VALUES (NULL, ?, 1, 0, 0, 0, ?, '', '')",
            f"{number:064}",
            1_000 + number,
        )

    client.log_in()
    expired = client.query("SELECT min(expires_at), count(*) FROM sessions WHERE expires_at < 2000")
    assert expired == [(1_000 + PRUNED_AT_ONCE, 20)]

    client.log_in()
    clock.move(259_200)
    client.log_in()
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]


@pytest.mark.parametrize("path", ["/user", "/"])
def test_one_statement(client, token, path):
    """A session check runs one statement, and writes none."""
    statements = []
    client.app.core.database.connection.set_trace_callback(statements.append)

    client.get_as(token, path)

    assert len(statements) == 1
    assert statements[0].split()[0] == "SELECT"
