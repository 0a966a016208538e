"""The fixtures of tests with real proxies, which name this module in `pytest_plugins`."""

from contextlib import ExitStack

import pytest
from conftest import eventually, running
from proxies import (
    EXAMPLES,
    OURS,
    Site,
    backend_running,
    caddy,
    envoy,
    free_port,
    installed,
    nginx,
    proxy_running,
    traefik,
)


@pytest.fixture(name="behind")
def _behind(tmp_path, make_app):
    """Run a proxy before the service and an application; give the site."""
    with ExitStack() as stack:

        def behind(configure, *ports, **settings):
            name = configure.__name__.partition("_")[0]
            binary, folder = installed(name), tmp_path / name
            folder.mkdir()
            server = stack.enter_context(backend_running())
            service = stack.enter_context(ExitStack())
            settings.setdefault("public_url", f"http://127.0.0.1:{ports[0]}")
            settings.setdefault("login_url", f"{settings['public_url']}/login")
            app = make_app(trusted_proxy="127.0.0.1", **settings)
            addresses = {
                "127.0.0.1:3001": f"127.0.0.1:{service.enter_context(running(app))}",
                "127.0.0.1:8000": f"127.0.0.1:{server.server_port}",
                "/var/www/example": str(EXAMPLES),
            }
            command, environ = configure(binary, folder, *ports, **addresses)
            stack.enter_context(proxy_running(command, environ, folder, ports[0]))
            ours = OURS[1:] if name == "traefik" else OURS  # which cannot rename a header
            site = Site(ports[0], service, server.seen, ours)
            if name == "traefik":  # listens before it has read its routes
                eventually(lambda: site.ask("GET", "/login").status != 404)
            return site

        yield behind


@pytest.fixture(
    name="configure",
    params=[nginx, caddy, envoy, traefik],
    ids=lambda configure: configure.__name__,
)
def _configure(request):
    return request.param


@pytest.fixture(name="site")
def _site(behind, configure):
    return behind(configure, free_port())
