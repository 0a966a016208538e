"""Standard output and error: whether anybody reads them or not, the service goes on."""

import fcntl
import os
import re
import select
import signal
import socket
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from conftest import CHEAPLY, RUN, USER, ask_again, eventually, request
from worker_service import children

PATIENCE = 30  # seconds until a service that does not go on has failed
PIPE_SIZE = 4_096  # bytes that a pipe holds when nobody reads it
ROOM = "from authapi.server import streams; streams.MOST_KEPT = 20_000"
DEBUG = {"AUTHAPI_LOG_LEVEL": "debug", "AUTHAPI_RATE_LIMITS": "off"}


@pytest.fixture(autouse=True)
def _patience():
    """Make a request that is not answered fail."""
    socket.setdefaulttimeout(PATIENCE)
    yield
    socket.setdefaulttimeout(None)


class Pipe:
    """A pipe that a service writes to, and that nobody reads until a test does."""

    def __init__(self, *, is_full=False):
        self.reader, self.writer = os.pipe()
        if sys.platform == "linux":
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        if is_full:
            os.set_blocking(self.writer, False)
            with suppress(BlockingIOError):
                while True:
                    os.write(self.writer, b"full\n")
            os.set_blocking(self.writer, True)

    def close(self):
        os.close(self.reader)

    def is_full(self):
        """Return whether the service has filled it."""
        return not select.select([], [self.writer], [], 0)[1]

    def lines(self):
        """Yield the lines that are read from now on."""
        with open(self.reader, closefd=False) as file:
            yield from file


@contextmanager
def service(folder, stderr, *, program="", port_in=None, **environ):
    """Run the service with an unread log; give the process and its URL."""
    run = f"import runpy, sys; sys.path.insert(0, {str(RUN.parent)!r})\n{program}\n"
    run += f"runpy.run_path({str(RUN)!r}, run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-c", run],
        cwd=folder,
        env={**os.environ, **CHEAPLY, "AUTHAPI_PORT": "0", **environ},
        stdout=port_in or subprocess.PIPE,
        stderr=stderr,
        text=True,
    )
    try:
        line = ""
        if port_in is None:
            assert select.select([process.stdout], [], [], PATIENCE)[0]
            line = process.stdout.readline()
        found = re.search(r"http://\S+:\d+", line)
        yield process, found and found[0]
    finally:
        process.kill()
        process.communicate()


def ask_until_full(url, pipe):
    """Make the service log more than a pipe holds; each request is answered."""
    assert any(pipe.is_full() for status in ask_again(f"{url}/user", 1_000) if status == 401)
    assert set(ask_again(f"{url}/user", 200)) == {401}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_log_that_nobody_reads(tmp_path, workers):
    """With a full pipe for a log, all requests are answered, and SIGTERM ends the service."""
    environ = {"AUTHAPI_WORKERS": workers, **DEBUG}
    with closing(Pipe()) as pipe, service(tmp_path, pipe.writer, **environ) as (process, url):
        ask_until_full(url, pipe)
        assert request(f"{url}/register", USER)[0] == 201
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_log_that_is_full_before_the_start(tmp_path):
    """A start whose log and output are full pipes answers, and ends by SIGTERM."""
    with closing(Pipe(is_full=True)) as pipe:
        environ = {"AUTHAPI_PORT": free_port(), "AUTHAPI_ARGON2_TIME_COST": "2"}  # which warns
        with service(tmp_path, pipe.writer, port_in=pipe.writer, **environ) as (process, _):
            eventually(lambda: is_answered(f"http://127.0.0.1:{environ['AUTHAPI_PORT']}"))
            process.terminate()
            assert process.wait(PATIENCE) == 0


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def is_answered(url):
    try:
        return request(f"{url}/user")[0] == 401
    except OSError:
        return False


def test_a_parent_whose_log_nobody_reads(tmp_path):
    """The parent of several workers starts them again, and ends, while nobody reads its log."""
    with (
        closing(Pipe(is_full=True)) as pipe,
        service(tmp_path, pipe.writer, AUTHAPI_WORKERS="2") as (process, url),
    ):
        for _ in range(3):
            before = eventually(lambda: len(found := children(process.pid)) == 2 and found)
            os.kill(min(before), signal.SIGKILL)
            eventually(lambda before=before: min(before) not in children(process.pid))
        eventually(lambda: len(children(process.pid)) == 2)
        assert request(f"{url}/user")[0] == 401
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_lines_from_before_a_fork(tmp_path):
    """A line that waits to be read when workers are forked is written once, by the parent."""
    (tmp_path / "authapi.db").touch()
    (tmp_path / "authapi.db").chmod(0o644)  # which a start warns of
    with (
        closing(Pipe(is_full=True)) as pipe,
        service(tmp_path, pipe.writer, AUTHAPI_WORKERS="2") as (process, url),
    ):
        assert request(f"{url}/user")[0] == 401
        os.close(pipe.writer)
        lines = pipe.lines()
        log = [next(line for line in lines if "others could read" in line)]
        process.terminate()
        log += lines
        assert process.wait(PATIENCE) == 0

    assert sum("authapi.db (mode 0644)" in line for line in log) == 1
    assert len(set(log)) == len(log)


def read(pipe):
    """Return what a pipe holds that nobody writes to any more."""
    os.close(pipe.writer)
    return "".join(pipe.lines())


def test_dropped_lines_are_counted(tmp_path):
    """Lines beyond what is kept are dropped, and their number is logged when somebody reads."""
    asked, kept = 400, []
    environ = {"program": ROOM, **DEBUG}
    with closing(Pipe()) as pipe, service(tmp_path, pipe.writer, **environ) as (process, url):
        assert set(ask_again(f"{url}/user", asked)) == {401}
        for line in pipe.lines():
            kept.append(line)
            if "were dropped" in line:
                break
        process.terminate()
        process.wait(PATIENCE)

    lines = sum("401 not_authenticated" in line for line in kept)
    (dropped,) = re.findall(r"standard error was not read: (\d+) lines were dropped", kept[-1])
    assert lines + int(dropped) == asked
    assert all(re.match(r"2\d{3}-\S+Z [A-Z]+ \S+ ", line) for line in kept)


def test_the_last_lines(tmp_path):
    """Lines that were logged before an end are written, for a reader that is only slow."""
    with closing(Pipe()) as pipe, service(tmp_path, pipe.writer, **DEBUG) as (process, url):
        assert set(ask_again(f"{url}/user", 200)) == {401}
        process.terminate()
        log = read(pipe)
        assert process.wait(PATIENCE) == 0

    assert log.count("401 not_authenticated") == 200


@pytest.mark.parametrize(
    "statement",
    [
        "warnings.warn('spoken')",
        "print('spoken', file=sys.stderr)",
        "logging.getLogger('waitress').error('spoken')",
        "threading.Thread(target=lambda: 1 / 0).start()",
    ],
)
def test_everything_that_goes_to_standard_error(tmp_path, statement):
    """Warnings, prints, tracebacks of threads and other loggers do not wait for a reader either."""
    program = f"""
import logging, threading, sys, warnings
from authapi.server import process
warn_of = process.warn_of
def say(settings):
    for _ in range(200):
        {statement}
    warn_of(settings)
process.warn_of = say
"""
    with (
        closing(Pipe(is_full=True)) as pipe,
        service(tmp_path, pipe.writer, program=program) as (process, url),
    ):
        assert request(f"{url}/user")[0] == 401
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_lines_that_clients_write(tmp_path):
    """A path of a request, which waitress logs decoded, makes no line, and none of its own kind."""
    program = """
import logging
from authapi.server import process
warn_of = process.warn_of
def say(settings):
    logger = logging.getLogger('waitress')
    logger.info('Client disconnected while serving /%s' % 'private')
    logger.error('Exception while serving /%s' % 'a\\r\\nINFO forged \\x1b[1m \\u2028 \\u00e9')
    warn_of(settings)
process.warn_of = say
"""
    with (tmp_path / "log").open("w") as log, service(tmp_path, log, program=program):
        lines = eventually(lambda: (tmp_path / "log").read_text().splitlines())

    said = [line for line in lines if "serving" in line or "forged" in line]
    written = r"/a\r\nINFO forged \x1b[1m \u2028 é"
    assert [line.partition("serving ")[2] for line in said] == [written]


def test_a_log_of_the_application(tmp_path):
    """Logging that an application has set up itself, on standard error, does not wait either."""
    program = "import logging; logging.basicConfig(level='DEBUG')"
    with (
        closing(Pipe(is_full=True)) as pipe,
        service(tmp_path, pipe.writer, program=program) as (process, url),
    ):
        assert set(ask_again(f"{url}/user", 200)) == {401}
        process.terminate()
        assert process.wait(PATIENCE) == 0


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_closed_streams(tmp_path, closed, workers):
    """With closed streams it starts, answers and ends, and no other file takes their numbers."""
    port = free_port()
    command = ["sh", "-c", f'exec "$0" "$1" --port {port} {closed}', sys.executable, str(RUN)]
    environ = {**os.environ, **CHEAPLY, **DEBUG, "AUTHAPI_WORKERS": workers}
    process = subprocess.Popen(command, cwd=tmp_path, env=environ)
    try:
        eventually(lambda: is_answered(f"http://127.0.0.1:{port}"))
        number = 0 if closed.startswith("<") else 2
        assert str(Path(f"/proc/{process.pid}/fd/{number}").readlink()) == os.devnull
        process.terminate()
        # The parent of several ends by the signal until it knows that each of them is ready.
        assert process.wait(PATIENCE) in {0, -signal.SIGTERM}
    finally:
        process.kill()
        process.wait()


def test_a_log_whose_reader_has_ended(tmp_path):
    """A reader that ends, as `| head` does, takes nothing with it."""
    with closing(Pipe()) as pipe, service(tmp_path, pipe.writer, **DEBUG) as (process, url):
        os.close(pipe.writer)
        os.close(pipe.reader)
        pipe.reader = os.open(os.devnull, os.O_RDONLY)
        assert request(f"{url}/user")[0] == 401
        assert request(f"{url}/register", USER)[0] == 201
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_refused_start_that_nobody_reads(tmp_path):
    """A start that is refused ends, although its sentence is not read."""
    with (
        closing(Pipe(is_full=True)) as pipe,
        service(tmp_path, pipe.writer, AUTHAPI_HOST="203.0.113.1") as (process, _),
    ):
        assert process.wait(PATIENCE) == 1


def test_a_stream_that_does_not_block(tmp_path):
    """If another process has made the pipe non-blocking, no line is lost."""
    with closing(Pipe()) as pipe:
        os.set_blocking(pipe.writer, False)
        with service(tmp_path, pipe.writer, **DEBUG) as (process, url):
            assert set(ask_again(f"{url}/user", 300)) == {401}
            process.terminate()
            log = read(pipe)
            process.wait(PATIENCE)

    assert log.count("401 not_authenticated") == 300
