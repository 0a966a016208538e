"""A round of `python -m faults.outbox`, and the kills of `python -m faults.outbox_statements`.

Their docstrings say what is held to.
"""

import sys

import pytest

from faults import outbox, outbox_statements

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are told by /proc")


def test_every_mail_arrives(tmp_path):
    """The mail of each acknowledged change arrives, although workers are killed."""
    figures, broken = outbox.run(tmp_path, rounds=1, seed=1)

    assert broken == [], figures


def test_the_check_can_fail(tmp_path):
    """A service that deletes a job before it sends it is found out."""
    _, broken = outbox.run(tmp_path, rounds=1, seed=1, spoilt=True)

    assert any("never arrived" in text for text in broken)


def test_a_kill_at_each_statement(tmp_path):
    """Every mail arrives, or is dead where it is refused, whatever statement a kill meets."""
    figures, broken = outbox_statements.run(tmp_path)

    assert broken == [], figures
