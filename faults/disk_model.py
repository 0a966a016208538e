"""A model of what a power cut leaves of the files in one directory.

It is harsher than ext4, XFS or btrfs, and about what POSIX promises:

- What was written to a file before an fsync or fdatasync of it returned is there, data and size.
- Each later write is there or not, independently, whole or torn: any of its sectors of 512 bytes,
  in any order. A sector itself is not torn, and a write damages nothing beside it, which SQLite
  relies on too.
- A name that was created, moved or removed is there or not, independently, until an fsync of the
  directory has returned. An fsync of the file does not sync its name, though on ext4 it does.
- The wal-index (-shm) is mapped memory, which nobody syncs. If it remains, it may hold anything.

Disks that report a sync they have not done, and disks that change data, are not modelled.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from faults.recording import Answered, Create, Event, Link, Remove, Sync, Truncate, Write

SECTOR = 512  # bytes
SHARED = "-shm"


@dataclass
class _File:
    """A file: its synced bytes, and the writes since its last sync by event number."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, Write | Truncate]] = field(default_factory=list)
    size: int = 0  # of the whole file, as its writer sees it


class Disk:
    """A directory, through the events of a recording."""

    def __init__(self) -> None:
        """Start with an empty directory."""
        self._live: dict[str, _File] = {}
        self._synced: dict[str, _File] = {}
        self._pending: list[tuple[int, str, _File | None]] = []

    def take(self, number: int, event: Event) -> None:
        """Apply an event. Events come in the order of their numbers."""
        match event:
            case Write() | Truncate():
                self._change(number, self._live[event.name], event)
            case Sync(name="", since=since):
                self._sync_names(since)
            case Sync(name=name, since=since):
                _sync(self._live[name], since)
            case Create(name=name):
                self._name(number, name, _File())
            case Link(name=name, other=other, moved=moved):
                self._name(number, other, self._live[name])
                if moved:
                    self._name(number, name, None)
            case Remove(name=name):
                self._name(number, name, None)
            case Answered():
                pass

    def _change(self, number: int, file: _File, event: Write | Truncate) -> None:
        if isinstance(event, Truncate):
            file.size = event.size
        else:
            offset = file.size if event.offset is None else event.offset
            event = Write(event.name, offset, event.data)
            file.size = max(file.size, offset + len(event.data))
        file.pending.append((number, event))

    def _name(self, number: int, name: str, file: _File | None) -> None:
        if file is None:
            self._live.pop(name, None)
        else:
            self._live[name] = file
        self._pending.append((number, name, file))

    def _sync_names(self, since: int) -> None:
        for number, name, file in self._pending:
            if number < since:
                _rename(self._synced, name, file)
        self._pending = [change for change in self._pending if change[0] >= since]

    def leave(self, folder: Path, rng: random.Random, likely: float) -> None:
        """Write the files that a cut now leaves: what is synced, and some of the rest at random.

        `likely` is the share of the rest: nothing at 0, all at 1.
        """
        names = dict(self._synced)
        for _, name, file in self._pending:
            if rng.random() < likely:
                _rename(names, name, file)
        for name, file in names.items():
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(
                rng.randbytes(32_768) if name.endswith(SHARED) else _left(file, rng, likely)
            )


def _rename(names: dict[str, _File], name: str, file: _File | None) -> None:
    if file is None:
        names.pop(name, None)
    else:
        names[name] = file


def _sync(file: _File, since: int) -> None:
    for number, change in file.pending:
        if number < since:
            _apply(file.synced, change)
    file.pending = [change for change in file.pending if change[0] >= since]


def _left(file: _File, rng: random.Random, likely: float) -> bytearray:
    content = bytearray(file.synced)
    for _, change in file.pending:
        fate = rng.random()
        if fate < likely * likely:  # of the rest, some are torn
            _apply(content, change)
        elif fate < likely and isinstance(change, Write):
            _tear(content, change, rng)
    return content


def _tear(content: bytearray, write: Write, rng: random.Random) -> None:
    """Apply some of the sectors of a write: the first ones, or any."""
    offset = write.offset or 0
    end = offset + len(write.data)
    edges = [offset, *range(offset - offset % SECTOR + SECTOR, end, SECTOR), end]
    sectors = list(pairwise(edges))
    if rng.random() < 0.5:
        sectors = sectors[: rng.randrange(len(sectors) + 1)]
    else:
        sectors = [sector for sector in sectors if rng.random() < 0.5]
    for begin, stop in sectors:
        _apply(content, Write(write.name, begin, write.data[begin - offset : stop - offset]))


def _apply(content: bytearray, change: Write | Truncate) -> None:
    if isinstance(change, Truncate):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    offset = change.offset or 0
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(change.data)] = change.data
