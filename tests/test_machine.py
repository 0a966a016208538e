"""The machine: the CPUs and the memory that control groups leave, read from real files."""

import os
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest
from conftest import RUN, start

from authapi.machine import available_cpus, memory_limit

MIB = 1 << 20
NO_LIMIT = "9223372036854771712\n"  # what version 1 says


@pytest.fixture(name="machine")
def _machine(tmp_path):
    """Make a root with the files of a machine."""

    def machine(cgroup, files):
        texts = {"proc/self/cgroup": cgroup}
        texts |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path

    return machine


def quota(number, period=100_000):
    """Write the two files of version 1."""
    return {"cpu.cfs_quota_us": f"{number}\n", "cpu.cfs_period_us": f"{period}\n"}


def within(folder, files):
    return {f"{folder}/{name}": text for name, text in files.items()}


@pytest.mark.parametrize(
    ("cgroup", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/\n", {}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "300000 100000\n"}, 2),
        ("0::/of/the/host\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/../../elsewhere\n", {"cpu.max": "200000 100000\n"}, 2),
        ("2:cpu:/\n", within("cpu", quota(-1)), 8),
        ("2:cpu:/\n", within("cpu", quota(50_000)), 1),
        ("2:cpu:/\n", within("cpu", quota(300_000)), 3),
        ("2:cpu:/a\n", within("cpu/a", quota(-1)) | within("cpu", quota(150_000, 50_000)), 3),
        ("2:cpu:/docker/a\n", within("cpu", quota(300_000)), 3),
        ("3:cpu,cpuacct:/a\n", within("cpu,cpuacct/a", quota(300_000)), 3),
        ("3:cpu,cpuacct:/a\n", within("cpu/a", quota(300_000)), 3),
        ("3:cpuacct,cpu:/a\n", within("cpu/a", quota(300_000)), 3),
        ("4:cpuset:/\n3:cpuacct:/\n", within("cpuset", quota(300_000)), 8),
        ("2:cpu:/a\n0::/b\n", within("cpu/a", quota(300_000)), 3),
        ("2:cpu:/a\n0::/b\n", within("cpu/a", quota(300_000)) | {"cpu.max": "200000 100000"}, 2),
        ("0::/\n", {"cpu.max": "nonsense"}, 8),
        ("0::/\n", {"cpu.max": ""}, 8),
        ("0::/\n", {"cpu.max": "1 0"}, 8),
        ("0::/\n", {"cpu.max": b"\xff\xfe"}, 8),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "100000"}, 8),
        ("nonsense\n\n::\n0::/\n", {"cpu.max": "200000 100000"}, 2),
        (b"0::/\xff\n", {"cpu.max": "200000 100000"}, 2),
        (b"\xff", {}, 8),
        ("0::/\0\n", {"cpu.max": "200000 100000"}, 2),
        ("", {}, 8),
    ],
)
def test_cpus(machine, cgroup, files, cpus):
    """The CPUs are those of the tightest group around this process, and at least one."""
    assert cpus == available_cpus(machine(cgroup, files), lambda: 8)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity here")
def test_affinity(machine):
    """The affinity counts too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert available_cpus(machine("0::/\n", {"cpu.max": "200000 100000"})) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_without_affinity(monkeypatch, tmp_path):
    """A system without affinity has the machine's CPUs, or one where it does not tell."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for found, cpus in ((5, 5), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda found=found: found)
        assert available_cpus(tmp_path / "no files") == cpus


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {"memory.max": f"{512 * MIB}\n"}, 512),
        ("0::/\n", {}, None),
        ("0::/a/b\n", {"a/b/memory.max": f"{300 * MIB}\n"}, 300),
        ("0::/a/b\n", {"a/b/memory.max": f"{300 * MIB}", "a/memory.max": f"{200 * MIB}"}, 200),
        ("0::/a/b\n", {"a/b/memory.max": f"{100 * MIB}", "a/memory.max": f"{200 * MIB}"}, 100),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{200 * MIB}"}, 200),
        ("0::/of/the/host\n", {"memory.max": f"{200 * MIB}"}, 200),
        ("0::/../elsewhere\n", {"memory.max": f"{200 * MIB}"}, 200),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": NO_LIMIT}, None),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": f"{64 * MIB}\n"}, 64),
        (
            "4:memory:/a/b\n",
            {
                "memory/memory.limit_in_bytes": NO_LIMIT,
                "memory/a/memory.limit_in_bytes": f"{64 * MIB}\n",
                "memory/a/b/memory.limit_in_bytes": f"{128 * MIB}\n",
            },
            64,
        ),
        ("4:memory:/docker/a\n", {"memory/memory.limit_in_bytes": f"{64 * MIB}\n"}, 64),
        ("4:memory:/\n0::/\n", {"memory/memory.limit_in_bytes": f"{64 * MIB}\n"}, 64),
        ("4:cpuset:/a\n0::/a\n", {"a/memory.max": f"{64 * MIB}\n"}, 64),
        ("0::/\n", {"memory.max": "nonsense"}, None),
        ("0::/\n", {"memory.max": ""}, None),
        ("4:memory\n", {"memory/memory.limit_in_bytes": "64"}, None),
        ("", {}, None),
    ],
)
def test_memory(machine, cgroup, files, limit):
    """The memory is what the tightest group around this process allows, or no limit at all."""
    assert memory_limit(machine(cgroup, files)) == (limit and limit * MIB)


def test_no_files(tmp_path):
    """Without mounted control groups nothing is limited."""
    assert memory_limit(tmp_path) is None
    assert available_cpus(tmp_path) >= 1


def test_forbidden_files(machine):
    """Groups that this user may not look into do not stop a start."""
    files = {"memory/memory.limit_in_bytes": "64", "cpu/a/cpu.max": "100000 100000"}
    root = machine("4:memory:/\n2:cpu:/a\n0::/\n", files)
    root.chmod(0o755)
    (root / "sys/fs/cgroup").chmod(0)
    user = os.geteuid()
    with chdir(root):
        if user == 0:
            os.seteuid(65_534)  # root may look into everything
        try:
            with pytest.raises(PermissionError):
                Path("sys/fs/cgroup/cpu").stat()
            assert Path("proc/self/cgroup").exists()
            assert (memory_limit(Path()), available_cpus(Path(), lambda: 8)) == (None, 8)
        finally:
            os.seteuid(user)
            (root / "sys/fs/cgroup").chmod(0o700)


@contextmanager
def control_group(limit):
    """Make a real group with a memory limit; skip the test if this user cannot."""
    version1 = Path("/sys/fs/cgroup/memory")
    parent, name = (
        (version1, "memory.limit_in_bytes")
        if version1.is_dir()
        else (Path("/sys/fs/cgroup"), "memory.max")
    )
    group = parent / f"authapi-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            (group / name).write_text(str(limit))
        except OSError as error:
            pytest.skip(f"no memory limit can be set here: {error}")
        yield group
    finally:
        group.rmdir()


def test_a_start_that_does_not_fit_its_control_group(tmp_path):
    """In a real group with too little memory a start says so, and makes nothing."""
    program = tmp_path / "within.py"
    program.write_text(
        "import os, pathlib, sys\n"
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])\n"
    )
    folder = tmp_path / "data"
    folder.mkdir()
    with control_group(100 * MIB) as group:
        service = start(
            folder,
            run=(program, group / "cgroup.procs", RUN),
            AUTHAPI_ARGON2_MEMORY_KIB="47104",
            AUTHAPI_WORKERS="2",
            AUTHAPI_HASH_SLOTS="1",
        )
        output, error = service.communicate()

    assert (output, service.returncode) == ("", 1)
    assert error == (
        "authapi: The memory limit of 100 MiB is less than the 332 MiB "
        "(240 + 2 workers x 1 hash slot x 46) that may be needed: "
        "raise it, or lower AUTHAPI_WORKERS, AUTHAPI_HASH_SLOTS or AUTHAPI_ARGON2_MEMORY_KIB.\n"
    )
    assert not list(folder.iterdir())
