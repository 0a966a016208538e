"""The fixture of tests of operator commands, which name this module in `pytest_plugins`."""

import io
import json
import time

import pytest
from conftest import CHEAP

from authapi.commands.cli import main


class Operator:
    """Runs commands beside the service of a client, as an operator does in a pipe."""

    def __init__(self, client, capsys, monkeypatch):
        self.client = client
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments, given=None):
        """Run a command; return its status, its output and its errors."""
        if given is not None:
            stdin = io.TextIOWrapper(io.BytesIO(given.encode()))
            self._monkeypatch.setattr("sys.stdin", stdin)
        self._monkeypatch.setenv("AUTHAPI_DATABASE_URL", self.client.app.core.settings.database_url)
        self._capsys.readouterr()
        status = main([*arguments])
        return (status, *self._capsys.readouterr())

    def json(self, *arguments, given=None):
        """Run a command that succeeds; return what it writes as JSON."""
        status, output, errors = self(*arguments, "--json", given=given)
        assert (status, errors) == (0, "")
        return [json.loads(line) for line in output.splitlines()]

    def refusal(self, *arguments, given=None):
        """Run a command that fails; return its status, and its error's name and sentence."""
        status, output, errors = self(*arguments, "--json", given=given)
        error = json.loads(errors)
        assert output == ""
        assert error.keys() == {"error", "message"}
        return status, error["error"], error["message"]


@pytest.fixture(name="operate")
def _operate(client, clock, capsys, monkeypatch):
    clock.now = time.time()  # commands run by the real time
    for name, value in CHEAP.items():
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", str(value))
    return Operator(client, capsys, monkeypatch)
