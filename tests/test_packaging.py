"""The package: its name, version and changelog, what a build of it holds, and its container."""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from conftest import process
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from trove_classifiers import classifiers

import authapi

ROOT = Path(__file__).parent.parent
CONFIG = ConfigParser(interpolation=None)
CONFIG.read(ROOT / "setup.cfg")
IGNORED = [".git", *(line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split())]
BUILD = "from setuptools import build_meta; build_meta.build_{}({!r})"

# What lies about in a checkout that was used: a secret, data, an older build, another's metadata.
LEFTOVERS = [
    "authapi.db",
    "authapi.db-wal",
    "authapi.db.key",
    "authapi.db.root",
    "tests/authapi.db.key",
    "docs/examples/.env",
    "sql/tls.key",
    ".git/config",
    ".venv/pyvenv.cfg",
    "build/lib/authapi/removed_module.py",
    "build/lib/tests/test_old.py",
    "authapi.egg-info/SOURCES.txt",
]


def numbers(version):
    return tuple(int(number) for number in version.split(".")[:3])


def test_name():
    """The distribution is authapi-server: `authapi` on PyPI is another project."""
    extras = CONFIG["options.extras_require"].values()

    assert CONFIG["metadata"]["name"] == "authapi-server"
    assert not re.search(r"^authapi\b(?!-server)", "\n".join(extras), re.MULTILINE)


def test_changelog():
    """The version is the changelog's newest release, or a development version after it."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    releases = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d", text) for text in headings]
    numbered = [numbers(release[1]) for release in releases if release]

    assert headings[0] == "[Unreleased]"
    assert len(headings) == len(numbered) + 1
    assert sorted(numbered, reverse=True) == numbered
    here = numbers(authapi.__version__)
    assert here > numbered[0] if ".dev" in authapi.__version__ else here == numbered[0]


def test_classifiers():
    """PyPI knows each classifier, and refuses an upload with any other."""
    ours = CONFIG["metadata"]["classifiers"].strip().splitlines()

    assert set(ours) <= classifiers
    assert [f"Programming Language :: Python :: 3.{minor}" for minor in range(11, 15)] == [
        line for line in ours if re.search(r"3\.\d+$", line)
    ]


def test_description():
    """The package index's page links to nothing that is only in the repository."""
    page = (ROOT / CONFIG["metadata"]["long_description"].removeprefix("file: ")).read_text()

    assert "authapi-server" in page
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", page) if "://" not in link]


def is_ours(path):
    """Return whether a path belongs to the repository and is not ignored."""
    return not any(fnmatch(part, pattern) for part in path.parts for pattern in IGNORED)


@cache
def sources():
    """Return the paths of the repository's files: those git tracks, or all without a clone."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
        names = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
        return {name for name in names if (ROOT / name).is_file()}
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return {str(path) for path in paths if is_ours(path)}


def copy(names, folder):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    return folder


def build(kind, folder, target):
    """Build an sdist or a wheel from a folder; give its path."""
    target.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD.format(kind, str(target))]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (built,) = target.glob("*.tar.gz" if kind == "sdist" else "*.whl")
    return built


@pytest.fixture(name="used", scope="module")
def _used(tmp_path_factory):
    """Return a copy of the checkout with the files that use leaves behind."""
    folder = copy(sources(), tmp_path_factory.mktemp("used"))
    for name in LEFTOVERS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


@pytest.fixture(name="wheel", scope="module")
def _wheel(used, tmp_path_factory):
    """Return the names in a wheel of the used checkout, and its metadata."""
    with zipfile.ZipFile(build("wheel", used, tmp_path_factory.mktemp("wheel"))) as wheel:
        (metadata,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        return set(wheel.namelist()), wheel.read(metadata).decode()


def test_sdist(used, tmp_path):
    """The source distribution holds the repository, tests and docs included, and nothing else."""
    with tarfile.open(build("sdist", used, tmp_path)) as sdist:
        files = [member.name.partition("/")[2] for member in sdist if member.isfile()]

    generated = {"PKG-INFO"} | {name for name in files if ".egg-info/" in name}
    assert set(files) - generated == sources()


def test_wheel(wheel):
    """The wheel holds the package, its SQL and what shells know: no test, no key, nothing older."""
    names, _ = wheel
    data = CONFIG["options.package_data"]["authapi"].split()
    package = {
        name
        for name in sources()
        if name.startswith("authapi/")
        and (name.endswith(".py") or any(fnmatch(name, f"authapi/{each}") for each in data))
    }
    sql = {f"authapi/{name}" for name in sources() if name.startswith("sql/")}

    shells = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    assert shells == {name for name in sources() if name.startswith("share/")}
    assert {name for name in names if not re.search(r"\.(dist-info|data)/", name)} == package | sql


def test_metadata(wheel):
    """The wheel's name and version are those that the command and the changelog tell."""
    _, metadata = wheel

    assert "\nName: authapi-server\n" in metadata
    assert f"\nVersion: {authapi.__version__}\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata


def hashed(kind, folder, umask, time):
    """Build from a new copy of the repository, as somebody with another umask does; hash it."""
    copy(sources(), folder)
    for path in folder.rglob("*"):
        os.utime(path, (time, time))
        path.chmod(
            0o777 & ~umask if path.is_dir() or path.stat().st_mode & 0o100 else 0o666 & ~umask
        )
    before = os.umask(umask)
    try:
        return hashlib.sha256(build(kind, folder, folder / "dist").read_bytes()).hexdigest()
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_reproducible_builds(tmp_path, kind):
    """Two directories, two times and two umasks give the same bytes."""
    first = hashed(kind, tmp_path / "one", 0o022, 1_700_000_000)
    second = hashed(kind, tmp_path / "another" / "directory", 0o077, 1_800_000_000)

    assert first == second


def instructions(name):
    """Return the Dockerfile's instructions of one name, with continued lines joined."""
    lines = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", "").splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]


def test_context(wheel, tmp_path):
    """An image is built from what .dockerignore names, which is all that a wheel needs."""
    first, *lines = [
        line for line in (ROOT / ".dockerignore").read_text().split("\n") if line[:1] != "#"
    ]
    let_in = [line[1:] for line in lines if line.startswith("!")]
    context = [name for name in sources() if any(Path(name).is_relative_to(one) for one in let_in)]
    built = build("wheel", copy(context, tmp_path / "context"), tmp_path / "wheel")

    assert first == "*"
    assert {"**/__pycache__", "**/*.db*", "**/*.key", "**/*.root", "**/.*"} <= set(lines)
    with zipfile.ZipFile(built) as archive:
        assert set(archive.namelist()) == wheel[0]


def test_image():
    """The image's last stage gets the installed service alone, and does not run as root."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()

    assert instructions("COPY") == [
        "deploy/build.lock deploy/extras.lock ./",
        ". .",
        "--from=build /opt/authapi /opt/authapi",
        "--from=build --chown=10001:10001 /state /var/lib",
    ]
    assert instructions("USER")[-1] == "10001:10001"
    assert not re.search(r"SECRET|PASSWORD|TOKEN", dockerfile)


def test_the_image_installs_what_is_locked():
    """The image's build takes each package from a lock file with its hash, or from the clone."""
    installs = re.findall(
        r"pip(?: --python \S+)? (?:install|wheel) [^&;]*", " ; ".join(instructions("RUN"))
    )

    assert len(installs) == 4
    for command in installs:
        assert (
            "--require-hashes" in command or "--no-index" in command or "wheel --no-deps" in command
        )


# What is installed by those who develop and release it, not by those who run it.
DEVELOPMENT = {"test", "dev", "mutants", "release"}


def requirements(text):
    """Return the requirements of a list in setup.cfg, without the package itself."""
    found = [Requirement(line) for line in text.strip().splitlines() if line.strip()[:1] != "#"]
    return [each for each in found if each.name != "authapi-server"]


def locked(name):
    """Return the versions that a lock file pins, by package. Every one has hashes."""
    found = {}
    for entry in re.split(r"\n(?=\S)", (ROOT / name).read_text()):
        pinned = re.match(r"([\w-]+)==(\S+)", entry)
        if pinned:
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry
            found[canonicalize_name(pinned[1])] = pinned[2]
    return found


def test_lock_files():
    """The lock files pin what setup.cfg and the builds require, at versions that these allow."""
    extras = CONFIG["options.extras_require"]
    base, all_extras, build = map(
        locked, ("requirements.lock", "deploy/extras.lock", "deploy/build.lock")
    )
    needs = requirements(CONFIG["options"]["install_requires"])
    optional = [
        each for name in extras if name not in DEVELOPMENT for each in requirements(extras[name])
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    for versions, wanted in (
        (base, needs),
        (all_extras, needs + optional),
        (build, [Requirement(each) for each in project["build-system"]["requires"]]),
    ):
        for each in wanted:
            assert versions[canonicalize_name(each.name)] in each.specifier, each
    assert base.items() <= all_extras.items()


def test_health_check(tmp_path):
    """The image is healthy while the service answers, on whichever port it was told."""
    (check,) = instructions("HEALTHCHECK")
    program, *arguments = ast.literal_eval(check.partition("CMD ")[2])

    with process(tmp_path) as (_, url):
        environ = {"AUTHAPI_HOST": "0.0.0.0", "AUTHAPI_PORT": url.rpartition(":")[2]}
        command = [sys.executable, "-m", program, *arguments]
        assert subprocess.run(command, env=environ, check=False).returncode == 0
    done = subprocess.run(command, env=environ, check=False, capture_output=True)
    assert done.returncode == 1
