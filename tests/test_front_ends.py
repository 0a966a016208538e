"""The recipes for front ends, each in Chromium, with real proxies, servers and the client."""

import json
import logging
from contextlib import ExitStack, closing

import pytest
from conftest import OTHER, USER, running
from front_ends import (
    ROOT,
    example,
    name_of,
    node_running,
    one_origin,
    pages,
    register,
    two_hosts,
    with_client,
)
from proxies import free_port
from tokens_of_requests import RENEWED_AFTER

pytest_plugins = ("chromium_fixtures", "proxies_fixtures")
pytestmark = pytest.mark.sqlite("a page knows nothing of the engine")

CLIENT = (ROOT / "clients" / "js" / "authapi.js").read_text()
VITE = ROOT / ".clients" / "node_modules" / "vite" / "bin" / "vite.js"
NAME = USER["username"]
LOGIN = {"usernameOrEmail": NAME, "password": USER["password"]}


@pytest.fixture(name="site")
def _site():
    """Serve empty pages, and the client."""
    with pages(**{"/authapi.js": CLIENT}) as server:
        yield server


@pytest.fixture(name="local")
def _local(site, make_app):
    """Serve pages of localhost, which may call the service; give the ports of both."""
    origin = f"http://localhost:{site.server_port}"
    with running(make_app(allowed_origins=origin, trusted_proxy="127.0.0.1")) as port:
        yield site.server_port, port


def test_one_origin(behind, context, certificates):
    """Behind nginx, a visitor is sent to the login page, logs in, and is at the application."""
    port = free_port()
    origin = f"https://app.example.test:{port}"
    site = behind(one_origin(certificates), port, public_url=origin)
    page = context.open(f"{origin}/")
    assert page.run("location.pathname") == "/login"
    page.run(
        "const fill = (name, value) => document.querySelector(`[name=${name}]`).value = value;"
        f"await fetch('/auth/register', {{method: 'POST', body: '{json.dumps(USER)}', "
        "headers: {'Content-Type': 'application/json'}});"
        "await fetch('/auth/logout', {method: 'POST'});"
        f"fill('usernameOrEmail', '{NAME}'); fill('password', '{USER['password']}');"
        "document.querySelector('button').click()"
    )

    page.until("location.pathname === '/'")

    assert ("x-auth-username", NAME) in site.named()
    cookie = context.cookies["__Host-jwt"]
    assert (cookie["domain"], cookie["secure"]) == ("app.example.test", True)


@pytest.mark.parametrize("shared", [False, True], ids=["one host", "both hosts"])
def test_two_hosts(shared, tmp_path, make_app, request):
    """`app.` logs in at `auth.`; with a cookie domain the application gets the cookie too."""
    site, context = request.getfixturevalue("site"), request.getfixturevalue("context")
    certificates, port = request.getfixturevalue("certificates"), free_port()
    app, auth = (f"https://{name}.example.test:{port}" for name in ("app", "auth"))
    name = "__Secure-jwt" if shared else "__Host-jwt"
    domain = {"cookie_domain": "example.test", "cookie_name": name} if shared else {}
    settings = {"public_url": auth, "allowed_origins": app, "trusted_proxy": "127.0.0.1"}
    with (
        running(make_app(**settings, **domain)) as service,
        two_hosts(tmp_path, certificates, port, service, site.server_port),
    ):
        page = with_client(context, f"{app}/", auth)
        assert (register(page), name_of(page)) == (NAME, NAME)
        page.reload()

    assert context.cookies[name]["secure"]
    assert (f"{name}=" in site.cookies[-1]) == shared


@pytest.fixture(name="vite")
def _vite(tmp_path, make_app):
    """Run Vite's server with the client and a service worker; give its URL."""
    if not VITE.exists():
        pytest.skip("`make clients` has installed no Vite")
    port = free_port()
    with running(make_app()) as service:
        for name, text in {
            "vite.config.mjs": example("vite.config.mjs").replace("3001", str(service)),
            "authapi.js": CLIENT,
            "worker.js": example("worker.js"),
            "kept.txt": "kept",
            "index.html": "<!doctype html><link rel=icon href=data:,><title>Page</title>",
        }.items():
            (tmp_path / name).write_text(text)
        with node_running(tmp_path, VITE, "--port", str(port), "--strictPort") as output:
            assert any("Local:" in line for line in output)
            yield f"http://localhost:{port}/"


def test_vite(vite, context):
    """A page of Vite's server logs in through its proxy, with a service worker as without."""
    page = with_client(context, vite, "/auth")
    assert (register(page), name_of(page)) == (NAME, NAME)

    page.run(
        "navigator.serviceWorker.register('/worker.js'); await navigator.serviceWorker.ready; 0"
    )
    page = with_client(context, vite, "/auth")
    assert page.until("Boolean(navigator.serviceWorker.controller)")
    assert (name_of(page), page.run("(await fetch('/kept.txt')).status")) == (NAME, 200)
    page.run("await auth.logout(); 0")

    assert name_of(page) is None
    kept = page.run("(await (await caches.open('pages')).keys()).map(({url}) => url)")
    assert f"{vite}kept.txt" in kept
    assert not any("/auth/" in url for url in kept)


def test_localhost(local, context):
    """A page of localhost calls the service on another port of localhost."""
    pages_port, port = local
    page = with_client(context, f"http://localhost:{pages_port}/", f"http://localhost:{port}")

    assert (register(page), name_of(page)) == (NAME, NAME)


def test_localhost_and_127_0_0_1(local, context):
    """To a page of localhost, 127.0.0.1 is another site: the cookie is not stored."""
    pages_port, port = local
    page = with_client(context, f"http://localhost:{pages_port}/", f"http://127.0.0.1:{port}")

    assert (register(page), name_of(page)) == (NAME, None)
    assert "SchemefulSameSiteLax" in page.blocked
    assert not context.cookies


@pytest.fixture(name="rendered")
def _rendered(tmp_path, local):
    """Run the server that renders pages; give its URL."""
    (tmp_path / "server.mjs").write_text(example("server.mjs"))
    url = f"http://127.0.0.1:{local[1]}"
    with node_running(tmp_path, "server.mjs", AUTH_URL=url, PORT="0") as output:
        yield f"http://localhost:{output.readline().strip()}/"


def visitor(context, local, user):
    """Return a page of a visitor who has registered."""
    page = with_client(context, f"http://localhost:{local[0]}/", f"http://localhost:{local[1]}")
    assert register(page, user) == user["username"]
    return page


def test_rendered_on_a_server(rendered, local, context, clock):
    """A rendered page has the visitor's name, and brings the renewed cookie to the browser."""
    assert context.open(rendered).run("document.body.innerText") == "Guest"
    page = visitor(context, local, USER)
    before = context.cookies["jwt"]["value"]
    page.open(rendered)
    assert page.run("document.body.innerText") == NAME
    assert context.cookies["jwt"]["value"] == before

    clock.move(RENEWED_AFTER)
    page.reload()

    assert page.run("document.body.innerText") == NAME
    assert context.cookies["jwt"]["value"] != before


def test_who_renews_from_a_server(rendered, local, context, clock):
    """The list of sessions has the browser, and not the server that asked for it."""
    page = visitor(context, local, USER)
    clock.move(RENEWED_AFTER)
    context.open(rendered)

    (session,) = page.run("await auth.sessions()")

    assert "Chrome" in session["user_agent"]


def test_two_visitors_of_rendered_pages(rendered, local, chromium, context):
    """Pages that are rendered at the same time for two visitors and a guest are each one's own."""
    load = f"globalThis.all = Promise.all(Array.from({{length: 20}}, () => fetch('{rendered}'))); 0"
    name = "(await each.text()).match(/<h1>(.*)<.h1>/)[1]"
    names = f"await Promise.all((await all).map(async (each) => {name}))"
    with closing(chromium.context()) as another, closing(chromium.context()) as third:
        visitors = [visitor(context, local, USER), visitor(another, local, OTHER)]
        visitors.append(third.open(rendered))
        for page in visitors:
            page.open(rendered)
        for page in visitors:
            page.run(load)
        found = [set(page.run(names)) for page in visitors]

    assert found == [{NAME}, {OTHER["username"]}, {"Guest"}]


@pytest.fixture(name="wrong")
def _wrong(site, make_app, context):
    """Open a page of `http://app.…`, with a client of a service that has these settings."""
    with ExitStack() as stack:

        def wrong(host="auth.example.test", **settings):
            origin = f"http://app.example.test:{site.server_port}"
            app = make_app(**{"allowed_origins": origin, **settings})
            url = f"http://{host}:{stack.enter_context(running(app))}"
            page = with_client(context, f"{origin}/", url)
            page.run(f"globalThis.url = '{url}'; 0")
            return page

        yield wrong


def test_an_origin_that_is_not_allowed(wrong, caplog):
    """The console names the policy, and the log the setting."""
    caplog.set_level(logging.INFO)
    page = wrong(allowed_origins="https://www.example.test")

    failure = page.run(f"await auth.login({json.dumps(LOGIN)}).catch((error) => error.error)")

    assert failure == "network_error"
    assert page.says("blocked by CORS policy", "No 'Access-Control-Allow-Origin' header")
    assert "origin='http://app.example.test" in caplog.text
    assert "setting=AUTHAPI_ALLOWED_ORIGINS" in caplog.text


def test_credentials_that_are_not_sent(wrong, context):
    """Without `credentials` a registration succeeds, and the browser keeps no cookie."""
    page = wrong()
    headers = {"Content-Type": "application/json"}
    options = {"method": "POST", "headers": headers, "body": json.dumps(USER)}

    assert page.run(f"(await fetch(url + '/register', {json.dumps(options)})).status") == 201

    assert name_of(page) is None
    assert not context.cookies


def test_a_secure_cookie_over_http(wrong, context):
    """Where the public URL is https, a page that calls by http has its cookie dropped."""
    page = wrong(public_url="https://auth.example.test")

    assert (register(page), name_of(page)) == (NAME, None)
    assert "InvalidPrefix" in page.blocked
    assert not context.cookies


def test_a_public_suffix(wrong, context):
    """A cookie domain below which anybody can have a name has the cookie dropped."""
    page = wrong(host="auth.co.uk", public_url="http://auth.co.uk", cookie_domain="co.uk")

    assert register(page) == NAME
    assert "InvalidDomain" in page.blocked
    assert not context.cookies
