"""`protect` around Flask and Django applications, over sockets."""

from wsgiref.validate import validator

import flask
import pytest
from conftest import USER, Client, exchange, request
from embedding import served
from werkzeug.middleware.dispatcher import DispatcherMiddleware

pytest_plugins = ("embedding_fixtures",)


def flask_app():
    app = flask.Flask("pages")

    @app.get("/")
    def whoami():
        user = flask.request.environ.get("authapi.user")
        return {"remote_user": flask.request.remote_user, "id": user and user.id}

    @app.post("/echo")
    def echo():
        return {"json": flask.request.get_json(), "remote_user": flask.request.remote_user}

    @app.get("/stream")
    def stream():
        return flask.Response(str(number) for number in range(3))

    return app


def test_flask_and_our_routes_on_a_socket(protecting, make_app, clock):
    """Flask's pages know who has logged in at our routes, in one process on one database."""
    pages = validator(protecting(validator(flask_app())))
    app = DispatcherMiddleware(pages, {"/auth": make_app()})

    with served(validator(app)) as port:
        url = f"http://127.0.0.1:{port}"
        assert request(f"{url}/")[1] == {"remote_user": None, "id": None}
        status, _, headers = request(f"{url}/auth/register", USER)
        assert status == 201
        sent = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/", Cookie=sent)[1] == {"remote_user": "1", "id": 1}
        echoed = {"json": {"a": [1, 2]}, "remote_user": "1"}
        assert request(f"{url}/echo", {"a": [1, 2]}, Cookie=sent)[1] == echoed
        anonymous = request(f"{url}/echo", {}, Cookie=sent, Origin="https://evil.example")
        assert anonymous[1] == {"json": {}, "remote_user": None}
        streamed = exchange(port, f"GET /stream HTTP/1.0\r\nCookie: {sent}\r\n\r\n".encode())
        assert streamed.endswith(b"\r\n\r\n012")
        clock.move(3_600)
        assert request(f"{url}/", Cookie=sent)[2]["Set-Cookie"].startswith("jwt=ey")
        assert request(f"{url}/auth/nowhere")[1]["message"] == 'Path "/auth/nowhere" not found.'
        assert request(f"{url}/auth/logout", {}, Cookie=sent)[0] == 200
        assert request(f"{url}/", Cookie=sent)[1] == {"remote_user": None, "id": None}


def test_django(protecting, token):
    """Django finds the user in `request.META`."""
    conf = pytest.importorskip("django.conf")
    http = pytest.importorskip("django.http")
    urls = pytest.importorskip("django.urls")
    utils = pytest.importorskip("django.test.utils")
    wsgi = pytest.importorskip("django.core.wsgi")

    def whoami(request):
        user = request.META.get("authapi.user")
        return http.JsonResponse({"key": request.META.get("REMOTE_USER"), "id": user and user.id})

    if not conf.settings.configured:
        conf.settings.configure(SECRET_KEY="of the test")
    with utils.override_settings(
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        ROOT_URLCONF=(urls.path("whoami", whoami),),
    ):
        client = Client(protecting(wsgi.get_wsgi_application()))

        assert client.simulate_get("/whoami").json == {"key": None, "id": None}
        assert client.get_as(token, "/whoami").json == {"key": "1", "id": 1}
        assert client.get_as(token, "/nowhere").status_code == 404
