"""Real proxies, run with the files of docs/examples, an application behind them and a client."""

import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import USER, connected

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


CLIENT = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # where all of 127/8 is loopback


@dataclass
class Answer:
    """An answer as a client of the proxy sees it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Backend(BaseHTTPRequestHandler):
    """An application that remembers what it was sent."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        length = int(self.headers.get("Content-Length", "0"))
        self.server.seen.append(
            {
                "method": self.command,
                "target": self.path,
                "headers": [(name.lower(), value) for name, value in self.headers.items()],
                "body": self.rfile.read(length).decode(),
            }
        )
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_GET  # noqa: N815 - http.server's


@contextmanager
def answering(server):
    """Let an HTTP server answer in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def backend_running():
    """Serve the backend; give it, with the list of requests that it has seen."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        server.daemon_threads = False
        server.seen = []
        with answering(server):
            yield server


def example(name, **addresses):
    """Return the text of an example with other addresses."""
    text = (EXAMPLES / name).read_text()
    for documented, ours in addresses.items():
        assert documented in text
        text = text.replace(documented, ours)
    return text


def nginx(binary, folder, port, **addresses):
    """Return the command that runs the example on a port without TLS, and its environment."""
    ports = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
    }
    site = re.sub(r"(?m)^ *ssl_.*\n", "", example("nginx.conf", **ports, **addresses))
    return nginx_command(binary, folder, site)


def nginx_with_tls(binary, folder, port, plain_port, **addresses):
    """Return the command that runs the example with a certificate, and its environment."""
    make = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=example.com -days 1"
    files = ("-keyout", folder / "cert.key", "-out", folder / "cert.pem")
    subprocess.run([*make.split(), *files], check=True, capture_output=True)
    replaced = {
        "/etc/ssl/certs/example.com.pem": f"{folder}/cert.pem",
        "/etc/ssl/private/example.com.key": f"{folder}/cert.key",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "listen 80;": f"listen 127.0.0.1:{plain_port};",
    }
    return nginx_command(binary, folder, example("nginx.conf", **replaced, **addresses))


def nginx_command(binary, folder, site):
    (folder / "site.conf").write_text(site)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}include {folder}/site.conf; }}\n"
    )
    return [binary, "-p", folder, "-e", folder / "errors", "-c", folder / "nginx.conf"], {}


def caddy(binary, folder, port, **addresses):
    """Return the command that runs the example on a port, and its environment."""
    site = example("Caddyfile", **{"\nexample.com": f"\nhttp://127.0.0.1:{port}"}, **addresses)
    options = "{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}\n"
    (folder / "Caddyfile").write_text(options + site)
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    command = [binary, "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]
    return command, homes


def traefik(binary, folder, port, **addresses):
    """Return the command that runs the example on a port, and its environment."""
    addresses.pop("/var/www/example")  # it serves no files
    anyone = {"Host(`example.com`) && ": "", "Host(`example.com`)": "PathPrefix(`/`)"}
    (folder / "site.yml").write_text(example("traefik.yml", **anyone, **addresses))
    entry = "--entryPoints.web."
    options = (f"{entry}address=127.0.0.1:{port}", f"{entry}http.aliasHeadersStrategy=delete")
    return [binary, *options, f"--providers.file.filename={folder / 'site.yml'}"], {}


def envoy(binary, folder, port, **addresses):
    """Return the command that runs the example on a port without TLS, and its environment."""
    ports = {
        "address: 0.0.0.0, port_value: 443": f"address: 127.0.0.1, port_value: {port}",
        "domains: [example.com]": 'domains: ["*"]',
        "    - transport_socket:\n": "    - name: plain\n      transport_socket:\n",
    }
    for documented, ours in addresses.items():
        if documented.endswith((":3001", ":8000")):
            host, _, number = documented.partition(":")
            ports[f"address: {host}, port_value: {number}"] = (
                f"address: {host}, port_value: {ours.partition(':')[2]}"
            )
        else:
            ports[documented] = ours
    text = example("envoy.yaml", **ports)
    text = re.sub(r"(?s)      transport_socket:.*?(?=      filters:)", "", text)
    (folder / "site.yaml").write_text(text)
    return [binary, "-c", folder / "site.yaml", "--disable-hot-restart", "--concurrency", "1"], {}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def proxy_running(command, environ, folder, port):
    """Run a proxy from when it accepts connections; give its process."""
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=output, stderr=output)
        try:
            for _ in range(600):
                if process.poll() is not None:
                    break
                try:
                    with connected(port):
                        break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            assert process.poll() is None, (folder / "output").read_text()
            yield process
        finally:
            process.terminate()
            process.wait()


class Site:
    """A proxy with the service and an application behind it, and a client before it."""

    def __init__(self, port, service, seen, ours):
        self.port = port
        self.service = service  # what ends it
        self.seen = seen
        self.ours = ours  # the headers that name the user who registers

    def ask(self, method, target, body=None, **headers):
        """Send a request from CLIENT, the target as it is."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=30, source_address=(CLIENT, 0)
        )
        with closing(connection):
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def post(self, target, body, **headers):
        headers = {"Content-Type": "application/json", **headers}
        return self.ask("POST", target, json.dumps(body), **headers)

    def register(self, **fields):
        """Register through the proxy; give the cookie."""
        answer = self.post("/auth/register", {**USER, **fields})
        assert answer.status == 201
        return answer.headers["Set-Cookie"].partition(";")[0]

    def named(self):
        """Whatever the application could take for our headers in the last request that it saw."""
        return sorted(
            (name, value)
            for name, value in self.seen[-1]["headers"]
            if name.replace("_", "-").replace(".", "-").startswith(("x-auth", "remote-"))
        )


def installed(name):
    """Return the path of a proxy; skip the test if it is not installed."""
    binary = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if binary is None:
        pytest.skip(f"{name} is not installed")
    return binary


OURS = [("remote-user", "1"), ("x-auth-user-id", "1"), ("x-auth-username", USER["username"])]


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
