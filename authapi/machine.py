"""The CPUs and the memory that the machine or the container gives this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

# Memory of a worker, beside its hash slots: 38 at rest, at most 87 under the attacks of
# `faults.memory`, and 26 that the kernel keeps for its connections.
PROCESS_MIB = 120
UNLIMITED = 1 << 60  # bytes; in control groups v1, a number above this means no limit


def own_cpus() -> int:
    """Return how many CPUs the affinity of this process has; without one, the machine's."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def available_cpus(root: Path = Path("/"), own: Callable[[], int] = own_cpus) -> int:
    """Return how many CPUs this process may use, by affinity and control group quotas."""
    quotas = [quota for group in _control_groups("cpu", root) if (quota := _quota(group))]
    return max(1, round(min([own(), *quotas])))


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory that control groups allow this process, or None for no limit."""
    limits = [limit for group in _control_groups("memory", root) if (limit := _limit(group))]
    return min(limits, default=None)


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield this process's control groups of versions 1 and 2, and all their parents.

    In a container the group's path may exist only on the host. Then only the root is found.
    """
    mounted = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:  # not on macOS
        return
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if not controllers:
            bases = [mounted]
        elif controller in controllers.split(","):
            bases = [mounted / controllers, mounted / controller]
        else:
            continue
        group = Path(path.lstrip("/"))
        yield from (base / above for base in bases for above in (group, *group.parents))


def _quota(group: Path) -> float | None:
    """Return the CPUs that a group allows, or None."""
    with suppress(OSError, ValueError, ArithmeticError):  # no such group, or "max"
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


def _limit(group: Path) -> int | None:
    """Return the bytes that a group allows, or None."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such group, or "max"
            limit = int((group / name).read_text())
            return limit if limit < UNLIMITED else None
    return None
