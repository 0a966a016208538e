"""Shared by the tests of limits: failed logins, each from a network of its own."""

from contextlib import contextmanager

from conftest import USER

from authapi.passwords.hash_lane import Lane

WRONG = "wrong password"


def statuses(count, call):
    return [call().status_code for _ in range(count)]


def fail(client, name=USER["username"], **options):
    """Log in with a wrong password, from a new network each time unless one is named."""
    fail.networks += 1
    number = fail.networks
    options.setdefault("remote_addr", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    return client.log_in(name, WRONG, **options)


fail.networks = 0


def lock_out(client, clock, name=USER["username"]):
    """Give 100 wrong passwords in a row, so that no try is left."""
    for _ in range(100):
        assert fail(client, name).status_code == 401
        clock.move(360)


@contextmanager
def full(client):
    """Make the hash lane refuse every job, as when all its places are taken."""
    passwords = client.app.core.passwords
    lane, passwords.lane = passwords.lane, Lane(slots=1, places=0, nice=19)
    yield
    passwords.lane = lane
