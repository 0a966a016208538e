"""The package: its name, its version, and the changelog."""

import re
from configparser import ConfigParser
from pathlib import Path

import authapi

ROOT = Path(__file__).parent.parent
CONFIG = ConfigParser(interpolation=None)
CONFIG.read(ROOT / "setup.cfg")


def numbers(version):
    return tuple(int(number) for number in version.split(".")[:3])


def test_name():
    """The distribution is authapi-server: `authapi` on PyPI is a stranger's."""
    assert CONFIG["metadata"]["name"] == "authapi-server"
    extras = CONFIG["options.extras_require"].values()
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
