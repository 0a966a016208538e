"""`protect_asgi` around FastAPI, Starlette, Litestar and Django, under uvicorn and over sockets."""

import pytest
from conftest import USER, request
from examples import example, examples, page, status_of

pytest.importorskip("uvicorn", reason="the extra `test` has uvicorn and the frameworks")

from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect


def registered(url, **fields):
    """Register a user at an example; return the header with the session's cookie."""
    status, _, headers = request(f"{url}/auth/register", {**USER, **fields})
    assert status == 201
    return headers["Set-Cookie"].partition(";")[0]


def test_every_example_is_run():
    """The page has the examples that are run here, and no other Python."""
    names = {"notes_api.py", "starlette_pages.py", "orders.py", "portal_asgi.py"}
    assert set(examples("asgi")) == names
    assert page("asgi").count("```python") == len(names)


def test_fastapi(tmp_path):
    """FastAPI's dependency gives the user of a request and of a websocket, until the logout."""
    with example(tmp_path, "notes_api.py") as url:
        assert request(f"{url}/notes")[:2] == (401, {"detail": "log in first"})
        sent = registered(url)
        assert request(f"{url}/notes", Cookie=sent)[1] == {"owner": 1, "notes": []}
        feed, headers = f"{url}/feed".replace("http", "ws"), {"Cookie": sent}
        for refused in ({"origin": "https://evil.example", "additional_headers": headers}, {}):
            with pytest.raises(InvalidStatus) as answer, connect(feed, **refused):
                pass
            assert answer.value.response.status_code == 401
        with connect(feed, origin=url, additional_headers=headers) as socket:
            socket.send("hello")
            assert socket.recv() == f"{USER['username']}: hello"
            assert request(f"{url}/auth/logout", {}, Cookie=sent)[0] == 200
            socket.send("still there?")
            with pytest.raises(ConnectionClosedError, match="log in again"):
                socket.recv()
        assert request(f"{url}/notes", Cookie=sent)[0] == 401


def test_starlette(tmp_path):
    """Starlette's `@requires` lets a session pass, and `request.user` has its name."""
    with example(tmp_path, "starlette_pages.py") as url:
        assert request(f"{url}/")[1] == {"hello": "stranger"}
        assert status_of(f"{url}/diary") == 403
        sent = registered(url)
        assert request(f"{url}/", Cookie=sent)[1] == {"hello": USER["username"]}
        assert request(f"{url}/diary", Cookie=sent)[1] == {"of": 1, "entries": []}


def test_litestar(tmp_path):
    """Litestar's `request.user` is the user, and a guard refuses requests without one."""
    pytest.importorskip("litestar")
    with example(tmp_path, "orders.py") as url:
        assert request(f"{url}/")[1] == {"hello": "stranger"}
        assert request(f"{url}/orders")[0] == 401
        sent = registered(url)
        assert request(f"{url}/", Cookie=sent)[1] == {"hello": USER["username"]}
        assert request(f"{url}/orders", Cookie=sent)[1] == {"customer": 1, "orders": []}


def test_django(tmp_path):
    """Django knows its users by id under ASGI too."""
    with example(tmp_path, "portal_asgi.py") as url:
        assert request(f"{url}/")[1] == {"key": "", "hello": "stranger"}
        sent = registered(url)
        found = {"key": "authapi-1", "hello": USER["username"]}
        assert request(f"{url}/", Cookie=sent)[1] == found
        assert request(f"{url}/auth/logout", {}, Cookie=sent)[0] == 200
        assert request(f"{url}/", Cookie=sent)[1] == {"key": "", "hello": "stranger"}
