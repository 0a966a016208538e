"""The lines for React, Vue, Svelte, Solid and htmx in the client's page, each in Chromium."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import Client, running
from test_generated_clients import DRIVERS, MODULES, run

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "clients" / "javascript.md"
MOUNTED = DRIVERS / "hooks"
HTML = """<!doctype html><link rel=icon href=data:,><p id=app></p>
<script type=module src=main.js></script>
"""
HTMX = {"htmx.js": "htmx.org/dist/htmx.js", "json-enc.js": "htmx-ext-json-enc/json-enc.js"}
LOADED = """
<meta name=htmx-config content='{"includeIndicatorStyles": false, "allowEval": false}'>
<script src=htmx.js></script><script src=json-enc.js></script>
"""
POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:"
LOGIN = "await auth.login({usernameOrEmail: 'crispengari', password: 'crispengari'})"

pytest_plugins = ["chromium_fixtures"]
pytestmark = [
    pytest.mark.sqlite("a page knows nothing of the engine"),
    pytest.mark.skipif(
        not (MODULES / "react").exists(), reason="`make clients frameworks` was not run"
    ),
]


class Files:
    """The files of a front end."""

    public = True
    answer_headers = {"Content-Security-Policy": POLICY}  # noqa: RUF012

    def __init__(self, **files):
        self.files = files

    def on_get(self, req, resp, name):
        resp.content_type = "text/html" if name == "page" else "text/javascript"
        resp.text = self.files[name]


class UnderAuth:
    """Has the service's routes below /auth alone, as a proxy does. All else is the front end's."""

    def process_request(self, req, _resp):
        is_service = req.path.startswith("/auth/")
        req.path = req.path.removeprefix("/auth") if is_service else f"/app{req.path}"


def example(comment):
    """Return the example of the page that begins with a comment."""
    mark = rf"^```\w+\n({comment}\n.*?)^```"
    return re.search(mark, PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]


@pytest.fixture(name="shown")
def _shown(context, make_app, tmp_path):
    """Return a function that shows an example in a page, with what mounts it."""
    app = make_app(rate_limits="off")
    Client(app).register()
    app.add_middleware(UnderAuth())

    def shown(name, html=HTML):
        shutil.copy(ROOT / "clients" / "js" / "authapi.js", tmp_path)
        shutil.copy(MOUNTED / f"{name.lower()}.js", tmp_path / "main.js")
        (tmp_path / "auth.js").write_text(
            "import { createAuth } from './authapi.js';\n"
            "export const auth = globalThis.auth = createAuth({ url: '/auth' });\n"
        )
        (tmp_path / "user.js").write_text(example(f"// {name}"))
        (tmp_path / "node_modules").symlink_to(MODULES)
        options = ("--bundle", "--format=esm", "--define:process.env.NODE_ENV='production'")
        run("esbuild", "main.js", *options, "--outfile=bundle.js", cwd=tmp_path)
        files = {"page": html, "main.js": (tmp_path / "bundle.js").read_text()}
        files |= {name: (MODULES / path).read_text() for name, path in HTMX.items()}
        app.add_route("/app/{name}", Files(**files))
        return context.open(f"http://localhost:{port}/page")

    with running(app) as port:
        yield shown


@pytest.mark.parametrize("name", ["React", "Vue", "Svelte", "Solid"])
def test_hooks(shown, name):
    """A component shows nobody yet, the user after a login, and a guest after a logout."""
    page = shown(name)

    page.until("document.querySelector('#app').textContent === 'nobody yet'")
    page.run(LOGIN)
    page.until("document.querySelector('#app').textContent === 'crispengari'")
    page.run("await auth.logout()")
    page.until("document.querySelector('#app').textContent === 'a guest'")

    assert page.console == []


def test_htmx(shown):
    """A form of htmx logs in, and the client knows the user."""
    page = shown("htmx", HTML + LOADED + example("<!-- htmx -->"))
    page.until("globalThis.auth")
    page.run(
        "document.querySelector('[name=usernameOrEmail]').value = 'crispengari';"
        "document.querySelector('[name=password]').value = 'crispengari';"
        "document.querySelector('form button').click()"
    )

    page.until("auth.user?.username === 'crispengari'")
    assert page.console == []
