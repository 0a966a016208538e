"""A record of everything that the service sends to the disk and its clients, by strace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,"
    "copy_file_range,sendfile,fsync,fdatasync,sync_file_range,sync,syncfs,msync,"
    "unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,sendto,sendmsg"
)
STRACE = ("strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "65536")

_METHODS = {
    **dict.fromkeys(("open", "openat", "creat"), "opened"),
    "write": "written",
    "pwrite64": "written_at",
    "ftruncate": "truncated",
    **dict.fromkeys(("fsync", "fdatasync"), "synced"),
    **dict.fromkeys(("link", "linkat"), "linked"),
    **dict.fromkeys(("rename", "renameat", "renameat2"), "renamed"),
    **dict.fromkeys(("unlink", "unlinkat"), "removed"),
}
_SENDING = {"sendto", "sendmsg"}

_LINE = re.compile(r"(\d+) +(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*?)\)? += (-?\d+|\?)")
_FILE = re.compile(r"\d+<([^>]*)>")
_TEXT = re.compile(r'"([^"]*)"')
_NUMBERS = re.compile(r"(?<=, )\d+(?=,|$)")
_ANSWER = re.compile(rb"\r\nX-Request-ID: (\w+)\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Write:
    """Bytes that were written to a file, at an offset, or at the end if that is None."""

    name: str
    offset: int | None
    data: bytes


@dataclass(frozen=True)
class Truncate:
    """A file that was given another size."""

    name: str
    size: int


@dataclass(frozen=True)
class Sync:
    """A file, or by the empty name the directory, whose changes are on the disk.

    It covers events before number `since`; later ones happened during the sync.
    """

    name: str
    since: int


@dataclass(frozen=True)
class Create:
    """A name that was created, with a new file."""

    name: str


@dataclass(frozen=True)
class Link:
    """A further name of a file; with `moved` the first one is gone."""

    name: str
    other: str
    moved: bool = False


@dataclass(frozen=True)
class Remove:
    """A name that was removed."""

    name: str


@dataclass(frozen=True)
class Answered:
    """An answer that is about to be sent: from now on its client may know."""

    request_id: str


Event = Write | Truncate | Sync | Create | Link | Remove | Answered


def why_not() -> str | None:
    """Return why nothing can be recorded here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = subprocess.run(
        [*command(Path(os.devnull), ["true"])], capture_output=True, text=True, check=False
    )
    return f"strace cannot trace: {probe.stderr.strip()}" if probe.returncode else None


def command(output: Path, traced: Iterable[str]) -> tuple[str, ...]:
    """Return the command that records another one into a file."""
    return (*STRACE, "-e", f"trace={CALLS}", "-o", str(output), *traced)


class Recording:
    """The events in one directory, of one process after another.

    NOTE: strace writes a call down when the process enters it and again when it leaves, and the
    process waits meanwhile. So the order of the record is the order of events, across all threads.
    A change counts from when its call has returned, a sync covers what had returned when it was
    called, and an answer counts from when it is sent.
    """

    def __init__(self, folder: Path) -> None:
        """Take the directory. Files in other directories are ignored."""
        self._folder = folder
        self._names: set[str] = set()
        self.events: list[Event] = []

    def read(self, output: Path) -> None:
        """Add strace's output. Raises ValueError for a call that is not understood."""
        begun: dict[str, tuple[str, int]] = {}
        for line in output.read_text().splitlines():
            thread, text = _matched(_LINE, line)
            if text.startswith(("+++", "---")):
                continue
            since = len(self.events)
            if text.endswith("<unfinished ...>"):
                text = text.removesuffix("<unfinished ...>").rstrip()
                begun[thread] = text, since
                self._take_answer(text)
                continue
            if resumed := _RESUMED.match(text):
                first, since = begun.pop(thread)
                text = first + resumed[1]
            else:
                self._take_answer(text)
            self._take(text, since)

    def _take_answer(self, text: str) -> None:
        """Record an answer that any call sends or writes to a socket."""
        if text.startswith(("send", "write")):
            for part in _TEXT.findall(text):
                found = _ANSWER.findall(_decoded(part))
                self.events += [Answered(request_id.decode()) for request_id in found]

    def _take(self, text: str, since: int) -> None:
        """Add the effect of a whole call on the directory."""
        name, arguments, result = _matched(_CALL, text)
        if not result.isdecimal():  # it failed, or the process was killed in it
            return
        files = [_decoded(path).decode() for path in _FILE.findall(arguments)]
        texts = _TEXT.findall(arguments)
        if name in _METHODS:
            method = getattr(self, f"_{_METHODS[name]}")
            method(_Arguments(arguments, files, texts, int(result), since))
        elif name not in _SENDING and self._names.intersection(map(self._local, files)):
            raise ValueError(f"what does {name} do to {files}?")

    def _local(self, path: str) -> str | None:
        """Return the name of a file in the directory, empty for the directory; None for others."""
        whole = self._folder / path
        if whole == self._folder:
            return ""
        return whole.name if whole.parent == self._folder else None

    def _opened(self, call: _Arguments) -> None:
        name = self._local(_decoded(call.texts[0]).decode())
        if name and "O_CREAT" in call.text and name not in self._names:
            self._names.add(name)
            self.events.append(Create(name))
        elif name and "O_TRUNC" in call.text:
            self.events.append(Truncate(name, 0))

    def _written(self, call: _Arguments) -> None:
        """Treat write(2) as adding to the end, because only new files are written by it."""
        if name := self._tracked(call):
            data = _decoded(call.texts[0])[: call.result]
            self.events.append(Write(name, None, data))

    def _written_at(self, call: _Arguments) -> None:
        if name := self._tracked(call):
            data = _decoded(call.texts[0])[: call.result]
            self.events.append(Write(name, call.numbers[-1], data))

    def _truncated(self, call: _Arguments) -> None:
        if name := self._tracked(call):
            self.events.append(Truncate(name, call.numbers[-1]))

    def _synced(self, call: _Arguments) -> None:
        name = self._local(call.files[0])
        if name == "" or name in self._names:
            self.events.append(Sync(name, call.since))

    def _tracked(self, call: _Arguments) -> str | None:
        """Return the name of the file that a call is about, if any; it may be removed."""
        name = self._local(call.files[0]) if call.files else None
        return name if name in self._names else None

    def _renamed(self, call: _Arguments) -> None:
        self._linked(call, moved=True)

    def _linked(self, call: _Arguments, *, moved: bool = False) -> None:
        name, other = (self._local(_decoded(text).decode()) for text in call.texts)
        if name and other:
            self._names.add(other)
            self.events.append(Link(name, other, moved))
            if moved:
                self._names.discard(name)

    def _removed(self, call: _Arguments) -> None:
        if name := self._local(_decoded(call.texts[0]).decode()):
            self._names.discard(name)
            self.events.append(Remove(name))


@dataclass(frozen=True)
class _Arguments:
    """The arguments of a call, the files of its descriptors, its strings, and its result."""

    text: str
    files: list[str]
    texts: list[str]
    result: int
    since: int

    @property
    def numbers(self) -> list[int]:
        return [int(number) for number in _NUMBERS.findall(self.text)]


def _matched(pattern: re.Pattern[str], text: str) -> tuple[str, ...]:
    found = pattern.match(text)
    if found is None:
        raise ValueError(f"strace wrote {text[:200]!r}")
    return found.groups()


def _decoded(text: str) -> bytes:
    """Return the bytes of a string in strace's -xx."""
    return bytes.fromhex(text.replace("\\x", ""))
