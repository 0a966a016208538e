"""The changes that `python -m faults.mutants` makes."""

import pytest

from faults import mutants

SOURCE = '''
class Door:
    """A door."""

    def open(self, key: int | None) -> bool:
        """Open it."""
        if key != self.key:
            raise ValueError
        self.turn()
        return True
'''


def test_statements_are_left_out():
    """Calls, `raise` and `return`, one at a time; not what says nothing."""
    changed = list(mutants.left_out(SOURCE))

    assert [mutants.name_of(SOURCE, one) for one in changed] == [
        "Door.open: self.turn() -> pass",
        "Door.open: return True -> pass",
        "Door.open: raise ValueError -> pass",
    ]


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        (("int | None", "int + None"), False),
        (("-> bool", "-> int"), False),
        (("self, key", "self, /, key"), False),
        (("!=", "=="), True),
        (("self, key", "key, self"), True),
    ],
)
def test_what_changes_nothing_is_not_tried(change, matters):
    """Annotations of functions, and kinds of their parameters."""
    changed = SOURCE.replace(*change)

    assert (mutants.meaning(changed) != mutants.meaning(SOURCE)) is matters
