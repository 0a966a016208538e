"""Mutation testing: check that a test finds each small change of the code.

`python -m faults.mutants` makes every mutant of the modules below, one at a time and in a copy of
the checkout, and runs the module's tests until one fails. A mutant is a change by Cosmic Ray
(operators, comparisons, numbers, decorators, loops, exceptions), or one statement left out that is
a call, a `raise` or a `return`. A mutant that no test finds survives; `mutants.toml` says why it is
no fault. The script fails on a survivor without an explanation, and on an explanation without a
survivor.

It needs the extra `mutants`, and takes about two seconds of a CPU for each mutant.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from faults.harness import ROOT

LIMITS = (
    "limits network_limits budget_rows lockout devices login password_change reauthentication "
    "registration attackers"
)
MAILED_PROOFS = "pending_registrations registration_by_mail pre_hijacking"
SUBJECTS = {
    "tokens": "tokens signing_keys replay devices sessions",
    "passwords/hash_lane": "hash_lane passwords admission",
    "passwords/__init__": "passwords password_change registration hashing login",
    "middleware": "middleware cross_site cors sessions headers mount protect forward_auth",
    "authentication": (
        "presented_tokens protection middleware sessions mount protect forward_auth security"
    ),
    "session_tokens": "presented_tokens cookie_domains cookies sessions tokens",
    "cookies": "cookies cookie_domains middleware protect",
    "bodies": "bodies wire",
    "validation": "validation",
    "operations": "operations",
    "hosts": "hosts",
    "fields": "fields",
    "headers": "headers cors",
    "server/forwarded": "proxy proxy_names",
    "features/sessions": (
        "sessions overtaken session_list replay password_change tokens accounts races"
        " replaced_sessions"
    ),
    "features/renewal": "renewal races mount protect",
    "admission": "admission",
    "budgets": LIMITS,
    "features/limits": LIMITS,
    "features/lockout": LIMITS,
    "features/devices": "devices login limits attackers cookies presented_tokens",
    "body_tokens": "body_tokens protect_asgi cookies",
    "session_check": "protect_asgi protect mount body_tokens",
    "asgi/__init__": "protect_asgi",
    "asgi/environ": "protect_asgi",
    "asgi/lifespan": "protect_asgi",
    "asgi/routes": "protect_asgi",
    "asgi/sending": "protect_asgi",
    "asgi/threads": "protect_asgi",
    "features/mail_login": "mail_login bound_proofs mail_limits",
    "features/bound_proofs": f"bound_proofs mail_login {MAILED_PROOFS}",
    "features/mailed_proofs": "mailed_proofs email_verification email_change password_reset",
    "features/pending_registrations": MAILED_PROOFS,
    "features/registration_by_mail": MAILED_PROOFS,
    "features/forward_auth": "forward_auth login_redirect",
}
ON_ONE_ENGINE = ("-k", "not postgresql")  # the modules are the same on both
EXPLAINED = ROOT / "faults" / "mutants.toml"
LONGEST = 300  # seconds that the tests of a module may take
MEMORY = 4 * 1_024**3  # bytes of address space: a mutant may make a number of 10 GiB
PATIENCE = 5  # times the duration without a mutant; then the tests hang, and the mutant is found


@dataclass(frozen=True)
class Mutant:
    """A module with one change; `name` identifies it, even if the code around it moves."""

    module: str
    source: str
    name: str


def mutants(module: str) -> Iterator[Mutant]:
    """Yield the mutants of a module that change what it does."""
    source = (ROOT / "authapi" / f"{module}.py").read_text()
    seen = {meaning(source)}
    for changed in (*_cosmic_ray(source), *left_out(source)):
        with suppress(SyntaxError):
            if (other := meaning(changed)) not in seen:
                seen.add(other)
                yield Mutant(module, changed, name_of(source, changed))


def _cosmic_ray(source: str) -> Iterator[str]:
    from cosmic_ray.ast import ast_nodes, get_ast  # noqa: PLC0415 - of an extra
    from cosmic_ray.mutating import mutate_code  # noqa: PLC0415
    from cosmic_ray.plugins import get_operator, operator_names  # noqa: PLC0415

    for name in operator_names():
        kind = get_operator(name)
        if not kind.arguments():
            positions = (kind().mutation_positions(node) for node in ast_nodes(get_ast(source)))
            for occurrence in range(sum(len(list(found)) for found in positions)):
                with suppress(AttributeError):  # it cannot replace an exception with a dotted name
                    yield mutate_code(source, kind(), occurrence)


def left_out(source: str) -> Iterator[str]:
    """Yield the source with one call, `raise` or `return` left out."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Expr | ast.Raise | ast.Return) and not is_docstring:
            indent = " " * node.col_offset
            yield "".join([*lines[: node.lineno - 1], f"{indent}pass\n", *lines[node.end_lineno :]])


def meaning(source: str) -> str:
    """Return what a module does: its tree without function annotations and parameter kinds."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
            _forget_annotations(node)
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.arguments):  # Cosmic Ray takes their `*` for an operator
            node.args, node.posonlyargs = node.posonlyargs + node.args + node.kwonlyargs, []
            node.defaults += [default for default in node.kw_defaults if default]
            node.kwonlyargs, node.kw_defaults = [], []
    return ast.dump(tree)


def _forget_annotations(function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    """Remove the annotations of variables, which nothing evaluates."""
    for node in ast.walk(function):
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)


def name_of(source: str, changed: str) -> str:
    """Return the function and the change of its lines."""
    before, after = source.splitlines(), changed.splitlines()
    opcodes = difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    edits = [edit for edit in opcodes if edit[0] != "equal"]
    begin, end = edits[0][1], edits[-1][2]
    old = " ".join(line.strip() for line in before[begin:end])
    new = " ".join(line.strip() for line in after[edits[0][3] : edits[-1][4]])
    return f"{_place(ast.parse(source), begin + 1)}: {old} -> {new or 'nothing'}"


def _place(tree: ast.Module, line: int) -> str:
    """Return the names of the classes and functions around a line."""
    names: list[str] = []
    node: ast.AST = tree
    while True:
        inner = [
            child
            for child in ast.iter_child_nodes(node)
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and min([child.lineno, *(one.lineno for one in child.decorator_list)])
            <= line
            <= (child.end_lineno or 0)
        ]
        if not inner:
            return ".".join(names) or "module"
        node = inner[0]
        names.append(inner[0].name)


class Copies:
    """Copies of the checkout, one for each mutant that is tested at once."""

    def __init__(self, folder: Path, number: int) -> None:
        """Copy what the tests need."""
        self._free: SimpleQueue[Path] = SimpleQueue()
        for copy_number in range(number):
            place = folder / str(copy_number)
            shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
            self._free.put(place)

    def survives(self, mutant: Mutant, seconds: float = LONGEST) -> bool:
        """Return whether the tests of its module pass with it, in time."""
        place = self._free.get()
        path = place / "authapi" / f"{mutant.module}.py"
        original = path.read_text()
        try:
            path.write_text(mutant.source)
            return _passes(place, SUBJECTS[mutant.module].split(), seconds)
        finally:
            path.write_text(original)
            self._free.put(place)


def _passes(place: Path, names: list[str], seconds: float) -> bool:
    tests = [f"tests/test_{name}.py" for name in names]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-xq", *ON_ONE_ENGINE, "-p", "no:cacheprovider", *tests],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(seconds) == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and the files of the tests
        process.wait()


def explained(module: str) -> Counter[str]:
    """Return the explained survivors of a module."""
    reasons = tomllib.loads(EXPLAINED.read_text()).get(module, {})
    return Counter(name for names in reasons.values() for name in names)


def broken(module: str, at_once: int) -> Iterator[str]:
    """Test every mutant of a module; yield what is broken as it is found."""
    tried, survivors, known = list(mutants(module)), Counter[str](), explained(module)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        copies = Copies(Path(folder), at_once)
        began = time.monotonic()
        source = (ROOT / "authapi" / f"{module}.py").read_text()
        if not copies.survives(Mutant(module, source, "none")):
            yield f"{module}: the tests fail without any change"
            return
        seconds = PATIENCE * (time.monotonic() - began)
        alive = pool.map(partial(copies.survives, seconds=seconds), tried)
        for mutant in (mutant for mutant, lives in zip(tried, alive, strict=True) if lives):
            survivors[mutant.name] += 1
            if survivors[mutant.name] > known[mutant.name]:
                yield f"{module}: survives: {mutant.name}"
    for name in (known - survivors).elements():
        yield f"{module}: explained, and found by a test: {name}"
    print(f"{module}: {len(tried)} mutants, {survivors.total()} survive", flush=True)


def outdated() -> list[str]:
    """Return the explanations of code that is gone, or of modules that are not tried."""
    found = []
    for module, reasons in tomllib.loads(EXPLAINED.read_text()).items():
        source = (ROOT / "authapi" / f"{module}.py").read_text() if module in SUBJECTS else ""
        code = " ".join(line.strip() for line in source.splitlines())
        names = [name for names in reasons.values() for name in names]
        found += [
            f"{module}: {name} is explained, and not there"
            for name in names
            if not source or name.partition(": ")[2].partition(" -> ")[0] not in code
        ]
    return found


def main() -> int:
    """Test the mutants of each module."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("modules", nargs="*", default=[], help=f"of {', '.join(SUBJECTS)} (all)")
    options.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="mutants (CPUs)")
    chosen = options.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    status = 0
    for text in outdated():
        print(f"BROKEN: {text}", flush=True)
        status = 1
    for module in chosen.modules or SUBJECTS:
        for text in broken(module, chosen.at_once):
            print(f"BROKEN: {text}", flush=True)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
