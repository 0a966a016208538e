"""The JavaScript client, its types and its size; `make clients` installs what checks the types."""

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import running
from test_generated_clients import DRIVERS, MODULES, TSC, run, with_node

from tools.api_document import PLACE

CLIENT = Path(__file__).parent.parent / "clients" / "js"

pytestmark = pytest.mark.sqlite("a client knows nothing of the engine")


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """Return a folder with the client, as a developer copies it, and with the compiler."""
    shutil.copytree(CLIENT, tmp_path, dirs_exist_ok=True)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(MODULES)
    return tmp_path


def test_size():
    """The client is one file of at most 4,096 bytes, which imports nothing."""
    source = (CLIENT / "authapi.js").read_bytes()

    assert len(source) <= 4096
    assert not any(line.startswith(b"import") for line in source.splitlines())


@pytest.mark.skipif(not shutil.which("node"), reason="there is no node")
def test_driven(folder, make_app):
    """In Node, its methods go from a registration to the end of the account."""
    shutil.copy(DRIVERS / "drive.mjs", folder)
    with running(make_app(rate_limits="off")) as port:
        url = f"http://127.0.0.1:{port}"
        command = ["node", "drive.mjs", url]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)

    assert done.stdout == "driven\n", done.stderr


@with_node
def test_types_of_the_service(folder):
    """api.d.ts is what openapi-typescript makes of the document: else run `make document`."""
    arguments = (str(PLACE), "--default-non-nullable", "false", "-o", "made.d.ts")
    run("openapi-typescript", *arguments, cwd=folder)

    assert (folder / "made.d.ts").read_text() == (folder / "api.d.ts").read_text()


@with_node
def test_types_of_the_client(folder):
    """A strict compiler finds that authapi.js is what authapi.d.ts declares."""
    run("tsc", *TSC, "--noEmit", "--allowJs", "--checkJs", "authapi.js", cwd=folder)


@with_node
def test_types_of_an_application(folder):
    """Users, bodies and the names of failures are typed: a wrong one does not compile."""
    shutil.copy(DRIVERS / "consumer.ts", folder)
    run("tsc", *TSC, "--noEmit", "consumer.ts", cwd=folder)
