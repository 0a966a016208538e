"""The fixtures of tests that need Chromium, which name this module in `pytest_plugins`."""

from contextlib import closing

import pytest
from chromium import certificate, chromium_running, installed_chromium


@pytest.fixture(name="certificates", scope="module")
def _certificates(tmp_path_factory):
    """Return the folder of `cert.pem` and `cert.key`, for `HOSTS`, which Chromium trusts."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(name="chromium", scope="module")
def _chromium(certificates):
    """Run one Chromium for the tests of a file."""
    installed_chromium()
    with chromium_running(certificate(certificates)) as chromium:
        yield chromium


@pytest.fixture(name="context")
def _context(chromium):
    """Return a visitor's browser, which keeps nothing from one test to the next."""
    with closing(chromium.context()) as context:
        yield context
