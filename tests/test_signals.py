"""Signals at every moment of a start, also to process 1 of a container."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CHEAPLY, RUN, connected, exchange, unmeasured

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
PATIENCE = 30  # seconds until a process that did not end has failed
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]
if os.geteuid() != 0:
    NAMESPACE += ["--user", "--map-root-user"]

# Runs `authapi serve`, and waits at a place until a signal comes.
AT = """
import runpy, sys, time

def wait(*_, **__):
    sys.stdout.write("waits\\n")
    sys.stdout.flush()
    while True:  # a signal just before a sleep does not shorten it
        time.sleep(0.01)

class AtImport:
    def find_spec(self, name, *_):
        if name == PLACE:
            wait()

if PLACE == "at the name server":
    import ctypes, socket
    lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(256)
    def stuck(*_, **__):
        print("waits", flush=True)
        lock(mutex)
        lock(mutex)
    socket.getaddrinfo = stuck
elif PLACE == "before the server":
    from authapi.server import process
    process.Server = wait
elif PLACE == "behind the server":
    from authapi.server import process
    class Late(process.Server):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            wait()
    process.Server = Late
elif PLACE == "in a worker":
    from authapi.server import process
    process.listen_beside = wait
else:
    sys.meta_path.insert(0, AtImport())
runpy.run_path(RUN, run_name="__main__")
"""
IMPORTS = ["argparse", "msgspec", "falcon", "authapi.server", "waitress"]
PLACES = [*IMPORTS, "at the name server", "before the server", "behind the server", "in a worker"]


def has_namespaces():
    probe = [*NAMESPACE, "true"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


in_a_container = pytest.mark.skipif(not has_namespaces(), reason="no process may be process 1")


class Start:
    """A start of the service, as process 1 or as any other."""

    def __init__(self, folder, *command, is_first=False, **environ):
        self._command = subprocess.Popen(
            [*(NAMESPACE if is_first else []), sys.executable, *command],
            cwd=folder,
            env={**unmeasured(), **CHEAPLY, "AUTHAPI_PORT": "0", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._is_first = is_first

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._command.poll() is None and self.pid:
            os.kill(self.pid, signal.SIGKILL)
        self._command.communicate()

    @property
    def pid(self):
        """The process that starts, as it is called here."""
        pid = self._command.pid
        if not self._is_first:
            return pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None

    def readline(self):
        return self._command.stdout.readline()

    def status(self):
        """Return how it ended, as a shell says, its output, and its log."""
        output, log = self._command.communicate(timeout=PATIENCE)
        status = self._command.returncode
        return (128 - status if status < 0 else status), output, log

    def catches(self, number):
        """Return whether it has a handler for a signal."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text()
        except (FileNotFoundError, TypeError):
            return False
        return bool(int(re.search(r"SigCgt:\s(\w+)", text)[1], 16) & 1 << number - 1)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_signal_in_the_start(tmp_path, place, workers, is_first):
    """A signal ends the start wherever it is, of one worker or of several, and as process 1."""
    if is_first and not has_namespaces():
        pytest.skip("no process may be process 1")
    if place == "in a worker" and workers == "1":
        pytest.skip("there is none")
    program = AT.replace("PLACE", repr(place)).replace("RUN", repr(str(RUN)))
    with Start(
        *(tmp_path, "-c", f"import sys; sys.path.insert(0, {str(RUN.parent)!r})\n{program}"),
        is_first=is_first,
        AUTHAPI_WORKERS=workers,
    ) as start:
        assert start.readline() == "waits\n"
        os.kill(start.pid, signal.SIGTERM)
        status, output, log = start.status()

    assert (status, log) == (128 + signal.SIGTERM, "")
    assert output in {"", "waits\n"}  # of the other worker


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("is_first", [True, False])
def test_signals_in_a_migration(tmp_path, number, is_first):
    """A start that waits for the database ends by each signal, without a traceback."""
    if is_first and not has_namespaces():
        pytest.skip("no process may be process 1")
    lock = os.open(tmp_path / "authapi.db.lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with Start(tmp_path, RUN, is_first=is_first) as start:
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / "authapi.db").exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        os.kill(start.pid, number)
        status, output, log = start.status()
    os.close(lock)

    assert (status, output, log) == (128 + number, "", "")


@in_a_container
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("part", range(8))
def test_process_1_at_any_time(tmp_path, workers, part):
    """As process 1, a signal at any time ends the start, or the service that says it listens."""
    with Start(tmp_path, RUN, is_first=True, AUTHAPI_WORKERS=workers) as start:
        while not start.catches(signal.SIGTERM):
            time.sleep(0.001)
        time.sleep(0.08 * part)  # a start takes some 0.6 s here
        os.kill(start.pid, signal.SIGTERM)
        status, output, _ = start.status()

    assert (status, bool(output)) in {(128 + signal.SIGTERM, False), (0, True)}


@in_a_container
def test_process_1_is_ended_by_a_second_signal(tmp_path):
    """As process 1, a second signal ends the service at once, as it does elsewhere."""
    with Start(tmp_path, RUN, is_first=True) as start:
        port = int(re.search(r":(\d+),", start.readline())[1])
        body = (
            b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n"
        )
        with connected(port) as connection:
            connection.sendall(body + b"Content-Type: application/json\r\n\r\n")
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            os.kill(start.pid, signal.SIGTERM)
            connection.sendall(b"{")  # it waits for the rest
            while start.catches(signal.SIGTERM):
                os.kill(start.pid, signal.SIGTERM)
                time.sleep(0.01)
        status, _, _ = start.status()

    assert status == 128 + signal.SIGTERM


UNNOTICED = """
import signal, sys, threading
from msgspec.structs import replace
from authapi import Settings, create_app
from authapi.server import process, serve

def end():
    signal.sigwait([signal.SIGUSR1])
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

def create(settings):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    threading.Thread(target=end, daemon=True).start()
    return create_app(settings)

process.DEFAULT = replace(process.DEFAULT, maintenance=600)
serve(Settings.from_env(), create)
"""


def test_a_signal_that_interrupts_no_system_call(tmp_path):
    """A signal ends the loop's wait for sockets, also if it does not interrupt the system call."""
    program = f"import sys; sys.path.insert(0, {str(RUN.parent)!r})\n{UNNOTICED}"
    with Start(tmp_path, "-c", program) as start:
        port = int(re.search(r":(\d+),", start.readline())[1])
        assert exchange(port, b"GET /livez HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200")
        os.kill(start.pid, signal.SIGUSR1)
        assert start.status()[0] == 0


def test_a_script_that_embeds(tmp_path):
    """An application's own script that calls `serve` ends by a signal in its start, too."""
    program = (
        f"import sys; sys.path.insert(0, {str(RUN.parent)!r})\n"
        "import time\n"
        "from authapi import Settings\n"
        "from authapi.server import serve\n"
        "def create(settings):\n"
        "    print('waits', flush=True)\n"
        "    time.sleep(60)\n"
        "serve(Settings.from_env(), create)\n"
    )
    with Start(tmp_path, "-c", program) as start:
        assert start.readline() == "waits\n"
        os.kill(start.pid, signal.SIGINT)
        status, _, log = start.status()

    assert (status, log) == (128 + signal.SIGINT, "")


@in_a_container
@pytest.mark.parametrize(
    "run", [[RUN], ["-m", "authapi", "serve"], [Path(sys.executable).with_name("authapi"), "serve"]]
)
def test_every_way_to_start(tmp_path, run):
    """However it is started, signals are ours before the first import that takes time."""
    if not Path(run[0]).exists() and run[0] != "-m":
        pytest.skip("the command is not installed here")
    hook = AT.replace("PLACE", repr("argparse")).partition("runpy.run_path")[0]
    (tmp_path / "sitecustomize.py").write_text(hook)
    path = f"{tmp_path}:{RUN.parent}"
    with Start(tmp_path, *map(str, run), is_first=True, PYTHONPATH=path) as start:
        assert start.readline() == "waits\n"
        os.kill(start.pid, signal.SIGTERM)
        status, _, log = start.status()

    assert (status, log) == (128 + signal.SIGTERM, "")
