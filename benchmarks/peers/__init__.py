"""The services that this one is compared with: how to install, start and call each."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import urlencode

NAME, EMAIL, PASSWORD = "crispengari", "crispengari@gmail.com", "correct-horse-battery"
FORM = "application/x-www-form-urlencoded"
SECRET = secrets.token_hex(32)  # signs the peers' tokens, for one run


class MissingError(Exception):
    """Something is not available on this machine. Its text is one sentence that says why."""


@dataclass(frozen=True)
class Cost:
    """The cost of one argon2id hash: m, t and p of RFC 9106, 3.1."""

    memory_kib: int
    passes: int
    lanes: int

    def __str__(self) -> str:
        """Return the parameters as in encoded hashes."""
        return f"m={self.memory_kib},t={self.passes},p={self.lanes}"


@dataclass(frozen=True)
class Request:
    """A POST request; `status` is that of its success."""

    path: str
    body: str
    status: int
    content_type: str = "application/json"


@dataclass(frozen=True, kw_only=True)
class Service:
    """The requests that a service accepts.

    `check` is the path of a session check, and `uninvited` the status of one without a cookie.
    `workers` says whether it can run in several processes, and `postgresql` whether on PostgreSQL.
    """

    name: str
    title: str
    check: str
    uninvited: int
    register: Request
    login: Request
    workers: bool
    postgresql: bool = True


@dataclass(frozen=True, kw_only=True)
class Peer(Service):
    """A service whose source is in the folder of its name, with a file of pinned packages."""

    shown: tuple[str, ...] = ()  # packages
    lock: str = "requirements.txt"

    @property
    def folder(self) -> Path:
        """Return the folder of its source."""
        return Path(__file__).parent / self.name

    def install(self, home: Path) -> None:
        """Install what its lock file names in a directory. Raises MissingError."""
        done = home / "installed"
        wanted = (self.folder / self.lock).read_text()
        if not done.exists() or done.read_text() != wanted:
            shutil.rmtree(home, ignore_errors=True)
            self.fetch(home)
            done.write_text(wanted)

    def fetch(self, home: Path) -> None:
        """Make a virtual environment and install the packages."""
        attempt(self.title, [sys.executable, "-m", "venv", str(home)])
        requirements = str(self.folder / self.lock)
        attempt(self.title, [f"{home}/bin/pip", "install", "--no-deps", "-qr", requirements])

    def versions(self) -> str:
        """Return the versions of the main packages. The lock file has all of them."""
        pinned = dict(
            line.split("==") for line in (self.folder / self.lock).read_text().splitlines()
        )
        return ", ".join(f"{name} {pinned[name]}" for name in self.shown)

    def variables(self, database: str, port: int, workers: int, cost: Cost) -> dict[str, str]:
        """Return the environment variables that it reads."""
        return {
            "DATABASE": database,
            "PORT": str(port),
            "SECRET": SECRET,
            "WORKERS": str(workers),
            "ARGON2_MEMORY_KIB": str(cost.memory_kib),
            "ARGON2_TIME_COST": str(cost.passes),
            "ARGON2_LANES": str(cost.lanes),
        }

    def migration(self, _home: Path) -> list[str] | None:
        """Return the command that makes the tables, if the service does not."""
        return None

    def command(self, home: Path, port: int, workers: int) -> list[str]:
        """Return the command that serves."""
        raise NotImplementedError


class Tutorial(Peer):
    """Flask on waitress, in one process only."""

    def command(self, home: Path, _port: int, _workers: int) -> list[str]:
        """Return the command. The script runs waitress itself."""
        return [f"{home}/bin/python", str(self.folder / "app.py")]


class FastAPIUsers(Peer):
    """FastAPI on uvicorn."""

    def command(self, home: Path, port: int, workers: int) -> list[str]:
        """Return uvicorn's command as on its deployment page, with fast parts and no access log."""
        options = f"--host 127.0.0.1 --port {port} --workers {workers} --loop uvloop"
        quiet = "--http httptools --no-access-log --log-level warning"
        ending = "--timeout-graceful-shutdown 3"
        words = f"{options} {quiet} {ending}".split()
        return [f"{home}/bin/uvicorn", "app:app", "--app-dir", str(self.folder), *words]


class BetterAuth(Peer):
    """Node's own server, with its cluster module for several processes."""

    def fetch(self, home: Path) -> None:
        """Copy the source next to its packages, where Node looks for them."""
        if not (shutil.which("node") and shutil.which("npm")):
            raise MissingError(f"{self.title} needs node and npm, which are not installed.")
        shutil.copytree(self.folder, home)
        attempt(self.title, ["npm", "ci", "--prefix", str(home), "--no-audit", "--no-fund"])
        if not list(home.glob("node_modules/better-sqlite3/build/**/better_sqlite3.node")):
            raise MissingError(f"{self.title}: better-sqlite3 could not be built.")

    def versions(self) -> str:
        """Return what the package file asks for. The lock file has all packages."""
        package = json.loads((self.folder / "package.json").read_text())
        return ", ".join(f"{name} {version}" for name, version in package["dependencies"].items())

    def variables(self, database: str, port: int, workers: int, cost: Cost) -> dict[str, str]:
        """Return the environment variables that it and Node read."""
        return super().variables(database, port, workers, cost) | {"NODE_ENV": "production"}

    def migration(self, home: Path) -> list[str]:
        """Return the command of its command line tool."""
        return ["node", str(home / "migrate.mjs")]

    def command(self, home: Path, _port: int, _workers: int) -> list[str]:
        """Return the command. The script reads the rest from the environment."""
        return ["node", str(home / "server.mjs")]


def default_home() -> Path:
    """Return where peers are installed: in the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "authapi-benchmarks"


def attempt(title: str, command: list[str], **variables: str) -> None:
    """Run a command of an installation. Raises MissingError with its last output."""
    environment = {**os.environ, **variables}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        said = (run.stderr or run.stdout).strip().splitlines()
        raise MissingError(f"{title} cannot be installed: {said[-1] if said else run.returncode}")


def avx2_argon2(home: Path) -> None:
    """Build argon2-cffi's C part for AVX2 in a directory. Raises MissingError.

    The wheel on PyPI must run on every x86-64 processor, so it does not use AVX2.
    """
    title, name = "argon2-cffi-bindings for AVX2", "argon2-cffi-bindings"
    if not re.search(r"\bavx2\b", Path("/proc/cpuinfo").read_text()):
        raise MissingError(f"{title} needs a processor that has it.")
    wanted = f"{name}=={metadata.version(name)}"
    done = home / "installed"
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-cache-dir", "--no-deps"]
        options = ["--no-binary", name, "--target", str(home), wanted]
        attempt(title, [*pip, *options], CFLAGS="-O3 -mavx2", ARGON2_CFFI_USE_SSE2="1")
        done.write_text(wanted)


PEERS: tuple[Peer, ...] = (
    Tutorial(
        name="tutorial",
        title="Flask tutorial",
        check="/user",
        uninvited=401,
        register=Request(
            "/register", json.dumps({"username": NAME, "email": EMAIL, "password": PASSWORD}), 201
        ),
        login=Request("/login", json.dumps({"usernameOrEmail": NAME, "password": PASSWORD}), 200),
        workers=False,
        postgresql=False,
        shown=("Flask", "Flask-SQLAlchemy", "SQLAlchemy", "PyJWT", "argon2-cffi", "waitress"),
    ),
    FastAPIUsers(
        name="fastapi_users",
        title="fastapi-users",
        check="/users/me",
        uninvited=401,
        register=Request("/auth/register", json.dumps({"email": EMAIL, "password": PASSWORD}), 201),
        login=Request(
            "/auth/login", urlencode({"username": EMAIL, "password": PASSWORD}), 204, FORM
        ),
        workers=True,
        shown=(
            "fastapi-users",
            "fastapi",
            "SQLAlchemy",
            "aiosqlite",
            "asyncpg",
            "pwdlib",
            "uvicorn",
            "uvloop",
        ),
    ),
    BetterAuth(
        name="better_auth",
        title="better-auth",
        check="/api/auth/get-session",
        uninvited=200,
        register=Request(
            "/api/auth/sign-up/email",
            json.dumps({"name": NAME, "email": EMAIL, "password": PASSWORD}),
            200,
        ),
        login=Request(
            "/api/auth/sign-in/email", json.dumps({"email": EMAIL, "password": PASSWORD}), 200
        ),
        workers=True,
        lock="package-lock.json",
    ),
)
