"""The examples for code that uses this package, as type checkers see them."""

import shutil
import subprocess
import sys

import pytest
from examples import ROOT, examples

# Django and Flask-Login have no types, so `mypy --strict` knows no class that derives from theirs.
UNTYPED = {"portal_users.py", "portal.py", "portal_asgi.py", "flask_login_pages.py"}
# pyright infers that Django's WSGI handler may return a coroutine.
LENIENT = "# pyright: basic, reportArgumentType=false\n"
VERIFY = ROOT / "docs" / "examples" / "verify" / "verify.py"


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """Return a folder with the examples of the typed frameworks."""
    code = {name: code for name, code in examples().items() if name not in UNTYPED}
    for name, text in {**code, VERIFY.name: VERIFY.read_text()}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_mypy(folder):
    """`mypy --strict` finds nothing wrong with the examples."""
    api = pytest.importorskip("mypy.api", reason="the extra `dev` has mypy")

    found, _, status = api.run(
        [
            *("--strict", "--config-file", str(ROOT / "setup.cfg")),
            *("--cache-dir", str(ROOT / ".mypy_cache")),
            *map(str, sorted(folder.iterdir())),
        ]
    )

    assert status == 0, found


def test_pyright(folder):
    """pyright, which is in most editors, finds nothing wrong with the examples."""
    pytest.importorskip("pyright", reason="the extra `dev` has pyright")
    if not shutil.which("node"):
        pytest.skip("pyright needs node")
    for name in UNTYPED:
        (folder / name).write_text(LENIENT + examples()[name])
    (folder / "pyrightconfig.json").write_text(
        f'{{"typeCheckingMode": "strict", "extraPaths": ["{ROOT}"]}}'
    )

    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--project", folder],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
