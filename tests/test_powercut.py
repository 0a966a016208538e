"""A few cuts of `python -m faults.powercut`, whose docstring says what is held to."""

import random

import pytest

from faults import powercut, recording
from faults.disk_model import Disk
from faults.recording import Answered, Create, Link, Recording, Remove, Sync, Truncate, Write

needs_strace = pytest.mark.skipif(bool(recording.why_not()), reason=str(recording.why_not()))
ANSWER = "HTTP/1.1 200 OK\r\nX-Request-ID: 0f\r\n\r\n"
FEW = {"runs": 2, "seed": 1, "cuts": 60, "steps": 12}


@needs_strace
def test_nothing_is_lost():
    """Acknowledged changes survive a power cut at any moment."""
    found = powercut.run(**FEW)

    assert found.ledger.broken == []
    assert found.cuts == 60
    assert found.ledger.acknowledged > 30


@needs_strace
def test_the_check_can_fail():
    """A service that does not sync each commit is found out."""
    found = powercut.run(**FEW, synchronous="NORMAL")

    assert found.broken_cuts > 10
    assert any("not in the audit log" in text for text in found.ledger.broken)


def hexed(text):
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def test_a_recording(tmp_path):
    """Calls are read in their order; a sync covers what had returned when it was called."""
    folder, file = hexed(str(tmp_path)), hexed(f"{tmp_path}/a")
    (tmp_path / "strace").write_text(
        f'7 openat(AT_FDCWD<{folder}>, "{hexed("a")}", O_RDWR|O_CREAT, 0600) = 3<{file}>\n'
        f'7 pwrite64(3<{file}>, "{hexed("one")}", 3, 512) = 3\n'
        f"7 fdatasync(3<{file}> <unfinished ...>\n"
        f'8 write(4<{file}>, "{hexed("two")}", 3) = 2\n'
        f'8 write(5<{hexed("/elsewhere")}>, "{hexed("no")}", 2) = 2\n'
        f'8 sendto(9<{hexed("socket:[1]")}>, "{hexed(ANSWER)}", 40, 0, NULL, 0) = 40\n'
        "7 <... fdatasync resumed>) = 0\n"
        f"7 ftruncate(3<{file}>, 100) = 0\n"
        f'7 link("{file}", "{hexed("b")}") = 0\n'
        f'7 unlink("{file}") = 0\n'
        f'7 unlink("{file}") = -1 ENOENT (No such file or directory)\n'
        f"7 fsync(6<{folder}>) = 0\n"
        "7 +++ killed by SIGKILL +++\n"
    )
    recorded = Recording(tmp_path)
    recorded.read(tmp_path / "strace")

    assert recorded.events == [
        Create("a"),
        Write("a", 512, b"one"),
        Write("a", None, b"tw"),
        Answered("0f"),
        Sync("a", 2),
        Truncate("a", 100),
        Link("a", "b"),
        Remove("a"),
        Sync("", 8),
    ]


def left(folder, events, likely):
    """Return what a cut after these events leaves."""
    disk = Disk()
    for number, event in enumerate(events):
        disk.take(number, event)
    disk.leave(folder, random.Random(1), likely)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("events", "synced", "all_of_it"),
    [
        ([Write("a", 0, b"new")], {"a": b"old"}, {"a": b"new"}),
        ([Write("a", 0, b"new"), Sync("a", 5)], {"a": b"new"}, {"a": b"new"}),
        ([Write("a", 0, b"new"), Sync("a", 4)], {"a": b"old"}, {"a": b"new"}),
        ([Write("a", None, b"er")], {"a": b"old"}, {"a": b"older"}),
        ([Truncate("a", 1)], {"a": b"old"}, {"a": b"o"}),
        ([Create("b"), Write("b", 0, b"x"), Sync("b", 9)], {"a": b"old"}, {"a": b"old", "b": b"x"}),
        ([Link("a", "b", moved=True)], {"a": b"old"}, {"b": b"old"}),
        ([Link("a", "b", moved=True), Sync("", 9)], {"b": b"old"}, {"b": b"old"}),
        ([Remove("a")], {"a": b"old"}, {}),
        ([Remove("a"), Sync("", 9)], {}, {}),
    ],
)
def test_what_a_cut_leaves(tmp_path, events, synced, all_of_it):
    """Synced data is there, and synced names; everything else may be there or not."""
    before = [Create("a"), Write("a", 0, b"old"), Sync("a", 2), Sync("", 3)]
    for name, likely, expected in (("none", 0, synced), ("all", 1, all_of_it)):
        (tmp_path / name).mkdir()
        assert left(tmp_path / name, before + events, likely) == expected


def test_a_torn_write(tmp_path):
    """An unsynced write may leave some of its sectors, each whole."""
    disk, found = Disk(), set()
    for number, event in enumerate([Create("a"), Sync("", 1), Write("a", 0, b"x" * 1_100)]):
        disk.take(number, event)
    for seed in range(200):
        disk.leave(tmp_path, random.Random(seed), 0.8)
        found.add((tmp_path / "a").read_bytes())

    def parts(*sizes):
        return b"".join(b"x" * size if size > 0 else bytes(-size) for size in sizes)

    assert found == {
        b"",
        parts(512),
        parts(1_024),
        parts(1_100),
        parts(-512, 512),
        parts(-512, 588),
        parts(-1_024, 76),
        parts(512, -512, 76),
    }
