"""The sessions of a user: the list of them, and ending them."""

import json

import pytest
from conftest import OTHER, USER, deletes_cookie, token_of
from falcon.testing import create_environ
from test_sessions import claims_of, public_id


def test_list(client, clock):
    """A user sees their live sessions, newest first, with where each was opened and seen."""
    first = token_of(client.register())
    clock.move(60)
    headers = {"User-Agent": "curl/8.4.0"}
    second = token_of(client.log_in(headers=headers, remote_addr="192.0.2.7"))

    answer = client.get_as(second, "/sessions")

    assert (answer.status_code, answer.json["message"]) == (200, "Sessions.")
    newest, oldest = answer.json["sessions"]
    assert newest == {
        "id": public_id(second),
        "created_at": "Tue, 16 Aug 2022 10:22:29 GMT",
        "last_seen_at": "Tue, 16 Aug 2022 10:22:29 GMT",
        "expires_at": "Fri, 19 Aug 2022 10:22:29 GMT",
        "ip": "192.0.2.7",
        "user_agent": "curl/8.4.0",
        "current": True,
    }
    assert (public_id(first), False) == (oldest["id"], oldest["current"])
    assert [each["current"] for each in reversed(client.sessions_of(first))] == [True, False]


def test_list_holds_no_secret(client, token):
    """The list and the database do not contain the secret id of the token."""
    answer = client.get_as(token, "/sessions")

    assert claims_of(token)["sid"] not in answer.text
    assert token not in answer.text


def test_list_in_the_same_second(client):
    """Sessions of one second stand in the order of their logins."""
    tokens = [token_of(client.register())] + [token_of(client.log_in()) for _ in range(5)]

    expected = [public_id(token) for token in reversed(tokens)]
    assert expected == [session["id"] for session in client.sessions_of(tokens[0])]


def test_list_is_ones_own_and_live(client, token, clock):
    """Another user's sessions, and expired ones, are not on the list."""
    client.register(**OTHER)
    clock.move(259_199)
    newer = token_of(client.log_in())
    assert len(client.sessions_of(newer)) == 2

    clock.move(1)
    assert [public_id(newer)] == [session["id"] for session in client.sessions_of(newer)]


def test_callers_that_are_unknown(client, token):
    """A server that names no address, and a client that names no agent, are empty."""
    login = {"usernameOrEmail": USER["username"], "password": USER["password"]}
    environ = create_environ(
        "/login",
        method="POST",
        headers={"Content-Type": "application/json"},
        body=json.dumps(login),
    )
    environ.pop("REMOTE_ADDR", None)
    del environ["HTTP_USER_AGENT"]
    assert b"".join(client.app(environ, lambda *_: None))

    session = client.sessions_of(token)[0]
    assert (session["ip"], session["user_agent"]) == ("", "")


def test_user_agent_is_cut(client):
    """A user agent is cut to 256 characters, and may be missing or odd."""
    agents = ["x" * 1_000, "", "\u00e9\u00ff'; DROP TABLE sessions --", "<script>"]
    client.register()
    tokens = [token_of(client.log_in(headers={"User-Agent": agent})) for agent in agents]

    shown = [session["user_agent"] for session in client.sessions_of(tokens[0])]
    assert [agent[:256] for agent in reversed(agents)] == shown[:-1]


def test_end_one(client, token):
    """A session is ended by its public id, at the next request; the current one stays."""
    other = token_of(client.log_in())

    answer = client.request_as(token, "DELETE", f"/sessions/{public_id(other)}")

    assert (answer.status_code, answer.json["message"]) == (200, "Session ended.")
    assert "set-cookie" not in answer.headers
    assert client.events("event", "user_id", "session_id")[-1] == (
        "session_revoked",
        1,
        public_id(other),
    )
    assert client.get_as(other).status_code == 401
    assert client.get_as(token).status_code == 200
    assert client.request_as(token, "DELETE", f"/sessions/{public_id(other)}").status_code == 404


def test_end_the_current_one(client, token):
    """Ending the current session deletes the cookie too."""
    answer = client.request_as(token, "DELETE", f"/sessions/{public_id(token)}")

    assert answer.status_code == 200
    assert deletes_cookie(answer)
    assert client.get_as(token).status_code == 401


def test_end_others_one_by_one(client):
    """Ending other sessions one by one keeps the cookie of the current one."""
    tokens = [token_of(client.register()), *(token_of(client.log_in()) for _ in range(2))]
    least, current, most = sorted(tokens, key=public_id)

    for other in (least, most):
        answer = client.request_as(current, "DELETE", f"/sessions/{public_id(other)}")
        assert (answer.status_code, answer.headers.get("set-cookie")) == (200, None)


def test_end_anothers(client, token):
    """Another user's session is not found, as one that is not there, and lives on."""
    other = token_of(client.register(**OTHER))
    paths = [f"/sessions/{name}" for name in (public_id(other), "0" * 64, "x", "1", "%00", "a/b")]

    answers = [client.request_as(token, "DELETE", path) for path in paths]

    assert [404] * len(paths) == [answer.status_code for answer in answers]
    assert {"not_found"} == {answer.json["error"] for answer in answers}
    for path, answer in zip(paths, answers, strict=True):
        assert f'Path "{path}" not found.' == answer.json["message"]
    assert client.get_as(other).status_code == 200
    assert "session_revoked" not in client.events()


@pytest.mark.parametrize("path", ["/sessions", "/sessions/{}"])
def test_others_are_ended_from_a_fresh_session(client, token, clock, path):
    """To end other sessions takes a password that was given a short while ago (ASVS 7.5.2)."""
    other = token_of(client.log_in())
    clock.move(300)

    answer = client.request_as(token, "DELETE", path.format(public_id(other)))

    assert (answer.status_code, answer.json["error"]) == (403, "fresh_login_required")
    assert client.get_as(other).status_code == 200
    token = client.reauthenticate(token)
    assert client.request_as(token, "DELETE", path.format(public_id(other))).status_code == 200
    assert client.get_as(other).status_code == 401


def test_ones_own_session_is_ended_without_a_password(client, token, clock):
    """The current session can be ended by its id as by a logout, fresh or not."""
    clock.move(300)

    answer = client.request_as(token, "DELETE", f"/sessions/{public_id(token)}")

    assert answer.status_code == 200
    assert client.get_as(token).status_code == 401


def test_end_an_expired_one(client, clock):
    """A session that has expired is not there any more, pruned or not."""
    first = token_of(client.register())
    clock.move(10)
    second = token_of(client.log_in())
    clock.move(259_190)
    second = client.reauthenticate(second)

    answer = client.request_as(second, "DELETE", f"/sessions/{public_id(first)}")

    assert answer.status_code == 404


def test_end_others(client, token):
    """All but the current session end, and the answer says how many; another user's do not."""
    others = [token_of(client.log_in()) for _ in range(3)]
    stranger = token_of(client.register(**OTHER))

    answer = client.request_as(token, "DELETE", "/sessions")

    assert (answer.status_code, answer.json["ended"]) == (200, 3)
    assert [client.get_as(other).status_code for other in others] == [401] * 3
    assert client.get_as(token).status_code == 200
    assert client.get_as(stranger).status_code == 200
    answer = client.request_as(token, "DELETE", "/sessions")
    assert (answer.json["message"], answer.json["ended"]) == ("Other sessions ended.", 0)
    ended = client.events("event", "user_id", "session_id")[-3:]
    assert {("session_revoked", 1, public_id(other)) for other in others} == set(ended)


def test_end_of_one_is_told(client, token):
    """A session that was ended by its id is told of, once."""
    other = token_of(client.log_in())

    client.request_as(token, "DELETE", f"/sessions/{public_id(other)}")

    assert client.events("event", "session_id")[-1] == ("session_revoked", public_id(other))
    assert client.events().count("session_revoked") == 1
