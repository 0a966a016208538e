"""What a front end is made of in the tests: servers of its pages, and the examples of the docs."""

import json
import re
import shutil
import subprocess
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import USER
from proxies import answering, free_port, installed, nginx_command, proxy_running
from proxies import example as proxy_example

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "clients" / "front-ends.md"
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".html": "text/html; charset=utf-8"}
EMPTY = "<!doctype html><html lang=en><link rel=icon href=data:,><title>Page</title>"


class Pages(BaseHTTPRequestHandler):
    """A server of `files`: what is at each path. Any other path is an empty page."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        body = self.server.files.get(path, EMPTY).encode()
        self.server.cookies.append(self.headers.get("Cookie", ""))
        self.send_response(200)
        self.send_header("Content-Type", TYPES.get(Path(path).suffix, TYPES[".html"]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def pages(**files):
    """Serve pages on 127.0.0.1 by any name; give the server: `server_port`, `files`, `cookies`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        server.files, server.cookies = files, []
        with answering(server):
            yield server


def example(name):
    """Return the example of the page on front ends that begins with a comment of this name."""
    mark = rf"^```\w+\n((?://|#|<!--) {re.escape(name)}\b.*?)^```"
    return re.search(mark, PAGE.read_text(), re.DOTALL | re.MULTILINE)[1]


def one_origin(certificates):
    """Return what configures nginx as docs/examples/nginx.conf does, with our certificate."""

    def nginx(binary, folder, port, **addresses):
        replaced = {
            "/etc/ssl/certs/example.com.pem": f"{certificates}/cert.pem",
            "/etc/ssl/private/example.com.key": f"{certificates}/cert.key",
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "listen 80;": f"listen 127.0.0.1:{free_port()};",
        }
        site = proxy_example("nginx.conf", **replaced, **addresses)
        return nginx_command(binary, folder, site)

    return nginx


@contextmanager
def two_hosts(folder, certificates, port, service, application):
    """Run nginx with the example for `app.` and `auth.`, before servers at these ports."""
    files = f"ssl_certificate {certificates}/cert.pem; ssl_certificate_key {certificates}/cert.key;"
    site = example("app-and-auth.conf")
    for documented, ours in {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl; {files}",
        "127.0.0.1:3001": f"127.0.0.1:{service}",
        "127.0.0.1:8000": f"127.0.0.1:{application}",
        "example.com": "example.test",
    }.items():
        assert documented in site
        site = site.replace(documented, ours)
    command, environ = nginx_command(installed("nginx"), folder, site)
    with proxy_running(command, environ, folder, port):
        yield


@contextmanager
def node_running(folder, *arguments, **environ):
    """Run Node; give the line that it writes first to have started."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node")
    with subprocess.Popen(
        [node, *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process.stdout
        finally:
            process.kill()


def with_client(context, url, service):
    """Open a page, with the client of a service as `auth`."""
    page = context.open(url)
    page.run(f"globalThis.auth = (await import('/authapi.js')).createAuth({{url: '{service}'}}); 0")
    return page


def register(page, user=USER):
    return page.run(f"(await auth.register({json.dumps(user)})).username")


def name_of(page):
    """Return the name of the user whom the service finds when the page asks."""
    return page.run("(await auth.refresh())?.username ?? null")
