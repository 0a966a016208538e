"""Logout: of one session, and everywhere."""

import pytest
from conftest import OTHER, deletes_cookie, token_of


def test_logout_kills_the_token(client, token):
    """After logout the same cookie is dead on every route, and the cookie is deleted."""
    answer = client.post("/logout", headers={"Cookie": f"jwt={token}"})

    assert (
        answer.status_code,
        answer.json["message"],
        answer.json["user"],
    ) == (200, "Logged Out.", None)
    assert deletes_cookie(answer)
    for path in ("/user", "/"):
        replay = client.get_as(token, path)
        assert (replay.status_code, replay.json["error"]) == (401, "invalid_token")


@pytest.mark.parametrize("cookie", ["", "jwt=", "jwt=garbage", "jwt=a; jwt=b", "other=1"])
def test_logout_without_a_session(client, cookie):
    """Logout works without a session too, whatever the cookie is, and with any body."""
    answer = client.simulate_post("/logout", headers={"Cookie": cookie}, body="not JSON")

    assert (answer.status_code, answer.json["message"]) == (200, "Logged Out.")
    assert deletes_cookie(answer)


def test_logout_of_more_than_one(client, token):
    """Each session ends whose token is sent, whatever is sent with them."""
    other, stranger = token_of(client.log_in()), token_of(client.register(**OTHER))
    headers = {
        "Cookie": f"jwt={token}; jwt=garbage; jwt={other}",
        "Authorization": f"Bearer {token}",
    }

    assert client.post("/logout", headers=headers).status_code == 200

    assert [client.get_as(each).status_code for each in (token, other, stranger)] == [401, 401, 200]
    assert client.events().count("logged_out") == 2


def test_logout_by_bearer(client, token):
    """A client that sends the token in a header ends its session in the same way."""
    client.post("/logout", headers={"Authorization": f"Bearer {token}"})

    assert client.get_as(token).status_code == 401


def test_logout_everywhere(client, token):
    """All sessions of the user end, the current one included; another user's do not."""
    others = [token_of(client.log_in()) for _ in range(2)]
    stranger = token_of(client.register(**OTHER))

    answer = client.request_as(token, "POST", "/logout", {"everywhere": True})

    assert (answer.status_code, answer.json["message"]) == (200, "Logged Out.")
    assert deletes_cookie(answer)
    assert [client.get_as(each).status_code for each in (token, *others)] == [401] * 3
    assert client.get_as(stranger).status_code == 200
    assert client.events().count("logged_out") == 1
    assert client.events().count("session_revoked") == 2


@pytest.mark.parametrize("body", [{}, {"everywhere": False}])
def test_logout_here(client, token, body):
    """Without the word only the current session ends."""
    other = token_of(client.log_in())

    client.request_as(token, "POST", "/logout", body)

    assert [client.get_as(each).status_code for each in (token, other)] == [401, 200]


@pytest.mark.parametrize("body", [{"everywhere": "yes"}, {"everywhere": 1}, {"all": True}])
def test_logout_with_a_bad_body(client, token, body):
    """A body that says nothing clear is refused, and nobody is logged out by it."""
    answer = client.request_as(token, "POST", "/logout", body)

    assert answer.status_code == 422
    assert client.get_as(token).status_code == 200


def test_dead_token_logs_nobody_out(client, token):
    """A token whose session has ended ends no other one, and the answer does not say so."""
    other = token_of(client.log_in())
    client.request_as(token, "POST", "/logout")

    answer = client.request_as(token, "POST", "/logout", {"everywhere": True})

    assert (answer.status_code, answer.json["error"]) == (401, "invalid_token")
    assert deletes_cookie(answer)
    assert client.post("/logout", {"everywhere": True}).json["error"] == "not_authenticated"
    assert client.get_as(other).status_code == 200
    assert client.events().count("logged_out") == 1


def test_empty_json_body_of_a_logout(client, token):
    """A client that declares JSON and sends nothing is logged out."""
    headers = {"Cookie": f"jwt={token}", "Content-Type": "application/json"}

    assert client.simulate_post("/logout", headers=headers).status_code == 200
    assert client.get_as(token).status_code == 401
