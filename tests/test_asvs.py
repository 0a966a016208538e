"""The table of OWASP ASVS on the page of security: each test that it names is there, and runs."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "security.md").read_text()
ROWS = re.findall(
    r"^\| (V[\d.]+) \| ([12]) \| [^|]+ \| ([^|]+) \|$",
    PAGE.partition("## OWASP ASVS")[2],
    re.MULTILINE,
)
LINUX = "sys.platform != 'linux'"  # the one condition that may skip a named test


@cache
def functions(file):
    """The functions of a file of tests by their names, and the marks of the whole file."""
    tree = ast.parse((TESTS / f"{file}.py").read_text())
    marks = [
        ast.unparse(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}, marks


def fixtures(file):
    """The fixtures that a file's tests can ask for, by their names."""
    found = {}
    for where in ("conftest", file):
        for node in functions(where)[0].values():
            for decorator in node.decorator_list:
                if "pytest.fixture" in ast.unparse(decorator):
                    name = re.search(r"name='(\w+)'", ast.unparse(decorator))
                    found[name[1] if name else node.name] = node
    return found


def skips(node):
    """The conditions under which a function is skipped."""
    text = ast.unparse(node)
    marked = re.findall(r"skipif\((.+?), reason=", text)
    return [condition for condition in marked if condition != LINUX] + re.findall(
        r"pytest\.(?:skip|importorskip|mark\.skip\b|mark\.xfail)", text
    )


def test_the_table_is_whole():
    """Each of the 179 requirements that concern the service has a row, with a test or a gap."""
    assert len({row[0] for row in ROWS}) == len(ROWS) == 179
    for requirement, _, shown in ROWS:
        known = "`" in shown or shown.startswith(("not applicable: ", "**gap**: "))
        assert known, requirement


@pytest.mark.parametrize(
    "named", sorted({name for row in ROWS for name in re.findall(r"`(\w+::\w+)`", row[2])})
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
