"""The systemd unit and the compose file of docs/examples."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RUN, USER, process, request

from authapi.settings import declared_settings

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
UNIT, COMPOSE = EXAMPLES / "authapi.service", EXAMPLES / "compose.yaml"
COMPOSE_COMMANDS = (["docker", "compose"], ["docker-compose"])


def run(*command):
    """Run a program; skip the test if it is not installed."""
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, capture_output=True, text=True, check=False)


def has(*command):
    """Return whether a program is installed and works."""
    return bool(shutil.which(command[0])) and run(*command).returncode == 0


def directives():
    """Return the directives of the unit, with all their values."""
    found = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_is_valid(tmp_path):
    """The tool of systemd finds nothing to say about the unit."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/authapi/bin/authapi", "/bin/true"))

    done = run("systemd-analyze", "verify", "--man=no", unit)

    assert (done.returncode, done.stderr) == (0, "")


def test_the_units_exposure():
    """By systemd's own scale the unit is hardened as well as it was."""
    done = run("systemd-analyze", "security", "--offline=true", "--threshold=13", UNIT)

    assert done.returncode == 0, done.stdout


def group(name):
    """Return the system calls of one of systemd's groups."""
    lines = run("systemd-analyze", "syscall-filter", "--no-pager", name).stdout.splitlines()[1:]
    names = {line.strip() for line in lines} - {""}
    nested = {each for each in names if each.startswith("@")}
    return {each for each in names - nested if not each.startswith("#")}.union(
        *(group(each) for each in nested)
    )


def test_the_units_system_calls(tmp_path):
    """The unit allows what the service asks of the system, from its start to its end."""
    assert directives()["SystemCallFilter"] == ["@system-service", "~@privileged"]
    allowed = group("@system-service") - group("@privileged")
    trace = tmp_path / "trace"
    probe = run("strace", "-f", "-o", trace, "true")
    if probe.returncode:
        pytest.skip(f"strace cannot trace: {probe.stderr}")
    command = ("strace", "-f", "-qq", "-o", str(trace), sys.executable, str(RUN))
    with process(
        tmp_path,
        run=("-c", f"import os; os.execvp('strace', {command!r})"),
        AUTHAPI_WORKERS="2",
    ) as (service, url):
        assert request(f"{url}/register", USER)[0] == 201
        (traced,) = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
        subprocess.run(["kill", traced], check=True)
        service.wait(60)

    used = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    assert "setpriority" in used
    # As root, SQLite gives its log to the owner of the database. The unit's user is not root.
    assert used - allowed <= {"fchown"}


def test_the_compose_file_is_valid():
    """Compose reads the file, and passes empty values, which count as unset."""
    compose = next((each for each in COMPOSE_COMMANDS if has(*each, "version")), None)
    if compose is None:
        pytest.skip("compose is not installed")

    done = run(*compose, "-f", COMPOSE, "config")

    assert done.returncode == 0, done.stderr
    assert re.search(r"AUTHAPI_LOG_LEVEL: ['\"]{2}\n", done.stdout)


@pytest.mark.parametrize("path", [UNIT, COMPOSE], ids=lambda path: path.name)
def test_the_examples_set_settings(path):
    """Each variable that an example sets is a setting."""
    names = set(re.findall(r"AUTHAPI_\w+", path.read_text()))

    assert names
    assert names <= {f"AUTHAPI_{each.name.upper()}" for each in declared_settings()}


def test_the_examples_wait_for_a_stop():
    """Both wait longer than a stop takes; a start that is refused is not repeated."""
    assert directives()["TimeoutStopSec"] == ["12"]
    assert "stop_grace_period: 12s" in COMPOSE.read_text()
    assert directives()["RestartPreventExitStatus"] == ["2"]
