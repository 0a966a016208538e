"""Replay: a token whose session has ended opens nothing, whatever ended it."""

import pytest
from conftest import OTHER, USER, deletes_cookie, token_of

from authapi import AuthAPI

PASSWORD = {"password": USER["password"]}
CHANGE = {"current_password": USER["password"], "new_password": "another password"}

ROUTES = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/user"),
    ("PATCH", "/user"),
    ("DELETE", "/user"),
    ("PUT", "/user/password"),
    ("GET", "/user/activity"),
    ("GET", "/sessions"),
    ("DELETE", "/sessions"),
    ("DELETE", "/sessions/{session_id}"),
    ("POST", "/sessions/reauthenticate"),
    ("GET", "/verify"),
    *((method, "/verify/a/b") for method in ("GET", "POST", "OPTIONS", "TRACE")),
]
OPEN = ("/livez", "/readyz", "/openapi.json", "/docs")
PUBLIC = {("POST", path) for path in ("/register", "/login", "/logout")}
PUBLIC |= {(method, path) for method in ("GET", "HEAD") for path in OPEN}


def by_public_id(client, token):
    (session_id,) = [each["id"] for each in client.sessions_of(token) if each["current"]]
    return f"/sessions/{session_id}"


# How a session ends: each is given the client, the clock, its token and another of the same user.
ENDS = {
    "logout": lambda c, _, token, __: c.request_as(token, "POST", "/logout"),
    "logout everywhere": lambda c, _, token, __: c.request_as(
        token, "POST", "/logout", {"everywhere": True}
    ),
    "logout everywhere from another": lambda c, _, __, other: c.request_as(
        other, "POST", "/logout", {"everywhere": True}
    ),
    "ended by itself": lambda c, _, token, __: c.request_as(
        token, "DELETE", by_public_id(c, token)
    ),
    "ended from another": lambda c, _, token, other: c.request_as(
        other, "DELETE", by_public_id(c, token)
    ),
    "all others ended": lambda c, _, __, other: c.request_as(other, "DELETE", "/sessions"),
    "password changed": lambda c, _, token, __: c.request_as(
        token, "PUT", "/user/password", CHANGE
    ),
    "password changed from another": lambda c, _, __, other: c.request_as(
        other, "PUT", "/user/password", CHANGE
    ),
    "reauthenticated": lambda c, _, token, __: c.request_as(
        token, "POST", "/sessions/reauthenticate", PASSWORD
    ),
    "user deleted": lambda c, _, token, __: c.request_as(token, "DELETE", "/user", PASSWORD),
    "user disabled": lambda c, *_: c.query("UPDATE users SET disabled_at = 1 WHERE id = 1"),
    "idle": lambda _, clock, *__: clock.move(259_200),
    "one too many": lambda c, *_: [c.log_in() for _ in range(3)],
}


REPLACED = {"password changed", "reauthenticated"}  # the browser may hold the newer cookie


@pytest.mark.parametrize("end", ENDS)
def test_replay(make_client, clock, end):
    """An ended token is refused on every route, as cookie and bearer, and hours later too."""
    client = make_client(max_sessions=3)
    token = token_of(client.register())
    other = token_of(client.log_in())
    stranger = token_of(client.register(**OTHER))
    path = by_public_id(client, token)
    if end == "one too many":
        clock.move(1)
        client.query("UPDATE sessions SET last_seen_at = last_seen_at + 1 WHERE id > 1")
    assert client.get_as(token).status_code == 200

    ENDS[end](client, clock, token, other)

    for deletes in (end not in REPLACED, True):
        for method, template in ROUTES:
            route = template.replace("/sessions/{session_id}", path)
            for headers in ({"Cookie": f"jwt={token}"}, {"Authorization": f"Bearer {token}"}):
                answer = client.simulate_request(method, route, headers=headers)
                assert (answer.status_code, route) == (401, route)
                assert deletes_cookie(answer) == (deletes and "Cookie" in headers)
                if method != "HEAD":
                    assert answer.json["error"] == "invalid_token"
        if end == "idle":
            return
        clock.move(3_600)
    assert client.get_as(stranger).status_code == 200


def test_every_route_is_replayed(make_client, monkeypatch):
    """The list above is all of the routes that need a session."""
    paths, add_route = [], AuthAPI.add_route

    def spy(app, path, resource):
        paths.append(path)
        add_route(app, path, resource)

    monkeypatch.setattr(AuthAPI, "add_route", spy)
    client = make_client()

    found = {
        (method, path)
        for path in paths
        if path != "/verify/{path:path}"  # which has no list of its methods
        for method in client.simulate_options(path).headers["allow"].split(", ")
    }
    listed = {(method, path) for method, path in ROUTES if path != "/verify/a/b"}
    heads = {("HEAD", path) for method, path in listed if method == "GET"}
    assert found - listed - heads == PUBLIC
    assert listed | heads <= found
