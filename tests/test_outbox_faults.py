"""A round of `python -m faults.outbox`, whose docstring says what is held to."""

import sys

import pytest

from faults import outbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are told by /proc")


def test_every_mail_arrives(tmp_path):
    """The mail of each acknowledged change arrives, although workers are killed."""
    figures, broken = outbox.run(tmp_path, rounds=1, seed=1)

    assert broken == [], figures


def test_the_check_can_fail(tmp_path):
    """A service that deletes a job before it sends it is found out."""
    _, broken = outbox.run(tmp_path, rounds=1, seed=1, spoilt=True)

    assert any("never arrived" in text for text in broken)
