"""A few rounds of `python -m faults.crash`, whose docstring says what is held to."""

import sys

import pytest

from faults import crash

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are told by /proc")


@pytest.mark.parametrize("mode", crash.MODES)
def test_nothing_is_lost(tmp_path, mode):
    """Acknowledged changes survive kill -9 of the service, a worker or their parent."""
    found = crash.run(tmp_path, mode, rounds=2, seed=1)

    assert found.ledger.broken == []
    assert found.kills >= 2
    assert found.ledger.acknowledged > 100


def test_the_check_can_fail(tmp_path):
    """A service that answers before it commits is found out."""
    found = crash.run(tmp_path, "service", rounds=2, seed=1, command=crash.LATE)

    assert any("not in the audit log" in text for text in found.ledger.broken)
    assert any("password" in text for text in found.ledger.broken)
