"""The Chromium of the tests: it reaches nothing but this machine, and ends with the tests."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from chromium import PageError, chromium_running, installed_chromium
from conftest import eventually, running


def test_it_calls_nobody(tmp_path, make_app):
    """It connects to 127.0.0.1 alone, even if a page asks for another host or address."""
    log = tmp_path / "net.json"
    with running(make_app()) as port, chromium_running(f"--log-net-log={log}") as chromium:
        page = chromium.context().open(f"http://app.example.test:{port}/docs")
        for other in ("http://example.com", "http://192.0.2.1", "https://[2001:db8::1]"):
            with pytest.raises(PageError, match="Failed to fetch"):
                page.run(f"await fetch('{other}', {{mode: 'no-cors'}})")

    logged = json.loads(log.read_text())
    kind = logged["constants"]["logEventTypes"]["TCP_CONNECT_ATTEMPT"]
    attempts = [each.get("params", {}) for each in logged["events"] if each["type"] == kind]
    assert {each["address"] for each in attempts if "address" in each} == {f"127.0.0.1:{port}"}


def test_it_ends_with_the_tests():
    """It ends, with all its processes, when the process of the tests is killed."""
    installed_chromium()
    code = (
        "import chromium, time\n"
        "with chromium.chromium_running():\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as tests:
        assert tests.stdout.readline() == b"ready\n"
        before = processes_of(tests.pid)
        os.kill(tests.pid, signal.SIGKILL)

    assert len(before) > 2
    eventually(lambda: not processes_of(tests.pid))


def processes_of(session):
    """Return the processes of a session, as `setsid` makes one."""
    lines = subprocess.check_output(["ps", "-eo", "sid,pid,args"], text=True).splitlines()[1:]
    return [line for line in lines if int(line.split()[0]) == session]
