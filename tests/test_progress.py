"""Progress of a step of a start that takes long."""

from io import StringIO

import pytest

from authapi.database.progress import progress


class Terminal(StringIO):
    """Text that is written to a terminal."""

    def isatty(self):
        return True


def shown(output, clock, seconds):
    """Return what a step shows that reports eight times a second for some seconds."""
    with progress("Migration", clock, output) as tick:
        for _ in range(seconds * 8):
            clock.move(0.125)
            tick()
    return output.getvalue()


def test_a_quick_step_is_silent(clock):
    """A step that is done within a second shows nothing."""
    assert shown(StringIO(), clock, 0) == ""


def test_lines(clock):
    """A log gets a line after one second, each ten seconds, and at the end."""
    text = shown(StringIO(), clock, 25)

    assert text.splitlines() == [
        "Migration: 1 s …",
        "Migration: 11 s …",
        "Migration: 21 s …",
        "Migration: done in 25 s",
    ]


def test_a_terminal_has_one_line(clock):
    """On a terminal one line counts the seconds, and stays when the step is done."""
    text = shown(Terminal(), clock, 3)

    assert text.startswith("\rMigration: 1 s …\rMigration: 2 s …\r")
    assert text.endswith("\rMigration: done in 3 s\n")
    assert text.count("\n") == 1


def test_a_step_that_fails(clock):
    """A step that fails is not called done."""
    output = StringIO()

    with pytest.raises(ZeroDivisionError), progress("Migration", clock, output) as tick:
        clock.move(1)
        tick()
        raise ZeroDivisionError

    assert output.getvalue() == "Migration: 1 s …\n"
