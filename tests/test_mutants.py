"""The changes that `python -m faults.mutants` makes, and its list of survivors."""

import tomllib

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
    changed = list(mutants._left_out(SOURCE))

    assert [mutants._name(SOURCE, one) for one in changed] == [
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

    assert (mutants._meaning(changed) != mutants._meaning(SOURCE)) is matters


def test_explanations_are_of_this_code():
    """Each names lines that are there, in a module that is tried."""
    modules = tomllib.loads(mutants.EXPLAINED.read_text())
    gone = []
    for module, reasons in modules.items():
        source = (mutants.ROOT / "authapi" / f"{module}.py").read_text()
        code = " ".join(line.strip() for line in source.splitlines())
        names = [name for names in reasons.values() for name in names]
        gone += [name for name in names if name.partition(": ")[2].partition(" -> ")[0] not in code]

    assert modules.keys() <= mutants.SUBJECTS.keys()
    assert gone == []
