"""Rules for the source that no single request can show."""

import ast
import re
import sys
from pathlib import Path

import pytest
from test_architecture import MODULES, ROOT, imports

DANGEROUS = {
    *("subprocess", "pickle", "marshal", "shelve", "dbm", "yaml", "xml", "code", "codeop", "pty"),
    *("socketserver", "ftplib", "telnetlib", "requests", "httpx", "ctypes.util"),
}
NAMES = {"eval", "exec", "compile", "__import__"}
CALLS = {"os.system", "os.popen", "os.execv", "os.execve", "os.spawnv", "os.posix_spawn"}


def calls(module):
    """Return the calls in a module, each with the dotted name of what is called."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_command_and_no_code_from_data():
    """No command is run, no code is made from data, and nothing is read but JSON and text."""
    for module in MODULES:
        used = set(imports(module))
        assert not {name for name in used if name in DANGEROUS or name.split(".")[0] in DANGEROUS}
        called = {name for name, _ in calls(module)}
        assert not called & (NAMES | CALLS), module


def test_dependencies_are_declared():
    """The package imports the standard library and what setup.cfg names, with its extras."""
    declared = re.search(r"install_requires =\n((?: +.+\n)+)", (ROOT / "setup.cfg").read_text())[1]
    names = {re.match(r"\s+([\w-]+)", line)[1].lower() for line in declared.splitlines()}
    packages = {"argon2-cffi", "falcon", "msgspec", "pyjwt", "waitress"}

    assert names == packages
    used = {name.split(".")[0] for module in MODULES for name in imports(module)}
    others = used - set(sys.stdlib_module_names) - {"authapi", "__future__"}
    extras = {"bcrypt", "prometheus_client", "psycopg"}
    assert others == {"argon2", "falcon", "jwt", "msgspec", "waitress"} | extras


def test_chance():
    """Unguessable values come from `secrets`; `random` is used only for request ids."""
    assert {"authapi.middleware"} == {
        module for module in MODULES if "random" in set(imports(module))
    }
    assert [
        ast.unparse(node)
        for _, node in calls("authapi.middleware")
        if ast.unparse(node).startswith("random.")
    ] == ["random.getrandbits(64)"]
    drawn = {
        name: ast.unparse(node)
        for module in MODULES
        for name, node in calls(module)
        if name.startswith("secrets.token_")
    }
    assert drawn


def test_hashes():
    """SHA-256 is the only hash that protects anything; SHA-1 names entries of breach lists.

    The hashes of imported passwords have a module of their own.
    """
    hashes = [
        (name, ast.unparse(node))
        for module in MODULES
        if module != "authapi.passwords.key_derivation"
        for name, node in calls(module)
        if re.fullmatch(r"hashlib\.\w+", name)
    ]

    assert {name for name, _ in hashes} == {"hashlib.sha256", "hashlib.sha1", "hashlib.file_digest"}
    assert all("'sha256'" in text for name, text in hashes if name == "hashlib.file_digest")
    assert all("usedforsecurity=False" in text for name, text in hashes if name == "hashlib.sha1")


def test_log_texts_are_constant():
    """A log line's text is a constant, and what a client sent is only ever an argument of it."""
    found = 0
    for module in MODULES:
        for name, node in calls(module):
            if not re.fullmatch(r"(logger|_logger)\.\w+", name) or name.endswith("setLevel"):
                continue
            text = node.args[1 if name.endswith(".log") else 0]
            found += 1
            assert isinstance(text, (ast.Constant, ast.Name)), (module, ast.unparse(node))
    assert found > 20


def test_no_format_of_data():
    """`str.format` and `%` are used on constants alone, so that no client writes a format."""
    for module in MODULES:
        for node in ast.walk(MODULES[module]):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
                assert not isinstance(node.right, ast.Tuple) or isinstance(node.left, ast.Constant)
        for name, node in calls(module):
            is_of_a_log = [ast.unparse(each) for each in node.args] == ["record"]
            if name.endswith(".format") and not is_of_a_log:
                assert isinstance(node.func.value, ast.Constant), (module, ast.unparse(node))


@pytest.mark.parametrize("folder", ["authapi", "sql", "docs", "tests"])
def test_no_secret_in_the_source(folder):
    """No key, token or password hash stands in the source, but for published examples."""
    secret = re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY|\$argon2id?\$v=19\$m=47104,t=1,p=1\$[\w+/]{20,}\$"
        r"|\beyJ[\w-]{20,}(\.[\w-]{20,}){2}|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}"
    )
    for path in Path(ROOT / folder).rglob("*"):
        if path.suffix in {".py", ".sql", ".md", ".conf", ".yml", ".txt"}:
            assert not secret.search(path.read_text()), path
