"""Findings: what a check of the database or of its surroundings has found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from authapi.database import Row


class Level(StrEnum):
    """How bad a finding is: nothing is to be done, something may have to be, or it must."""

    OK = "ok"
    WARN = "warn"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, in a sentence that says what to do where that is something."""

    check: str
    level: Level
    text: str


def ok(check: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(check, Level.OK, text)


def warn(check: str, text: str) -> Finding:
    """Return a finding of something that may be meant."""
    return Finding(check, Level.WARN, text)


def fault(check: str, text: str) -> Finding:
    """Return a finding of a fault."""
    return Finding(check, Level.FAULT, text)


def drift(there: Iterable[Row], fresh: Iterable[Row], version: int) -> Iterator[Finding]:
    """Compare the kinds, names and definitions of a schema with those of a fresh one.

    What the service does not know is only a warning: an index may be the operator's.
    """
    found, wanted = _by_name(there), _by_name(fresh)
    lacking = [each for each in wanted if each not in found]
    changed = [each for each in wanted if each in found and found[each] != wanted[each]]
    further = [each for each in found if each not in wanted]
    if lacking or changed:
        texts = [*(f"no {each}" for each in lacking), *(f"another {each}" for each in changed)]
        yield fault(
            "drift",
            f"The schema is not that of version {version}: it has {_listed(texts)}. Restore a "
            "backup with authapi db restore, or undo what another program did.",
        )
    if further:
        yield warn(
            "drift",
            f"The schema has what the service does not know: {_listed(further)}. An update may "
            "fail over it.",
        )
    if not (lacking or changed or further):
        yield ok("drift", f"The schema is that of version {version}.")


def _by_name(rows: Iterable[Row]) -> dict[str, str]:
    return {f"{kind} {name}": " ".join(str(text).split()) for kind, name, text in rows}


def _listed(texts: Sequence[str]) -> str:
    shown = ", ".join(texts[:5])
    return f"{shown} and {len(texts) - 5} more" if len(texts) > 5 else shown
