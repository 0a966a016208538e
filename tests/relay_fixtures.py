"""Fixtures of relays."""

import pytest
from relay import Certificate, Relay, running


@pytest.fixture(name="relay")
def _relay():
    """Return a real relay without TLS on this machine."""
    with running(Relay()) as relay:
        yield relay


@pytest.fixture(name="certificate")
def _certificate(tmp_path):
    """Return a certificate of this machine."""
    return Certificate(tmp_path / "certificate")
