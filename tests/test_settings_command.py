"""`authapi settings`: what the settings are, where each comes from, and whether they are valid."""

import json
import re

import pytest
from conftest import RUN
from terminal import AUTHAPI, in_pipe

from authapi import Settings
from authapi.commands.cli import main
from authapi.settings import declared_settings
from authapi.settings.shown import as_toml

SECRET = "31415926535897932384626433832795"
URL = "postgresql://authapi:zzzzzz%21@db.example.com/authapi"


@pytest.fixture(name="config")
def _config(tmp_path):
    """Return a settings file."""
    path = tmp_path / "authapi.toml"
    path.write_text("port = 8080\nmax_sessions = 7\n")
    path.chmod(0o600)
    return path


@pytest.fixture(name="run")
def _run(capsys):
    """Run the command in this process; return its status and its output."""

    def run(*arguments):
        return main(["settings", *map(str, arguments)]), *capsys.readouterr()

    return run


def test_where_each_value_comes_from(config, tmp_path):
    """Each setting has its value and its place; secrets are hidden, as in a database's URL."""
    (file := tmp_path / "url").write_text(f"{URL}\n")
    file.chmod(0o600)
    environ = {"AUTHAPI_MAX_SESSIONS": "9", "AUTHAPI_SECRET_KEY": SECRET}
    environ["AUTHAPI_DATABASE_URL_FILE"] = str(file)

    status, shown, errors = in_pipe(*AUTHAPI, "settings", "--config", str(config), **environ)

    assert (status, errors) == (0, "")
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in shown.splitlines())
    assert rows["NAME"].split() == ["VALUE", "FROM"]
    assert re.split("  +", rows["port"]) == ["8080", f"port in {config}"]
    assert re.split("  +", rows["max_sessions"]) == ["9", "AUTHAPI_MAX_SESSIONS"]
    assert re.split("  +", rows["host"]) == ["127.0.0.1", "default"]
    assert re.split("  +", rows["public_url"]) == ["http://127.0.0.1:8080", "default"]
    assert re.split("  +", rows["secret_key"]) == ["***", "AUTHAPI_SECRET_KEY"]
    assert re.split("  +", rows["database_url"]) == [
        "postgresql://authapi:***@db.example.com/authapi",
        f"AUTHAPI_DATABASE_URL_FILE ({file})",
    ]
    assert {each.name for each in declared_settings()} == {*rows} - {"NAME"}
    assert SECRET not in shown
    assert "zzzzzz" not in shown


def test_json(run, config, monkeypatch):
    """For programs there is one object a line, with whole values."""
    monkeypatch.setenv("AUTHAPI_SECRET_KEY", SECRET)

    status, shown, _ = run("--config", config, "--database-url", "sqlite:////x.db", "--json")

    rows = {row["name"]: row for row in map(json.loads, shown.splitlines())}
    assert status == 0
    assert rows["port"] == {
        "name": "port",
        "variable": "AUTHAPI_PORT",
        "value": 8080,
        "from": f"port in {config}",
    }
    assert rows["database_url"]["from"] == "--database-url"
    assert rows["reserved_usernames"]["value"].endswith(" www")
    assert SECRET not in shown


def test_check(run, config):
    """`--check` says whether the settings are valid, by its status, and starts nothing."""
    assert run("--config", config, "--check") == (0, "The settings are valid.\n", "")
    assert {path.name for path in config.parent.iterdir()} == {"authapi.toml"}
    config.write_text("port = 8080\nhots = '::1'")

    status, shown, errors = run("--config", config, "--check")

    assert (status, shown) == (2, "")
    assert errors == (
        f"authapi: hots in {config} is not a setting; host was likely meant: rename or remove it.\n"
    )


def test_check_reads_the_secret_key_file(run, tmp_path, monkeypatch):
    """A secret key file that cannot be used is no valid setting."""
    monkeypatch.setenv("AUTHAPI_SECRET_KEY_FILE", str(tmp_path / "nowhere"))

    status, _, errors = run("--check", "--json")

    assert status == 2
    assert "nowhere cannot be read" in json.loads(errors)["message"]


GIVEN = {
    "AUTHAPI_PORT": "8081",
    "AUTHAPI_WORKERS": "auto",
    "AUTHAPI_PUBLIC_URL": "https://auth.example.com",
    "AUTHAPI_ALLOWED_ORIGINS": "https://a.example, https://b.example",
    "AUTHAPI_RESERVED_USERNAMES": "none",
    "AUTHAPI_KEY_FILE": '/a "b" \\ \x7f \u202e \U000e0041 é.key',
}


def test_a_file_of_all_settings(run, tmp_path, monkeypatch):
    """`--toml` writes a file that sets the same values, and shows every other setting's default."""
    for name, text in GIVEN.items():
        monkeypatch.setenv(name, text)
    status, written, errors = run("--toml")
    (path := tmp_path / "authapi.toml").write_text(written)

    assert (status, errors) == (0, "")
    assert Settings.from_env({}, config=path) == Settings.from_env(GIVEN)
    assert set(re.findall(r"^(?:# )?(\w+) = ", written, re.MULTILINE)) == {
        each.name for each in declared_settings()
    }
    assert "# The port to listen on; 0 takes any free one.\nport = 8081\n" in written
    assert "\x7f" not in written


def test_defaults_that_are_switched_on(tmp_path):
    """Each commented line is a setting as it is without it."""
    lines = as_toml(Settings.from_env({})).replace("\n# ", "\n#")
    shown = re.findall(r"^#(\w+ = .*)$", lines, re.MULTILINE)
    (path := tmp_path / "authapi.toml").write_text("\n".join(shown))

    assert len(shown) == len(declared_settings())
    assert Settings.from_env({}, config=path) == Settings.from_env({})


def test_secrets_are_not_written(tmp_path):
    """The file names the files of secrets, and leaves others where they are."""
    (url := tmp_path / "url").write_text(URL)
    url.chmod(0o600)
    secret = {"AUTHAPI_SECRET_KEY": SECRET}
    settings = Settings.from_env({**secret, "AUTHAPI_DATABASE_URL_FILE": str(url)})

    written = as_toml(settings)

    assert SECRET not in written
    assert "zzzzzz" not in written
    assert "# It is secret, and left to AUTHAPI_SECRET_KEY." in written
    (path := tmp_path / "authapi.toml").write_text(written)
    assert settings == Settings.from_env(secret, config=path)


def test_bytes_that_are_not_utf8():
    """A path of the environment that is not UTF-8 is left there, and the file stays TOML."""
    settings = Settings.from_env({"AUTHAPI_KEY_FILE": b"/a\xff".decode(errors="surrogateescape")})

    written = as_toml(settings)

    assert "# It is not UTF-8, and left to AUTHAPI_KEY_FILE." in written
    written.encode()


def test_config_of_serve(config):
    """`authapi serve` takes the settings file too, and refuses one that is not there."""
    config.unlink()
    command = [AUTHAPI[0], str(RUN), "--config", str(config)]

    status, _, errors = in_pipe(*command)

    assert status == 2
    assert errors == (
        f"authapi: The settings file {config} cannot be read (No such file or directory): "
        "name another one in AUTHAPI_CONFIG or with --config.\n"
    )
