"""`import authapi` loads no service, reads no environment and shows no secret."""

import pydoc
import re
import subprocess
import sys
import traceback

import pytest
from conftest import unmeasured

import authapi
from authapi import SettingError, Settings
from authapi.settings import declared_settings

SECRET = "a planted secret, which nothing may show"
LIBRARIES = {"argon2", "asyncio", "falcon", "jwt", "msgspec", "sqlite3", "waitress"}


def run(code, **environ):
    """Return what a new interpreter prints."""
    return subprocess.check_output(
        [sys.executable, "-c", code], env={**unmeasured(), **environ}, text=True
    )


HELP_COMMAND = """
import authapi.commands.cli
try:
    authapi.commands.cli.main({})
except SystemExit:
    pass
"""
HELP_COMMANDS = [HELP_COMMAND.format(arguments) for arguments in (["--help"], ["user", "--help"])]


@pytest.mark.parametrize("code", ["import authapi", *HELP_COMMANDS])
def test_no_service_is_loaded(code):
    """Importing the package, or asking the command for help, loads none of the libraries."""
    loaded = run(f"{code}\nimport sys\nprint('loaded', *sys.modules)").rpartition("loaded")[2]

    assert "authapi" in loaded.split()
    assert not LIBRARIES & set(loaded.split())


START = """
import authapi.server
from authapi import Settings, create_app
create_app(Settings(database_url="sqlite:///start.db"))
"""
UNUSED = {
    "authapi.database.findings",
    "authapi.database.sqlite.inspection",
    "authapi.database.sqlite.replacement",
    "authapi.passwords.foreign_hashes",
    "authapi.passwords.key_derivation",
    "authapi.server.workers",
    "difflib",
    "falcon.asgi",
    "falcon.testing",
    "importlib.metadata",
    "prometheus_client",
    "psycopg",
    "smtplib",
    "unittest",
}


def test_a_start_loads_what_it_needs(tmp_path):
    """The application on SQLite loads no library of another engine, and none for tests or mail."""
    code = f"import os; os.chdir({str(tmp_path)!r})\n{START}\nimport sys\nprint(*sys.modules)"

    loaded = set(run(code).split())

    assert "falcon" in loaded
    assert not UNUSED & loaded


def test_public_names():
    """Every public name is there and listed, and no other."""
    assert set(authapi.__all__) <= set(dir(authapi))
    assert {name: name for name in authapi.__all__} == {
        name: getattr(authapi, name).__name__ for name in authapi.__all__
    }
    with pytest.raises(AttributeError, match="module 'authapi' has no attribute 'creat_app'"):
        authapi.creat_app  # noqa: B018 - the look-up is the test


def test_another_falcon_app(tmp_path):
    """An agent may put a subclass in the place of falcon.App before authapi is imported."""
    code = """
import falcon, falcon.testing

class Instrumented(falcon.App):
    pass

falcon.App = Instrumented
from authapi import Settings, create_app
app = create_app(Settings(database_url="sqlite:///authapi.db"))
print(isinstance(app, Instrumented), falcon.testing.simulate_get(app, "/user").status_code)
"""

    found = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, text=True)

    assert found == "True 401\n"


HELP = """
import inspect, pydoc, authapi
print(pydoc.render_doc(authapi, renderer=pydoc.plaintext))
for name in authapi.__all__:
    public = getattr(authapi, name)
    print(pydoc.render_doc(public, renderer=pydoc.plaintext))
    for member in (public, *(value for _, value in inspect.getmembers(public, callable))):
        try:
            print(inspect.signature(member))
        except (TypeError, ValueError):
            pass
"""


def test_help_shows_no_environment():
    """`help(authapi)`, and every signature, is the same whatever the environment holds."""
    shown = run(HELP, AUTHAPI_SECRET_KEY=SECRET, PLANTED=SECRET, COLUMNS="80")

    assert "from_env(" in shown
    assert SECRET not in shown
    assert "environ(" not in shown


def test_manual():
    """The manual that `help(authapi)` begins with names every way in, and calls that exist."""
    manual = authapi.__doc__
    users = manual.partition("Look after users")[2].partition("Hear what")[0]
    calls = re.findall(r"\.(\w+)\(", users)

    assert {"find", "list", "create", "disable", "delete"} <= set(calls)
    assert [call for call in calls if not hasattr(authapi.Users, call)] == []
    for name in ("create_app", "mount", "protect", "protect_asgi", "principal_of", "subscribe"):
        assert name in manual


@pytest.mark.parametrize("show", [repr, str, pydoc.render_doc, "{}".format, ascii])
def test_settings_show_no_secret(show):
    """However settings are shown, the secret key is not."""
    settings = Settings.from_env({"AUTHAPI_SECRET_KEY": SECRET})

    assert settings.secret_key == SECRET
    assert SECRET not in show(settings)


def secrets():
    """Return the settings that are declared secret."""
    return [each.name for each in declared_settings() if not each.repr]


REFUSED = [
    ({"AUTHAPI_SECRET_KEY": "hunter2"}, "hunter2"),
    ({"AUTHAPI_SECRET_KEY": "hunter2" * 8}, "hunter2"),
    ({"AUTHAPI_SECRET_KEY": SECRET, "AUTHAPI_KEY_FILE": "keys"}, SECRET),
    ({"AUTHAPI_SECRETKEY": SECRET}, SECRET),
    ({"AUTHAPI_DATABASE_URL": "postgres://user:hunter2@db/authapi"}, "hunter2"),
    ({"AUTHAPI_PUBLIC_URL": "https://user:hunter2@example.com"}, "hunter2"),
    ({"AUTHAPI_ALLOWED_ORIGINS": "https://user:hunter2@example.com"}, "hunter2"),
]


@pytest.mark.parametrize(("environ", "secret"), REFUSED)
def test_refusals_show_no_secret(environ, secret):
    """The traceback of a refused setting shows neither a key nor a password in a URL."""
    with pytest.raises(SettingError) as refused:
        Settings.from_env(environ)

    shown = "".join(traceback.format_exception(refused.value))
    assert secret not in shown
    assert "AUTHAPI_" in shown


@pytest.mark.parametrize("value", [b"hunter2", 7_777_777, ["hunter2"]])
def test_a_secret_of_another_type(value):
    """A secret that is no text is refused and not shown."""
    for name in secrets():
        with pytest.raises(SettingError) as refused:
            Settings(**{name: value})
        assert str(value) not in str(refused.value)
        assert "hunter2" not in str(refused.value)
