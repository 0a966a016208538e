"""Kills at each step: what a test runs in a process of its own, because it forks."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path

KILLED = -signal.SIGKILL


def kill_me():
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


class Files:
    """The files of a directory, which can be put back as they were."""

    def __init__(self, folder):
        self._folder = folder
        self.save()

    def save(self):
        """Remember the files as they are."""
        self._saved = {each: each.read_bytes() for each in self._folder.iterdir()}

    def put_back(self):
        """Make the directory as it was when it was saved."""
        for each in self._folder.iterdir():
            each.unlink()
        for each, content in self._saved.items():
            each.write_bytes(content)
            each.chmod(0o600)


def in_a_child(action, *arguments):
    """Run an action in a child; return its exit status, or minus the signal that ended it."""
    child = os.fork()
    if not child:
        status = 1
        try:
            action(*arguments)
            status = 0
        except BaseException:  # noqa: BLE001 - the child ends here
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(script, *arguments):
    """Run a script that may import this module in a process; return the objects that it prints."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


@contextmanager
def folder_in_memory(otherwise):
    """Yield a new folder in memory, if there is a place: a kill does not ask the disk."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else otherwise
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)
