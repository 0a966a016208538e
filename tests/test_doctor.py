"""`doctor`: whether the settings, the machine and the database fit each other."""

import json
import os
import resource
import subprocess
import sys

import pytest

from authapi.commands.cli import main


@pytest.fixture(name="doctor")
def _doctor(engine, monkeypatch, capsys):
    """Run the command with settings; return its exit status, and the level and text by check."""
    values = {"database_url": engine.settings()["database_url"], "argon2_memory_kib": "8"}

    def doctor(*options, **settings):
        for name, value in {**values, **settings}.items():
            monkeypatch.setenv(f"AUTHAPI_{name.upper()}", value)
        capsys.readouterr()
        status = main(["doctor", "--json", *options])
        found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return status, {each["check"]: (each["level"], each["text"]) for each in found}

    return doctor


PUBLIC = {"public_url": "https://auth.example.com", "trusted_proxy": "127.0.0.1"}


def test_all_is_well(client, doctor, engine):
    """A service behind a proxy that was backed up has no finding."""
    url = engine.settings()["database_url"]
    if url.startswith("sqlite"):
        main(["db", "backup", f"{client.app.core.database.path}.copy", "--database-url", url])

    status, found = doctor("--strict", **PUBLIC)

    assert (status, {level for level, _ in found.values()}) == (0, {"ok"})
    assert len(found) >= 12


@pytest.mark.parametrize(
    ("settings", "check", "found"),
    [
        ({}, "public URL", ("warn", "set AUTHAPI_PUBLIC_URL")),
        ({"public_url": "http://auth.example.com"}, "public URL", ("fault", "is not https")),
        ({**PUBLIC, "trusted_proxy": ""}, "proxy", ("warn", "set AUTHAPI_TRUSTED_PROXY")),
        ({**PUBLIC, "trusted_proxy": "no-such.invalid"}, "proxy", ("fault", "no-such.invalid")),
        ({**PUBLIC, "allowed_origins": "http://localhost:5173"}, "origins", ("warn", "one domain")),
        (
            {
                "public_url": "https://a.vercel.app",
                "cookie_name": "s",
                "cookie_domain": "vercel.app",
            },
            "cookie domain",
            ("fault", "AUTHAPI_COOKIE_DOMAIN vercel.app is a public suffix"),
        ),
    ],
)
def test_settings_that_do_not_fit(client, doctor, settings, check, found):
    """Addresses that do not fit each other are named with the setting to change."""
    client.register()

    level, text = doctor(**settings)[1][check]

    assert (level, found[1] in text) == (found[0], True)


def test_the_exit_status(client, doctor):
    """A fault is 1, a warning is 0, and 1 with --strict."""
    client.register()

    assert doctor()[0] == 0
    assert doctor("--strict")[0] == 1
    assert doctor(public_url="http://auth.example.com")[0] == 1


@pytest.mark.sqlite("backups")
def test_backups(client, doctor, clock):
    """The newest backup's age is known from the audit log, and too old after a week."""
    client.register()
    assert doctor()[1]["backup"][0] == "warn"
    url = f"sqlite:///{client.app.core.database.path}"

    main(["db", "backup", f"{client.app.core.database.path}.copy", "--database-url", url])

    assert doctor()[1]["backup"] == ("ok", "The newest backup is 0.0 days old.")
    client.query("DROP TRIGGER audit_log_keeps_what_it_has")
    client.query("UPDATE audit_log SET created_at = created_at - 800000")
    level, text = doctor()[1]["backup"]
    assert (level, "9.3 days old" in text) == ("warn", True)
    assert clock.now < 2_000_000_000


@pytest.mark.sqlite("an audit log from the future")
def test_a_clock_that_is_slow(make_client, doctor, clock):
    """A clock that is behind the newest audit entry is a warning."""
    clock.now = 4_000_000_000
    make_client().register()

    level, text = doctor()[1]["clock"]

    assert level == "warn"
    assert "let NTP set it" in text


@pytest.mark.sqlite("no engine")
def test_no_database(doctor, tmp_path):
    """Without a database there is one fault, and nothing is made."""
    status, found = doctor()

    assert (status, found["database"][0]) == (1, "fault")
    assert not list(tmp_path.iterdir())


@pytest.mark.sqlite("no engine")
def test_no_memory_to_keep(client):
    """Where the system refuses the memory that hashing keeps, a warning says so."""
    limit = 600 << 20
    command = [sys.executable, "-m", "authapi", "doctor", "--json"]
    environ = {
        **os.environ,
        "AUTHAPI_DATABASE_URL": f"sqlite:///{client.app.core.database.path}",
        "AUTHAPI_ARGON2_MEMORY_KIB": str(1 << 20),
    }
    ran = subprocess.run(
        command,
        env=environ,
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )

    found = {each["check"]: each["level"] for each in map(json.loads, ran.stdout.splitlines())}
    assert found["hash memory"] == "warn"
