"""Ping: whether a running service is ready, for the health check of a container."""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from conftest import running, unmeasured

from authapi.features.ping import url_of


def pinged(*arguments, **environ):
    """Run `authapi ping`; return the exit status, the output and the errors."""
    found = subprocess.run(
        [sys.executable, "-m", "authapi", "ping", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, found.stdout, found.stderr


@contextmanager
def answering(*pieces):
    """Answer one connection with these bytes; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                for piece in pieces:
                    connection.sendall(piece)
                if pieces:
                    connection.recv(4_096)

        thread = threading.Thread(target=answer)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_a_service_that_is_ready(make_app):
    """A service on this machine is found by its settings, or by a URL; the exit status is 0."""
    with running(make_app()) as port:
        url = f"http://127.0.0.1:{port}"
        assert pinged(AUTHAPI_PORT=str(port)) == (0, f"{url} is ready.\n", "")
        assert pinged(url + "/", AUTHAPI_PORT="0")[0] == 0
        status, output, _ = pinged("--json", url)

    assert (status, json.loads(output)) == (0, {"status": "ok", "url": url})


def test_a_service_that_is_not_ready(make_app):
    """The reason is in the sentence, and the exit status is 1."""
    app = make_app()
    app.core.readiness.require(lambda: "draining")
    with running(app) as port:
        status, output, errors = pinged(AUTHAPI_PORT=str(port), AUTHAPI_HOST="0.0.0.0")

    assert (status, output) == (1, "")
    url = f"http://127.0.0.1:{port}"
    assert errors == f"authapi: {url} is not ready: /readyz answers 503 (draining).\n"


def test_no_service():
    """Where nothing listens, the exit status is 1, also as JSON."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    status, output, errors = pinged("--json", AUTHAPI_PORT=str(port))

    assert (status, output) == (1, "")
    assert json.loads(errors)["error"] == "no_answer"


@pytest.mark.parametrize("pieces", [[], [b"SSH-2.0-x\r\n"], [b"HTTP/1.1 404 Not Found\r\n\r\n"]])
def test_another_service(pieces):
    """What answers otherwise is not ready, whatever it sends."""
    with answering(*pieces) as port:
        assert pinged(f"http://127.0.0.1:{port}")[0] == 1


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:3001",
        "ftp://x",
        "http://a b",
        "http://u@h",
        "http://[::1",
        "http://h:123456",
        "http://h:65536",
    ],
)
def test_a_bad_url(url):
    """What is no URL is refused in one sentence."""
    status, _, errors = pinged(url)

    assert status == 1
    assert "is no URL such as http://127.0.0.1:3001." in errors


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.0.0.1:3001"),
        ({"HOST": "0.0.0.0", "PORT": "80"}, "http://127.0.0.1:80"),
        ({"HOST": "::"}, "http://[::1]:3001"),
        ({"HOST": "::1", "PORT": "8080"}, "http://[::1]:8080"),
        ({"HOST": "auth.internal"}, "http://auth.internal:3001"),
        ({"HOST": "", "PORT": ""}, "http://127.0.0.1:3001"),
        ({"PORT": "tcp://10.0.0.1:80"}, "http://127.0.0.1:3001"),
    ],
)
def test_where_it_listens(environ, url):
    """The settings say where, and an address for all becomes the loopback address."""
    assert url_of({f"AUTHAPI_{name}": text for name, text in environ.items()}) == url


def test_the_settings_file(tmp_path):
    """The settings file says where, unless a variable does."""
    file = tmp_path / "authapi.toml"
    file.write_text('host = "::"\nport = 8080\n')
    environ = {"AUTHAPI_CONFIG": str(file)}

    assert url_of(environ) == "http://[::1]:8080"
    assert url_of({**environ, "AUTHAPI_PORT": "1"}) == "http://[::1]:1"
    status, _, errors = pinged(AUTHAPI_CONFIG=str(tmp_path / "missing"))
    assert (status, "cannot be read" in errors) == (1, True)


def test_any_port():
    """Where the service may have any port, the URL must be given."""
    assert "name the URL" in pinged(AUTHAPI_PORT="0")[2]


def test_ipv6(make_app):
    """A service on an IPv6 address answers too."""
    with running(make_app(), host="::1") as port:
        assert pinged(AUTHAPI_HOST="::", AUTHAPI_PORT=str(port))[0] == 0


def test_what_it_loads():
    """It loads no library of the service, because it runs every few seconds."""
    program = (
        "import sys; from authapi.commands.cli import main; main(['ping', 'http://127.0.0.1:9']); "
        "print([name for name in sys.modules if name in {'falcon', 'msgspec', 'sqlite3', 'ssl'}"
        " or name.startswith(('http.', 'authapi.settings'))])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=unmeasured(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout == "[]\n"
