"""The fixtures of tests of `mount` and `protect`, which name this module in `pytest_plugins`."""

import falcon
import falcon.asgi
import pytest
from conftest import CHEAP, Client, token_of
from embedding import Danger, Notes, Spy, Under, Welcome

from authapi import Settings, mount, protect


@pytest.fixture(name="make_settings")
def _make_settings(tmp_path):
    def make_settings(**values):
        defaults = {"database_url": f"sqlite:///{tmp_path}/authapi.db", **CHEAP}
        return Settings(**{**defaults, **values})

    return make_settings


@pytest.fixture(name="closing")
def _closing():
    """Close what a test opens."""
    opened = []

    def closing(it):
        opened.append(it)
        return it

    yield closing
    for it in opened:
        it.close()


@pytest.fixture(name="mount_on")
def _mount_on(make_settings, clock, closing):
    def mount_on(app, prefix="/auth", **values):
        return closing(mount(app, make_settings(**values), prefix=prefix, clock=clock))

    return mount_on


@pytest.fixture(name="protecting")
def _protecting(make_settings, clock, closing):
    def protecting(app, *, required=False, **values):
        settings = make_settings(**values)
        return closing(protect(app, settings, required=required, clock=clock))

    return protecting


@pytest.fixture(name="host")
def _host(mount_on):
    """Return a client of a host application with its own pages."""
    app = falcon.App()
    client = Client(app)
    client.auth = mount_on(app)
    client.under = Under(app)
    app.add_route("/notes", Notes())
    app.add_route("/welcome", Welcome())
    app.add_route("/danger", Danger())
    return client


@pytest.fixture(name="guest")
def _guest(host):
    """Return the token of a user who has registered at a host application."""
    return token_of(host.under.register())


@pytest.fixture(name="spy")
def _spy():
    return Spy()
