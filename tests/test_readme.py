"""The README: its walk answers as it says, its example works, its settings and links are real."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import USER, process, request, running

from authapi.settings import declared_settings

README = (Path(__file__).parent.parent / "README.md").read_text()
DATE = re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_walk(make_app, tmp_path):
    """Every command of the walk, in order, has the answer that stands under it."""
    walk = "\n".join(re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
    steps = re.findall(r"^\$ (curl .*?)\n(\{.*?\})$", walk, re.DOTALL | re.MULTILINE)

    with running(make_app()) as port:
        for command, answer in steps:
            here = command.replace("curl", "curl -s").replace(":3001", f":{port}")
            found = subprocess.check_output(here, shell=True, cwd=tmp_path, text=True)
            assert DATE.sub("", found) == DATE.sub("", answer)

    assert len(steps) == walk.count("$ curl") == 7


def test_example(tmp_path):
    """The example is a service: its resource is protected, and finds the user."""
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (tmp_path / "notes.py").write_text(code)

    with process(tmp_path, run=(tmp_path / "notes.py",)) as (_, url):
        assert request(f"{url}/health")[:2] == (200, {"status": "ok"})
        assert request(f"{url}/notes")[0] == 401
        _, _, headers = request(f"{url}/register", USER)
        cookie = headers["Set-Cookie"].partition(";")[0]
        answer = request(f"{url}/notes", Cookie=cookie)
        assert answer[:2] == (200, {"owner": USER["username"], "notes": []})


def test_settings():
    """Every setting that the README names exists."""
    names = set(re.findall(r"AUTHAPI_\w+", README))

    assert len(names) > 10
    assert names <= {f"AUTHAPI_{each.name.upper()}" for each in declared_settings()}


def anchors(page):
    """Return the anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links():
    """The page and the heading that a link names exist."""
    root = Path(__file__).parent.parent
    pages = [root / "README.md", *(root / "docs").rglob("*.md"), *root.glob("benchmarks/*.md")]
    for page in pages:
        for path, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", page.read_text()):
            target = page.parent / path if path else page
            assert target.exists(), (page, path)
            assert not anchor or anchor in anchors(target), (page, path, anchor)


def test_every_page_is_found():
    """Another page links to each page of the documentation, so a reader finds it."""
    root = Path(__file__).parent.parent
    pages = {root / "README.md", *(root / "docs").rglob("*.md")}
    linked = {
        (page.parent / path).resolve()
        for page in pages
        for path in re.findall(r"\]\(([^)#:]+)", page.read_text())
        if (page.parent / path).resolve() != page
    }
    of_the_package_index = root / "docs" / "package.md"

    assert pages - linked == {of_the_package_index}


def test_files_of_the_architecture():
    """The files that the page on the architecture names exist."""
    root = Path(__file__).parent.parent
    page = (root / "docs" / "architecture.md").read_text()
    names = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|sql))`", page))

    assert names
    assert not {
        name
        for name in names
        if not (root / "authapi" / name).exists() and not (root / name).exists()
    }


def test_the_map_is_whole():
    """The page on the architecture names every module and package at the top of authapi/."""
    root = Path(__file__).parent.parent
    page = (root / "docs" / "architecture.md").read_text()
    named = re.findall(r"(?:^  |`)(\w+(?:\.py|/))", page, re.MULTILINE)
    paths = [path for path in (root / "authapi").iterdir() if not path.name.startswith("__")]
    modules = {path.name for path in paths if path.suffix == ".py"}
    packages = {f"{path.name}/" for path in paths if (path / "__init__.py").exists()}

    assert {"app.py", "wire.py"} < modules
    assert not (modules | packages) - set(named)
