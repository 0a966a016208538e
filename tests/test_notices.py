"""Log lines about refusals: one a minute for a kind and a network."""

import logging

import pytest

from authapi.notices import INTERVAL, MOST_NETWORKS, Notices


@pytest.fixture(name="notices")
def _notices(clock, caplog):
    caplog.set_level(logging.INFO, "authapi.refusals")
    return Notices(clock)


def lines(caplog):
    return [record.getMessage().strip() for record in caplog.records]


def test_one_line_at_once(notices, caplog):
    """The first refusal is logged at once, with its network and its detail."""
    notices.refused("too_many_requests", "2001:db8::1", "limit=login-network")

    assert lines(caplog) == [
        "refused error=too_many_requests network=2001:db8::/64 limit=login-network"
    ]


def test_repeats_are_counted(notices, caplog, clock):
    """Repeats within a minute leave one line, which says how many there were."""
    for _ in range(4):
        notices.refused("cross_site_request", "192.0.2.1")
    clock.move(INTERVAL)
    notices.wake()

    assert lines(caplog) == [
        "refused error=cross_site_request network=192.0.2.1",
        "refused error=cross_site_request network=192.0.2.1 3 more times",
    ]


def test_each_kind_and_network(notices, caplog):
    """Another kind and another network have lines of their own."""
    notices.refused("cross_site_request", "192.0.2.1")
    notices.refused("invalid_token", "192.0.2.1")
    notices.refused("invalid_token", "192.0.2.2")

    assert len(lines(caplog)) == 3


def test_many_networks(notices, caplog):
    """A flood from thousands of networks has a bounded number of lines."""
    for number in range(4 * MOST_NETWORKS):
        notices.refused("invalid_token", f"192.0.{number // 256}.{number % 256}")

    assert len(lines(caplog)) == MOST_NETWORKS + 1
    assert lines(caplog)[-1].endswith("network=others")


def test_a_clock_set_back(notices, caplog, clock):
    """A clock that is set back does not silence the log."""
    notices.refused("invalid_token", "192.0.2.1")
    clock.move(-2 * INTERVAL)
    notices.refused("invalid_token", "192.0.2.1")

    assert len(lines(caplog)) == 2
