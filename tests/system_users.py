"""Users of the system, whom file modes bind."""

import importlib
import os
from contextlib import contextmanager

import pytest

from authapi.database.statements import SQL

NOBODY, STRANGER, FOREIGN_GROUP = 65_534, 65_533, 4_242

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@contextmanager
def as_user(user, group):
    """Be another user of the system, in a group, who may be unable to import more of Python."""
    "localhost".encode("idna")
    groups = os.getgroups()
    os.setgroups([])
    os.setresgid(group, group, 0)
    os.setresuid(user, user, 0)
    try:
        if not os.access(SQL / "sqlite" / "connection.sql", os.R_OK):
            pytest.skip("nobody may read this checkout")
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)
        importlib.invalidate_caches()


@contextmanager
def unprivileged():
    """Be a user whom file modes bind: another one where this is root."""
    if os.geteuid() == 0:
        with as_user(NOBODY, NOBODY):
            yield
    else:
        yield
