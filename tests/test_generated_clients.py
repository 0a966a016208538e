"""What generators and fuzzers make of the API document: `make clients` installs them."""

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import running, token_of

from tools.api_document import ALL_ON, PLACE

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / ".clients"
MODULES = TOOLS / "node_modules"
DRIVERS = Path(__file__).parent / "clients"
SETTINGS = {**ALL_ON, "rate_limits": "off"}
TSC = ("--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2023,dom,dom.iterable")

pytestmark = [
    pytest.mark.sqlite("a client knows nothing of the engine"),
    pytest.mark.skipif(
        not (TOOLS / "bin" / "schemathesis").exists(), reason="`make clients` was not run"
    ),
]
with_node = pytest.mark.skipif(
    not (shutil.which("node") and MODULES.exists()), reason="there is no node, or no npm"
)


def run(*command, cwd):
    """Run a program, and return what it prints. Nothing that it warns of is ignored."""
    path = f"{TOOLS / 'bin'}:{MODULES / '.bin'}:/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": path, "HOME": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@with_node
def test_typescript(make_app, tmp_path):
    """openapi-typescript makes types by which a strict compiler knows the names of failures."""
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(MODULES)
    shutil.copy(DRIVERS / "drive.ts", tmp_path)
    run("openapi-typescript", str(PLACE), "-o", "api.d.ts", cwd=tmp_path)
    run("tsc", *TSC, "drive.ts", cwd=tmp_path)

    with running(make_app(**SETTINGS)) as port:
        assert "driven" in run("node", "drive.js", f"http://127.0.0.1:{port}", cwd=tmp_path)


def test_python(make_app, tmp_path):
    """openapi-python-client warns of nothing, and its client goes from register to logout."""
    where = ("--path", str(PLACE), "--output-path", "client", "--meta", "none")
    told = run("openapi-python-client", "generate", *where, cwd=tmp_path)
    shutil.copy(DRIVERS / "drive.py", tmp_path)

    assert "arning" not in told
    with running(make_app(**SETTINGS)) as port:
        url = f"http://127.0.0.1:{port}"
        assert "driven" in run(str(TOOLS / "bin" / "python"), "drive.py", url, cwd=tmp_path)


ENDING = "^(register|logIn|logInByMail|logOut|deleteUser|endSession)$"  # ends the session


@pytest.mark.parametrize("who", ["guest", "user"])
def test_fuzzed(make_client, tmp_path, who):
    """Schemathesis, with all its checks, finds no answer that the document does not have."""
    client = make_client(**SETTINGS)
    token = token_of(client.register())
    config = (DRIVERS / "schemathesis.toml").read_text()
    if who == "user":
        schemes = {"session": "api_key", "bearer": "bearer"}
        config += "".join(
            f'[auth.openapi.{name}]\n{key} = "{token}"\n' for name, key in schemes.items()
        )
    (tmp_path / "schemathesis.toml").write_text(config)
    options = ("--exclude-operation-id-regex", ENDING) if who == "user" else ()
    with running(client.app) as port:
        url = f"http://127.0.0.1:{port}/openapi.json"
        told = run("schemathesis", "run", url, "--no-color", *options, cwd=tmp_path)

    assert " passed" in told
    assert client.get_as(token).status_code == 200
