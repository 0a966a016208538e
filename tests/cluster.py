"""A PostgreSQL server for the tests: one for each process of the run, on a free port."""

import pytest

from faults.cluster import DURABLE, Cluster, running_cluster, why_none

__all__ = ["DURABLE", "Cluster", "running_cluster", "why_none"]


@pytest.fixture(name="cluster", scope="session")
def _cluster():
    """Return a server for the run, or skip the test where there can be none."""
    reason = why_none()
    if reason:
        pytest.skip(reason)
    with running_cluster() as cluster:
        yield cluster
