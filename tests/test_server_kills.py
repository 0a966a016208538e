"""A round of `python -m faults.server_kills`, whose docstring says what is held to."""

import sys

import pytest
from cluster import why_none

from faults import server_kills

if why_none():
    pytest.skip(why_none(), allow_module_level=True)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are told by /proc")


@pytest.mark.parametrize("mode", ["backend", "failover"])
def test_nothing_is_lost(tmp_path, mode):
    """Acknowledged changes survive a killed backend, and a failover to a synchronous standby."""
    found = server_kills.run(tmp_path, mode, rounds=1, seed=1)

    assert found.ledger.broken == []
    assert [found.kills, found.ledger.acknowledged > 40] == [1, True]


def test_the_check_can_fail(tmp_path):
    """A failover to a standby that is not synchronous is found to lose acknowledged changes."""
    found = server_kills.run(tmp_path, "failover", rounds=1, seed=1, is_control=True)

    assert any("not in the audit log" in text for text in found.ledger.broken)
