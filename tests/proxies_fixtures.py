"""The fixtures of tests with real proxies, which name this module in `pytest_plugins`."""

from contextlib import ExitStack

import pytest
from conftest import running
from proxies import (
    EXAMPLES,
    Site,
    backend_running,
    caddy,
    free_port,
    installed,
    nginx,
    proxy_running,
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
            app = make_app(trusted_proxy="127.0.0.1", **settings)
            addresses = {
                "127.0.0.1:3001": f"127.0.0.1:{service.enter_context(running(app))}",
                "127.0.0.1:8000": f"127.0.0.1:{server.server_port}",
                "/var/www/example": str(EXAMPLES),
            }
            command, environ = configure(binary, folder, *ports, **addresses)
            stack.enter_context(proxy_running(command, environ, folder, ports[0]))
            return Site(ports[0], service, server.seen)

        yield behind


@pytest.fixture(name="configure", params=[nginx, caddy], ids=lambda configure: configure.__name__)
def _configure(request):
    return request.param


@pytest.fixture(name="site")
def _site(behind, configure):
    return behind(configure, free_port())
