"""Embedding: the examples of the pages run, and what both ways have in common."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHEAPLY, OTHER, USER, request, start
from examples import ROOT, example, examples, page, status_of

pytest_plugins = ("embedding_fixtures",)


def test_every_example_is_run():
    """The page has the examples that are run here, and no other Python."""
    flask, django = {"pages.py", "flask_login_pages.py"}, {"portal_users.py", "portal.py"}
    assert set(examples("embedding")) == {"shop.py", "welcome.py", *flask, *django}
    assert page("embedding").count("```python") == 6


def test_example_of_mount(tmp_path):
    """The Falcon example has an open page, a protected one, and our routes under /auth."""
    with example(tmp_path, "shop.py") as url:
        assert request(f"{url}/prices")[:2] == (200, {"tea": 3})
        assert request(f"{url}/orders")[0] == 401
        _, _, headers = request(f"{url}/auth/register", USER)
        sent = headers["Set-Cookie"].partition(";")[0]
        status, found, headers = request(f"{url}/orders", Cookie=sent)
        assert (status, found) == (200, {"customer": 1, "orders": []})
        assert "Server" not in headers
        assert request(f"{url}/auth/user", Cookie=sent)[1]["user"]["username"] == USER["username"]
    assert (tmp_path / "authapi.db.key").exists()


def test_example_of_protect(tmp_path):
    """The Flask example greets everyone, and whoever has logged in by name."""
    with example(tmp_path, "pages.py") as url:
        assert request(f"{url}/")[:2] == (200, {"hello": "stranger"})
        assert request(f"{url}/diary")[:2] == (401, {"error": "log in first"})
        _, _, headers = request(f"{url}/auth/register", USER)
        sent = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/", Cookie=sent)[1] == {"hello": USER["username"]}
        assert request(f"{url}/diary", Cookie=sent)[1] == {"of": 1, "entries": []}
        assert request(f"{url}/auth/logout", {}, Cookie=sent)[0] == 200
        assert request(f"{url}/", Cookie=sent)[1] == {"hello": "stranger"}


def test_example_of_flask_login(tmp_path):
    """Flask-Login's `current_user` is the user of the session, until it ends."""
    pytest.importorskip("flask_login", reason="the extra `test` has Flask-Login")
    with example(tmp_path, "flask_login_pages.py") as url:
        assert status_of(f"{url}/diary") == 401
        _, _, headers = request(f"{url}/auth/register", USER)
        sent = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/diary", Cookie=sent)[1] == {"of": 1, "entries": []}
        assert request(f"{url}/auth/logout", {}, Cookie=sent)[0] == 200
        assert status_of(f"{url}/diary", Cookie=sent) == 401


def run_example(folder, name, then):
    """Run an example, and then more, in a process of its own; give what it printed."""
    (folder / name).write_text(examples("embedding")[name])
    environ = {**os.environ, **CHEAPLY, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    run = subprocess.run(
        [sys.executable, "-c", then],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_flask_client(tmp_path):
    """The Flask example works in Flask's test client, which keeps the cookie by itself."""
    then = f"""
from pages import app
client = app.test_client()
print(client.get("/").json["hello"], client.get("/diary").status_code)
client.post("/auth/register", json={USER!r})
print(client.get("/").json["hello"], client.get("/diary").json["of"])
"""

    assert run_example(tmp_path, "pages.py", then) == f"stranger 401\n{USER['username']} 1\n"


def test_flask_run(tmp_path):
    """The Flask example works under `flask run`, with our routes under /auth."""
    (tmp_path / "pages.py").write_text(examples("embedding")["pages.py"])
    run = ("-m", "flask", "--app", "pages", "run", "--port", "0")
    service = start(tmp_path, run=run, PYTHONPATH=str(ROOT))
    try:
        line = next(line for line in service.stderr if "Running on" in line)
        url = re.search(r"http://\S+:\d+", line)[0]
        status, _, headers = request(f"{url}/auth/register", USER)
        assert status == 201
        sent = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/", Cookie=sent)[1] == {"hello": USER["username"]}
    finally:
        service.kill()
        service.communicate()


def test_example_of_django(tmp_path):
    """The Django example knows its users by id: one who takes a freed name is another."""
    with example(tmp_path, "portal.py") as url:
        assert request(f"{url}/")[1] == {"key": "", "hello": "stranger"}
        _, _, headers = request(f"{url}/auth/register", {**USER, "username": "first"})
        first = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/", Cookie=first)[1] == {"key": "authapi-1", "hello": "first"}
        request(f"{url}/auth/user", {"username": "renamed"}, method="PATCH", Cookie=first)
        _, _, headers = request(f"{url}/auth/register", {**OTHER, "username": "first"})
        second = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/", Cookie=second)[1] == {"key": "authapi-2", "hello": "first"}
        assert request(f"{url}/auth/logout", {}, Cookie=second)[0] == 200
        assert request(f"{url}/", Cookie=second)[1] == {"key": "", "hello": "stranger"}


def test_example_of_events(tmp_path):
    """The example of events finds the address of a user who has just registered."""
    then = f"""
import welcome
from falcon import testing
testing.TestClient(welcome.auth).simulate_post("/register", json={USER!r})
"""

    assert run_example(tmp_path, "welcome.py", then) == f"a mail to {USER['email']}\n"


def test_page_of_testing(tmp_path):
    """The tests of the page on testing pass."""
    page = (ROOT / "docs" / "testing.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    (tmp_path / "test_notes.py").write_text(code)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "3 passed" in run.stdout, run.stdout


def test_users(make_client, token):
    """A user is found by id, as long as the account is there."""
    client = make_client()

    assert client.app.users.get(1).email == USER["email"]
    assert client.app.users.get(2) is None
    client.request_as(token, "DELETE", "/user", {"password": USER["password"]})
    assert client.app.users.get(1) is None


def test_attributes_of_the_page():
    """The page's table names each attribute of a resource that the code reads, and no other."""
    root = Path(__file__).parent.parent / "authapi"
    code = "".join(path.read_text() for path in root.glob("*.py"))
    read = set(re.findall(r'getattr\(resource, "(\w+)"', code))

    assert read == set(re.findall(r"^\| `(\w+)(?: = |\()", page("embedding"), re.MULTILINE))
