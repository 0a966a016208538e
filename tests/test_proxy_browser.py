"""The login page of docs/examples in Chromium, behind a real proxy."""

import base64
import hashlib
import re
from urllib.parse import quote

from conftest import USER
from proxies import EXAMPLES, free_port, nginx

pytest_plugins = ("proxies_fixtures", "chromium_fixtures")

EVIL = [
    *("https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "///evil"),
    *("javascript:alert(1)", "data:text/html,x", "http:evil.example", "\t//evil.example", "//"),
    *("https://evil.example\\@127.0.0.1/", "http://127.0.0.1.evil.example/", "/\t/evil.example"),
    "http://evil。example/",
]


def test_a_browser_logs_in(behind, context):
    """A browser that opens a page logs in, and is led back to the page; no other site leads it."""
    site = behind(nginx, free_port())
    site.register()
    own = f"http://127.0.0.1:{site.port}"

    page = context.open(f"{own}/app?a=b")
    assert page.run("document.title") == "Log in"
    for evil in [*EVIL, f"blob:{own}/x"]:
        page.open(f"{own}/login?return_to={quote(evil)}")
        assert page.run("new URL(wayBack(), location).origin") == own, evil
    page.open(f"{own}/app?a=b")
    fields = {"usernameOrEmail": USER["username"], "password": USER["password"]}
    for name, value in fields.items():
        page.run(f"document.querySelector('[name={name}]').value = '{value}'")
    page.run("document.querySelector('form').requestSubmit()")
    page.until("location.pathname === '/app'")

    assert page.run("location.href") == f"{own}/app?a=b"
    assert site.seen[0]["target"] == "/app?a=b"
    assert page.console == []


def test_the_policy_of_the_page():
    """The policy of the login page names its script by its hash, and permits no other."""
    text = (EXAMPLES / "login.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    (policy,) = re.findall(r'Content-Security-Policy"\s+content="([^"]*)"', text)
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'"
    )
