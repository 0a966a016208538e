"""Commands as a user runs them: in a process of their own, on a terminal or in a pipe."""

import os
import pty
import select
import subprocess
import sys
from pathlib import Path

from conftest import unmeasured

TESTS = Path(__file__).parent
AUTHAPI = [sys.executable, "-m", "authapi"]
EXAMPLES = [sys.executable, str(TESTS / "example_commands.py")]


def environment(**environ):
    """Return the environment of a user's command: its output is buffered."""
    return {**unmeasured(), "PYTHONUNBUFFERED": "", **environ}


def in_pipe(*command, given="", **environ):
    """Run a command without a terminal; return its status, its output and its errors."""
    done = subprocess.run(
        command,
        input=given if isinstance(given, bytes) else given.encode(),
        capture_output=True,
        env=environment(**environ),
        check=False,
        start_new_session=True,  # there is no /dev/tty either
        timeout=60,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def on_terminal(*command, answers=(), **environ):
    """Run a command on a terminal; return its status, and what the terminal showed.

    `answers` are pairs of a prompt to wait for and the text to type. A text without a line break is
    a key, such as ^C.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.execve(command[0], command, environment(**environ))
    shown, waiting = "", list(answers)
    while select.select([terminal], [], [], 60)[0]:
        try:
            data = os.read(terminal, 65_536)
        except OSError:  # Linux: the other end is closed
            break
        if not data:
            break
        shown += data.decode()
        if waiting and shown.endswith(waiting[0][0]):
            os.write(terminal, waiting.pop(0)[1].encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.replace("\r\n", "\n")
