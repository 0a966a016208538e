"""The page of OWASP ASVS: each test that it names exists and runs."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SHOWN, _, REST = (TESTS.parent / "docs" / "asvs.md").read_text().partition("## Not applicable")
ROWS = re.findall(r"^\| (V[\d.]+) \| [^|]+ \| ([^|]+) \|$", SHOWN, re.MULTILINE)
NOT_APPLICABLE = re.findall(r"\bV[\d.]+\d", REST)
LINUX = "sys.platform != 'linux'"  # the one condition that may skip a named test


@cache
def functions(file):
    """Return the functions of a test file by name, and the marks of the whole file."""
    tree = ast.parse((TESTS / f"{file}.py").read_text())
    marks = [
        ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}, marks


@pytest.fixture(scope="module", autouse=True)
def _forgotten():
    """Forget the functions after the last test: they are many objects."""
    yield
    functions.cache_clear()


def fixtures(file):
    """Return the fixtures that a file's tests can ask for, by name."""
    found = {}
    for where in ("conftest", file):
        for node in functions(where)[0].values():
            for decorator in node.decorator_list:
                if "pytest.fixture" in ast.unparse(decorator):
                    name = re.search(r"name='(\w+)'", ast.unparse(decorator))
                    found[name[1] if name else node.name] = node
    return found


def skips(node):
    """Return the conditions under which a function is skipped."""
    text = ast.unparse(node)
    marked = re.findall(r"skipif\((.+?), reason=", text)
    return [condition for condition in marked if condition != LINUX] + re.findall(
        r"pytest\.(?:skip|importorskip|mark\.skip\b|mark\.xfail)", text
    )


def test_the_table_is_whole():
    """Each of the 179 requirements is shown by a test, is a gap, or is not applicable."""
    named = [row[0] for row in ROWS] + NOT_APPLICABLE

    assert len(set(named)) == len(named) == 179
    assert len(NOT_APPLICABLE) == 6
    assert [row[0] for row in ROWS if row[1].startswith("**gap**: ")] == ["V15.2.1", "V6.3.3"]
    assert all("`" in row[1] or row[1].startswith("**gap**: ") for row in ROWS)


@pytest.mark.parametrize(
    "named", sorted({name for row in ROWS for name in re.findall(r"`(\w+::\w+)`", row[1])})
)
def test_a_named_test_runs(named):
    """A test that the table names exists, and nothing skips it but another system than Linux."""
    file, name = named.split("::")
    known, marks = functions(f"test_{file}")
    node = known[f"test_{name}"]

    assert skips(node) == []
    assert all(LINUX in mark for mark in marks)
    asked, offered = {argument.arg for argument in node.args.args}, fixtures(f"test_{file}")
    assert [skips(offered[fixture]) for fixture in asked & set(offered)] == [
        [] for _ in asked & set(offered)
    ]
