"""The examples of docs/examples/verify, each run by its own language and asked by clients."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from conftest import OTHER, Client, eventually, running, token_of
from proxies import Answer, free_port, proxy_running

FOLDER = Path(__file__).parent.parent / "docs" / "examples" / "verify"
COMMANDS = {
    "verify.py": [sys.executable, "verify.py"],
    "verify.mjs": ["node", "verify.mjs"],
    "verify.go": ["./verify"],
    "verify.php": ["php", "-S", "127.0.0.1:{port}", "verify.php"],
    "verify.ru": ["rackup", "--host", "127.0.0.1", "--port", "{port}", "verify.ru"],
    "Verify.java": ["java", "-XX:TieredStopAtLevel=1", "Verify.java"],
}
PROGRAMS = {  # that must be installed, and what else is asked of them
    "verify.py": (sys.executable, "-c", "import fastapi, httpx, uvicorn"),
    "verify.mjs": ("node", "-e", "fetch"),
    "verify.go": ("go",),
    "verify.php": ("php", "-r", "curl_version();"),
    "verify.ru": ("rackup",),
    "Verify.java": ("javac",),
}
KEEPS_NO_CONNECTION = "verify.php"  # PHP ends with each request

pytestmark = pytest.mark.sqlite("an example knows nothing of the engine")


def require(name):
    """Skip the test where the language of an example is not installed."""
    program, *check = PROGRAMS[name]
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    if check and subprocess.run([program, *check], capture_output=True, check=False).returncode:
        pytest.skip(f"{program} cannot run `{' '.join(check)}`")


@contextmanager
def example(name, folder, upstream):
    """Run an example that asks the service at a port; give a function that asks the example."""
    require(name)
    port = free_port()
    (folder / name).write_text((FOLDER / name).read_text().replace("8000", str(port)))
    if name == "verify.go":
        subprocess.run(["go", "build", "-o", "verify", name], cwd=folder, check=True)
    command = [part.format(port=port) for part in COMMANDS[name]]
    nowhere = "http://127.0.0.1:1"
    environ = {
        "AUTHAPI_URL": f"http://127.0.0.1:{upstream}",
        "http_proxy": nowhere,
        "HTTP_PROXY": nowhere,
        "ALL_PROXY": nowhere,
        "all_proxy": nowhere,
    }

    def ask(**headers):
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/", headers=headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    with proxy_running(command, {**os.environ, **environ}, folder, port):
        yield ask


def warm_up(ask):
    """Ask until the example answers within its second; the first question compiles and connects."""
    eventually(lambda: ask().status == 401)


@pytest.mark.parametrize("name", COMMANDS)
def test_user(make_app, tmp_path, name):
    """Each example knows the user of a live session, and of no other request."""
    app = make_app()
    client = Client(app)
    token, other = token_of(client.register()), token_of(client.register(**OTHER))
    cookie, forged = {"Cookie": f"jwt={token}"}, {"X-Auth-User-Id": "666", "X_Auth_User_Id": "666"}
    with ExitStack() as service:
        port = service.enter_context(running(app))
        with example(name, tmp_path, port) as ask:
            warm_up(ask)
            known = [
                ask(**cookie),
                ask(**cookie, **forged),
                ask(Authorization=f"Bearer {token}"),
                ask(Cookie=f"theme=d\xe9j\xe0; jwt={token}; last=1"),
            ]
            assert [(each.status, each.json) for each in known] == [(200, {"user": "1"})] * 4
            assert ask(Cookie=f"jwt={other}").json == {"user": "2"}
            for refused in ({}, forged, {"Cookie": "jwt=x"}, {"Authorization": "Bearer x"}):
                assert ask(**refused).status == 401, refused

            client.request_as(token, "POST", "/logout")
            assert [ask(**cookie).status, ask(**forged, **cookie).status] == [401, 401]
            service.close()
            assert [ask(Cookie=f"jwt={other}").status, ask().status] == [503, 503]


ANSWERS = {
    "user": "200 OK\r\nX-Auth-User-Id: 7\r\nSet-Cookie: jwt=other; Path=/",
    "nobody": "200 OK",
    "empty": "200 OK\r\nX-Auth-User-Id: ",
    "moved": "302 Found\r\nLocation: /elsewhere\r\nX-Auth-User-Id: 7",
    "kept": "307 Temporary Redirect\r\nLocation: /elsewhere\r\nX-Auth-User-Id: 7",
    "created": "201 Created\r\nX-Auth-User-Id: 7",
    "forbidden": "403 Forbidden\r\nX-Auth-User-Id: 7",
    "limited": "429 Too Many Requests\r\nX-Auth-User-Id: 7",
    "broken": "500 Internal Server Error\r\nX-Auth-User-Id: 7",
    "none": "401 Unauthorized\r\nX-Auth-User-Id: 7",
}


WHOLE = {  # no HTTP, and ids outside the head of the final answer
    "garbled": "\x16\x03\x01\r\n\r\n",
    "early": "HTTP/1.1 103 Early Hints\r\nX-Auth-User-Id: 7\r\n\r\n"
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "late": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Auth-User-Id\r\n\r\n"
    "2\r\n{}\r\n0\r\nX-Auth-User-Id: 7\r\n\r\n",
}
USER = "HTTP/1.1 200 OK\r\nX-Auth-User-Id: 7\r\n"
ENDLESS = {  # the beginning of an answer, and what follows again and again
    "silent": ("", ""),
    "stuck": (f"{USER}Content-Length: 9\r\n\r\n", ""),
    "dripping head": (USER, "X-More: 1\r\n"),
    "dripping body": (f"{USER}Transfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
}


class Impostor:
    """A server that answers as the cookie of the question says, and keeps what it was asked."""

    def __init__(self):
        self.connections, self.asked, self.over = 0, [], threading.Event()
        self.endless = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                self.asked.append(line.split()[1].decode())
                fields = dict(each.split(b": ", 1) for each in iter(lines.readline, b"\r\n"))
                fields = {key.lower(): value.strip().decode() for key, value in fields.items()}
                how = fields.get(b"cookie", "none")
                if how in ENDLESS:
                    self.drip(connection, how)
                    return
                answer = WHOLE.get(how)
                answer = answer or f"HTTP/1.1 {ANSWERS[how]}\r\nContent-Length: 2\r\n\r\n{{}}"
                connection.sendall(answer.encode())

    def close(self):
        self.over.set()
        self.listener.close()

    def drip(self, connection, how):
        """Send an answer that never ends, until the client closes the connection."""
        self.endless.append(how)
        start, more = ENDLESS[how]
        with suppress(ConnectionError):
            connection.sendall(start.encode())
            connection.settimeout(0.1)
            while not self.over.is_set():
                with suppress(TimeoutError):
                    if not connection.recv(1):
                        break
                connection.sendall(more.encode())
        self.endless.remove(how)


@pytest.fixture(name="impostor")
def _impostor():
    impostor = Impostor()
    yield impostor
    impostor.close()


@pytest.mark.parametrize("name", COMMANDS)
def test_fails_closed(tmp_path, impostor, name):
    """Each example answers 503 to all but a user or a refusal, and leaves no connection behind."""
    with example(name, tmp_path, impostor.port) as ask, closing(impostor):
        warm_up(ask)
        connections = impostor.connections
        passed = [ask(Cookie="user") for _ in range(3)]
        assert [(each.status, each.json) for each in passed] == [(200, {"user": "7"})] * 3
        assert name == KEEPS_NO_CONNECTION or impostor.connections == connections
        assert ask().status == 401  # with no cookie of the last answer's

        odd = [*ENDLESS, *WHOLE, *sorted({*ANSWERS} - {"user", "none"})]
        with ThreadPoolExecutor() as pool:
            statuses = list(pool.map(lambda how: ask(Cookie=how).status, odd))
        assert dict(zip(odd, statuses, strict=True)) == dict.fromkeys(odd, 503)
        assert {*impostor.asked} == {"/verify"}
        eventually(lambda: ask(Cookie="user").json == {"user": "7"})
        eventually(lambda: not impostor.endless)
