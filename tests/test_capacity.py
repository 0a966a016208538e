"""The machine's limits for the service: memory and connections; and the warnings of a start."""

from resource import RLIM_INFINITY

import pytest

from authapi import Settings
from authapi.errors import StartError
from authapi.server.capacity import connections_within, memory_needed
from authapi.server.start_log import warn_of


@pytest.mark.parametrize(
    ("limits", "connections", "soft"),
    [
        ((1_024, 1_048_576), 1_000, 1_080),
        ((65_536, 65_536), 1_000, 65_536),
        ((1_024, 1_024), 944, 1_024),
        ((200, 200), 120, 200),
        ((64, 64), 16, 64),
        ((1_024, RLIM_INFINITY), 1_000, 1_080),
        ((RLIM_INFINITY, RLIM_INFINITY), 1_000, RLIM_INFINITY),
    ],
)
def test_connections_follow_the_limit_of_files(limits, connections, soft):
    """The limit is raised as far as it goes, and never more connections taken than it allows."""
    assert connections_within(*limits, threads=16) == (connections, soft)


@pytest.mark.parametrize(
    ("memory", "passes", "warned"),
    [(47_104, 1, False), (7_168, 5, False), (7_167, 6, True), (7_168, 4, True), (35_839, 1, True)],
)
def test_cheap_hashing_is_warned_of(caplog, memory, passes, warned):
    """Hashing below each of OWASP's choices is said at the start."""
    warn_of(Settings(argon2_memory_kib=memory, argon2_time_cost=passes))

    assert bool(caplog.messages) is warned


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"hash_slots": 2}, "212 MiB (120 + 1 worker x 2 hash slots x 46)"),
        ({"hash_slots": 1, "workers": 4}, "664 MiB (480 + 4 workers x 1 hash slot x 46)"),
        (
            {"hash_slots": 3, "workers": 2, "argon2_memory_kib": 1_025},
            "252 MiB (240 + 2 workers x 3 hash slots x 2)",
        ),
    ],
)
def test_memory(settings, text):
    """The start line shows the memory with its parts; a start over the limit is refused."""
    settings = Settings(**settings)
    needed = int(text.split()[0]) << 20

    assert memory_needed(settings, lambda: needed) == text
    assert memory_needed(settings, lambda: None) == text
    with pytest.raises(StartError) as refusal:
        memory_needed(settings, lambda: needed - 1)
    assert str(refusal.value) == (
        f"The memory limit of {(needed >> 20) - 1} MiB is less than the {text} that may be needed: "
        "raise it, or lower AUTHAPI_WORKERS, AUTHAPI_HASH_SLOTS or AUTHAPI_ARGON2_MEMORY_KIB."
    )
