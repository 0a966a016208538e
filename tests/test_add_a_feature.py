"""The page *Add a feature*: what it builds is a feature that works, and has the shape of one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "add-a-feature.md").read_text()


def files_of_the_page():
    """Return the texts of the files that the page builds, by path.

    The first line of a block is its path. Blocks of one path follow each other in one file.
    """
    blocks = re.findall(r"^```\w+\n(?:#|--) (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    files = {}
    for path, text in blocks:
        files[path] = f"{files[path]}\n\n{text}" if path in files else text
    return files


def copy_of_the_repository(root):
    """Make a copy that has what a feature changes and what its tests need."""
    for name in ("authapi", "docs", "faults", "sql"):
        shutil.copytree(ROOT / name, root / name)
    (root / "tests").mkdir()
    shutil.copy(ROOT / "setup.cfg", root / "setup.cfg")
    for path in (ROOT / "tests").glob("*.py"):
        if path.name.startswith("test_") and path.name != "test_architecture.py":
            (root / "tests" / path.name).touch()  # each feature has its tests
        else:
            shutil.copy(path, root / "tests" / path.name)


def test_the_page(tmp_path):
    """A reader who follows the page has a feature that passes its tests, and those of the shape."""
    copy_of_the_repository(tmp_path)
    files = files_of_the_page()
    listed = tmp_path / "authapi" / "features" / "__init__.py"
    line = files.pop("authapi/features/__init__.py")
    listed.write_text(listed.read_text().replace("\n)\n", f"\n{line})\n"))
    for path, text in files.items():
        number = len(list((tmp_path / path).parent.iterdir())) + 1
        (tmp_path / path.replace("NNNN", f"{number:04}")).write_text(text)
    (tmp_path / "docs" / "features" / "terms.md").touch()

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout
    assert len(files) == 5
