"""The API document: GET /openapi.json, GET /docs, and docs/openapi.json."""

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess

import documented
import pytest
from conftest import Client, running, token_of

from authapi import Failure, features
from authapi.errors import LengthRequired, MethodNotAllowed
from authapi.feature import load
from authapi.openapi import document, operations
from authapi.operations import operation, operation_of
from authapi.routing import takes_any_method
from tools import api_document

pytest_plugins = ("chromium_fixtures",)


@pytest.fixture(name="everything")
def _everything(make_client):
    """Return a client of an application with all features."""
    return make_client(**api_document.ALL_ON)


@pytest.fixture(name="others")
def _others(make_app):
    """Return applications with other settings, which choose other responders of a route."""
    return [make_app(**{**api_document.ALL_ON, **each}) for each in api_document.OTHERS]


def test_the_file_is_up_to_date(everything, others):
    """docs/openapi.json has what a service with all features serves: run `make document`."""
    made = document(everything.app, others=others)

    assert api_document.text_of(made) == api_document.PLACE.read_text()
    if not others:
        assert everything.simulate_get("/openapi.json").json == documented.document()


def test_settings_that_choose_a_responder(client, make_client):
    """Where settings choose the responder of a route, the file has the answers of all."""

    class Later:
        public = True

        @operation("Register later.", name="registerLater", status=202, raises=(LengthRequired,))
        def on_post(self, req, resp):
            resp.media = {}

    other = make_client()
    other.app.resources["/register"] = Later(), ""
    made = document(client.app, others=[other.app])["paths"]["/register"]["post"]

    assert made["operationId"] == "register"
    assert {"201", "202", "409", "411"} < set(made["responses"])


def test_every_responder_is_in_it(everything, others):
    """The document has each responder of each feature, under a name of its own.

    If this fails for a new feature: `@operation` needs a `name`, and ALL_ON in
    tools/api_document.py must turn the feature on.
    """
    apps = [everything.app, *others]
    found = {(type(each.resource), each.method): each for app in apps for each in operations(app)}
    missing = [
        f"{kind.__name__}.{name}"
        for feature in load(features.DEFAULT)
        for kind in vars(feature.module).values()
        if isinstance(kind, type) and kind.__module__ == feature.module.__name__
        for name in vars(kind)
        if name.startswith("on_") and (kind, name.removeprefix("on_").upper()) not in found
    ]
    assert missing == []
    names = [each.operation.name for each in found.values()]
    assert [name for name in names if not re.fullmatch(r"[a-z][A-Za-z]+", name)] == []
    assert len(set(names)) == len(names)


def test_every_method_is_in_it(everything, others):
    """The document has each method that a route answers, and no other."""
    clients = [everything, *map(Client, others)]
    routed = {
        (template.replace(":path}", "}"), name.removeprefix("on_").upper())
        for client in clients
        for template, (resource, _) in client.app.resources.items()
        for name in dir(resource)
        if operation_of(getattr(resource, name))
    }
    answered = {
        (path, method)
        for client in clients
        for path, (resource, _) in client.app.resources.items()
        if not takes_any_method(resource)
        for method in client.simulate_options(path.format(session_id="x"))
        .headers["allow"]
        .split(", ")
        if method not in {"HEAD", "OPTIONS"}
    } | {("/verify/{path}", "GET")}  # which answers OPTIONS and all others as GET
    paths = documented.document()["paths"]
    in_it = {(path, method.upper()) for path, methods in paths.items() for method in methods}

    assert routed == in_it == answered


def test_every_failure_is_in_it(everything):
    """The document names each failure, but for those that a resource of an application raises."""
    kinds, waiting = set(), [Failure]
    while waiting:
        found = [each for each in waiting.pop().__subclasses__() if "authapi." in each.__module__]
        kinds.update(found)
        waiting += found
    errors = {each.error for each in kinds if hasattr(each, "error")}

    assert errors - documented.names() == {MethodNotAllowed.error, "email_not_verified"}


def test_parameters_are_described(everything):
    """Each parameter and each header says what it is."""
    for path, methods in documented.document()["paths"].items():
        for method, each in methods.items():
            for parameter in each.get("parameters", ()):
                assert parameter["description"], (path, method, parameter)


def test_bodies_are_strict():
    """The schemas of bodies permit no other fields, and those of answers do."""
    schemas = documented.document()["components"]["schemas"]
    strict = {name for name, each in schemas.items() if "additionalProperties" in each}

    assert {name for name in schemas if name.endswith("Body")} == strict
    assert all(schemas[name]["additionalProperties"] is False for name in strict)


def test_no_refined_schemas():
    """Failures have flat schemas with enums: generators of clients lose `allOf` and `const`."""
    text = api_document.PLACE.read_text()

    assert '"allOf"' not in text
    assert '"const"' not in text
    assert '"pattern"' not in text


def test_what_is_off_is_not_in_it(client):
    """The served document has the routes that are on, and the names of no others."""
    served = client.simulate_get("/openapi.json")

    assert {"/login", "/user"} < set(served.json["paths"])
    assert not [path for path in served.json["paths"] if "email" in path or "password/" in path]
    for word in ("mailed", "invalid_link", "wrong_code"):
        assert word not in served.text
        assert word not in client.simulate_get("/docs").text


def test_off(make_client):
    """With the setting off both routes are 404, and nothing points to them."""
    client = make_client(api_document="off")

    for path in ("/openapi.json", "/docs"):
        assert client.simulate_get(path).json["error"] == "not_found"


def test_names_of_cookies(make_client):
    """The document has the cookies' names of this service."""
    served = make_client(public_url="https://auth.example.com").simulate_get("/openapi.json").json

    assert served["components"]["securitySchemes"]["session"]["name"] == "__Host-jwt"
    parameters = served["paths"]["/login"]["post"]["parameters"]
    assert [each["name"] for each in parameters if each["in"] == "cookie"] == ["__Host-device"]


def test_an_application_s_own_routes(client):
    """A route of an application is in the document if its responder is declared."""

    class Notes:
        @operation("List notes.", name="listNotes", answers=None)
        def on_get(self, req, resp):
            resp.media = []

        def on_post(self, req, resp):
            resp.media = []

    client.app.add_route("/notes/{number:int}", Notes())
    served = client.simulate_get("/openapi.json").json["paths"]

    assert list(served["/notes/{number}"]) == ["get"]


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
def test_caching(client, path):
    """A client that has the answer gets 304, and everyone else the whole."""
    first = client.simulate_get(path)
    etag = first.headers["etag"]

    assert first.headers["cache-control"] == "no-cache"
    for sent in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        answer = client.simulate_get(path, headers={"If-None-Match": sent})
        assert (answer.status_code, answer.text, answer.headers["etag"]) == (304, "", etag)
    for sent in ("", '"x"', etag[:-1], "\x80", '"' * 4_000):
        answer = client.simulate_get(path, headers={"If-None-Match": sent})
        assert (answer.status_code, answer.headers["etag"]) == (200, etag)
    head = client.simulate_head(path)
    assert head.headers["content-length"] == first.headers["content-length"]
    assert (head.text, head.headers["etag"]) == ("", etag)
    assert client.simulate_post(path).status_code == 405


def test_the_page(everything):
    """The page has each operation, and each link in it leads to one."""
    page = everything.simulate_get("/docs")
    anchors = set(re.findall(r"id=(\w+)", page.text))

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert {each.operation.name for each in operations(everything.app)} == anchors
    assert set(re.findall(r'href="#([^"]+)"', page.text)) == anchors
    for word in ("<script", "http://", "https://", "style=", "onclick", "src="):
        assert word not in page.text


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_page_s_lines_for_curl(client):
    """By the page's lines, a reader registers, gets a token and asks for the user."""
    page = client.simulate_get("/docs").text
    lines = map(html.unescape, re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL))
    login, *others = lines
    register, user = (
        next(each for each in others if f'"$URL{path}"' in each) for path in ("/register", "/user")
    )

    def run(line, token=""):
        shell = {**os.environ, "URL": f"http://127.0.0.1:{port}", "TOKEN": token}
        return json.loads(subprocess.check_output(["sh", "-c", f"{line} -s"], env=shell))

    with running(client.app) as port:
        registered = run(register)
        assert run(user, run(login)["token"])["user"] == registered["user"]


def test_the_page_s_policy(client):
    """The policy of the page permits its style, by its hash, and nothing else."""
    page = client.simulate_get("/docs")
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    expected = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    policy = page.headers["content-security-policy"].split("; ")
    assert f"style-src 'sha256-{expected}'" in policy
    assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} < set(policy)
    assert "unsafe" not in page.headers["content-security-policy"]


@pytest.mark.sqlite("a page knows nothing of the engine")
def test_the_page_on_a_narrow_screen(everything, context):
    """Chromium finds no fault in the page, and shows all of it at 400 pixels, unfolded too."""
    with running(everything.app) as port:
        page = context.open(f"http://localhost:{port}/docs", width=400)
    page.run("for (const each of document.querySelectorAll('details')) each.open = true; 0")

    assert page.run("document.documentElement.scrollWidth") == 400
    tables = "[...document.querySelectorAll('.wide')].filter((e) => e.scrollWidth > e.clientWidth)"
    assert page.run(f"{tables}.map((each) => each.innerText)") == []
    assert (page.console, page.issues) == ([], [])


@pytest.mark.parametrize(
    ("status", "headers", "change"),
    [
        (418, {}, {}),
        (200, {"x-new": "1"}, {}),
        (200, {"content-type": "text/plain"}, {"error": "x"}),
        (200, {}, {"more": 1}),
        (200, {}, {"code": "200"}),
        (200, {}, {"timestamp": "yesterday"}),
        (401, {}, {"code": "401", "error": "wrong_code"}),
    ],
)
def test_answers_that_are_not_documented(client, status, headers, change):
    """The test client refuses an answer whose status, header, type, field or failure is new."""
    token = token_of(client.register())
    answer = client.get_as(token)
    body = {**answer.json, **change}

    documented.check("/user", "GET", 200, answer.headers, answer.text)
    with pytest.raises(AssertionError, match=r"docs/openapi\.json"):
        documented.check("/user", "GET", status, {**answer.headers, **headers}, json.dumps(body))
