"""Forward authentication: GET /verify, and real proxies that ask it."""

import http.client
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest
from conftest import DELETED, LASTING, USER, connected, parsed_cookie, running, token_of

from authapi.inline import IN_LOOP

HEADERS = ("X-Auth-User-Id", "X-Auth-Username", "X-Auth-Email")
EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
CLIENT = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # where all of 127/8 is loopback


def identity(result):
    """The user whom an answer of the test client names in its headers, decoded."""
    return tuple(unquote(result.headers[name]) for name in HEADERS)


def test_verified(client, token):
    """A live session is answered 200, with its user in the headers and in the envelope."""
    answer = client.get_as(token, "/verify")

    assert (answer.status_code, answer.json["user"]["username"]) == (200, USER["username"])
    assert [answer.headers[name] for name in HEADERS[:2]] == ["1", USER["username"]]
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("settings", "email"),
    [
        ({}, None),
        ({"verify_email_header": "confirmed"}, None),
        ({"verify_email_header": "always"}, USER["email"]),
    ],
)
def test_unconfirmed_email(make_client, settings, email):
    """An address that nobody has confirmed is sent only where the operator asks for it."""
    client = make_client(**settings)

    answer = client.get_as(token_of(client.register()), "/verify")

    assert (answer.status_code, answer.headers.get("X-Auth-Email")) == (200, email)


@pytest.mark.parametrize(
    ("username", "encoded_username", "email", "encoded_email"),
    [
        (
            "Straße.é日本",
            "Stra%C3%9Fe.%C3%A9%E6%97%A5%E6%9C%AC",
            "a+b%c@example.com",
            "a+b%25c@example.com",
        ),
        ("41", "41", "%41@example.com", "%2541@example.com"),
        ("_.-a", "_.-a", "!#$&'*+/=?^_`{|}~-@example.com", "!#$&'*+/=?^_`{|}~-@example.com"),
    ],
)
def test_encoding(make_client, username, encoded_username, email, encoded_email):
    """What is not visible ASCII is percent-encoded, and the percent sign; decoded it is back."""
    client = make_client(verify_email_header="always")
    token = token_of(client.register(username=username, email=email))

    answer = client.get_as(token, "/verify")

    assert [answer.headers[name] for name in HEADERS] == ["1", encoded_username, encoded_email]
    assert identity(answer) == ("1", username, email)


def test_refused(client, token):
    """Without a session, with a bad token, and after a logout: 401, and nobody is named."""
    client.post("/logout", headers={"Cookie": f"jwt={token}"})

    answers = [
        client.simulate_get("/verify"),
        client.get_as("garbage", "/verify"),
        client.get_as(token, "/verify"),
    ]

    errors = [(answer.status_code, answer.json["error"]) for answer in answers]
    assert errors == [(401, "not_authenticated"), (401, "invalid_token"), (401, "invalid_token")]
    named = [name for answer in answers for name in answer.headers if name.startswith("x-auth")]
    assert named == []


def test_one_statement(client, token):
    """A verification runs one statement, and writes none."""
    statements = []
    client.app.core.database.connection.set_trace_callback(statements.append)

    client.get_as(token, "/verify")

    assert [statement.split()[0] for statement in statements] == ["SELECT"]


def test_nothing_is_renewed(client, token, clock):
    """Where a renewal is due, a verification stays in the loop, sets no cookie, writes nothing."""
    clock.move(3_601)
    before = client.query("SELECT last_seen_at, expires_at FROM sessions")

    answer = client.get_as(token, "/verify", extras={IN_LOOP: True})

    assert (answer.status_code, answer.cookies) == (200, {})
    assert client.query("SELECT last_seen_at, expires_at FROM sessions") == before
    assert client.get_as(token).cookies["jwt"].max_age == 259_200


def test_verified_sessions_end(client, token, clock):
    """A session that is only ever verified ends with its first lifetime."""
    for _ in range(2):
        clock.move(129_599)
        assert client.get_as(token, "/verify").status_code == 200

    clock.move(2)

    assert client.get_as(token, "/verify").status_code == 401


def test_head(client, token):
    """HEAD has the same headers, and no body."""
    cookie = {"Cookie": f"jwt={token}"}

    answer = client.simulate_head("/verify", headers=cookie)

    assert (answer.status_code, answer.content) == (200, b"")
    assert (answer.headers["X-Auth-User-Id"], answer.headers["X-Auth-Username"]) == (
        "1",
        USER["username"],
    )
    assert client.simulate_head("/verify").status_code == 401


def test_bearer(client, token):
    """The token counts in the Authorization header too."""
    answer = client.simulate_get("/verify", headers={"Authorization": f"Bearer {token}"})

    assert (answer.status_code, answer.headers["X-Auth-User-Id"]) == (200, "1")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_methods(client, token, method):
    """Other methods are refused: a proxy asks with GET, whatever the client's method."""
    answer = client.simulate_request(method, "/verify", headers={"Cookie": f"jwt={token}"})

    assert answer.status_code == 405


# Real proxies, with the files of docs/examples


@dataclass
class Answer:
    """What a client of the proxy sees."""

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
def backend_running():
    """Serve the backend; give it, with the list of requests that it has seen."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Backend) as server:
        server.daemon_threads = False
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def example(name, **addresses):
    """The text of an example, with other addresses in it."""
    text = (EXAMPLES / name).read_text()
    for documented, ours in addresses.items():
        assert documented in text
        text = text.replace(documented, ours)
    return text


def nginx(binary, folder, port, **addresses):
    """The command that runs the example on a port, without TLS, and its environment."""
    ports = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port};",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
    }
    site = re.sub(r"(?m)^ *ssl_.*\n", "", example("nginx.conf", **ports, **addresses))
    return nginx_command(binary, folder, site)


def nginx_with_tls(binary, folder, port, plain_port, **addresses):
    """The command that runs the example with a certificate on a port, and its environment."""
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
    """The command that runs the example on a port, and its environment."""
    site = example("Caddyfile", **{"\nexample.com": f"\nhttp://127.0.0.1:{port}"}, **addresses)
    options = "{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}\n"
    (folder / "Caddyfile").write_text(options + site)
    homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(folder))
    command = [binary, "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]
    return command, homes


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

    def __init__(self, port, service, seen):
        self.port = port
        self.service = service  # what ends it
        self.seen = seen

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
            if name.replace("_", "-").replace(".", "-").startswith("x-auth")
        )


def installed(name):
    """The path of a proxy; skips the test where there is none."""
    binary = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if binary is None:
        pytest.skip(f"{name} is not installed")
    return binary


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


OURS = [("x-auth-user-id", "1"), ("x-auth-username", USER["username"])]


def test_proxied(site):
    """Only a request with a session reaches the application, and the proxy says whose it is."""
    refused = [
        site.ask("GET", "/app"),
        site.ask("GET", "/app", Cookie="jwt=garbage"),
        site.ask("POST", "/app", "text"),
        site.ask("OPTIONS", "/app"),
    ]
    assert [answer.status for answer in refused] == [401] * 4
    assert site.seen == []

    answer = site.ask("GET", "/app?a=b", Cookie=site.register())

    assert (answer.status, site.seen[-1]["target"]) == (200, "/app?a=b")
    assert site.named() == OURS


SPOOFS = [
    {"X-Auth-User-Id": "666", "X-Auth-Username": "root", "X-Auth-Email": "root@example.com"},
    {"x-auth-user-id": "666", "x-auth-username": "root", "x-auth-email": "root@example.com"},
    {"X-AUTH-USER-ID": "666", "x-auth-User-id": "667"},
    {"X_Auth_User_Id": "666", "X_AUTH_USERNAME": "root", "x_auth_email": "root@example.com"},
    {"X-Auth_User-Id": "666", "X_Auth-Username": "root", "X-Auth_Email": "root@example.com"},
    {"X.Auth.User.Id": "666", "X-Auth.Username": "root", "X.Auth-Email": "root@example.com"},
    {"X-Auth-User-Id": ""},
    {"Connection": "close, X-Auth-User-Id, x-auth-username"},
    {"Connection": "X-Auth-Email"},
    {"Connection": "X-Forwarded-For"},
]


def test_spoofed_headers(site):
    """What a client says of itself in our headers, under whatever spelling, never gets through."""
    for spoof in SPOOFS:
        assert site.ask("GET", "/app", **spoof).status == 401
    assert site.seen == []

    cookie = site.register()
    for spoof in SPOOFS:
        assert site.ask("GET", "/app", Cookie=cookie, **spoof).status == 200
        assert site.named() == OURS, spoof


def test_emails_where_the_operator_asks(behind, configure):
    """With AUTHAPI_VERIFY_EMAIL_HEADER=always the application gets the address of the session."""
    site = behind(configure, free_port(), verify_email_header="always")
    cookie = site.register()

    for spoof in ({}, *SPOOFS):
        assert site.ask("GET", "/app", Cookie=cookie, **spoof).status == 200
        assert site.named() == [("x-auth-email", USER["email"]), *OURS], spoof


def test_caddy_that_leaves_a_header_alone(behind):
    """A client's own header is gone also where Caddy copies none in its place, as 2.10 does."""

    def without_email(binary, folder, port, **addresses):
        copied = "copy_headers X-Auth-User-Id X-Auth-Username"
        return caddy(binary, folder, port, **{f"{copied} X-Auth-Email": copied}, **addresses)

    without_email.__name__ = "caddy"
    site = behind(without_email, free_port())
    cookie = site.register()

    for spoof in SPOOFS:
        assert site.ask("GET", "/app", Cookie=cookie, **spoof).status == 200
        assert site.named() == OURS, spoof


@pytest.mark.parametrize(
    ("username", "email"),
    [
        ("Straße.é日本", "a+b%41@example.com"),
        ("_x", "{http.request.host}{env.HOME}@example.com"),
        ("-x", "$host$$`id`'%s!#&*/?^|~@example.com"),
    ],
)
def test_names_that_need_care(behind, configure, username, email):
    """Names come through as they are, decoded: no proxy takes them for its own variables."""
    site = behind(configure, free_port(), verify_email_header="always")
    cookie = site.register(username=username, email=email)

    site.ask("GET", "/app", Cookie=cookie)

    found = [unquote(value) for _, value in site.named()]
    assert found == [email, "1", username]


def test_life_of_a_session(site):
    """A browser registers, logs in and out through the proxy, at the application's own host."""
    origin = {"Origin": f"http://127.0.0.1:{site.port}"}
    login = {"usernameOrEmail": USER["email"], "password": USER["password"]}
    assert site.post("/auth/register", USER, **origin).status == 201

    answer = site.post("/auth/login", login, **origin, **{"Sec-Fetch-Site": "same-origin"})

    name, token, attributes = parsed_cookie(answer.headers["Set-Cookie"])
    cookie = f"{name}={token}"
    assert (answer.status, answer.json["user"]["username"]) == (200, USER["username"])
    assert attributes == LASTING
    assert site.ask("GET", "/auth/user", Cookie=cookie).json["user"]["id"] == 1
    verified = site.ask("GET", "/app", Cookie=cookie)
    assert (verified.status, verified.headers["Set-Cookie"]) == (200, None)

    foreign = site.post("/auth/logout", {}, Cookie=cookie, Origin="http://evil.example")
    assert foreign.json["error"] == "cross_site_request"
    assert site.ask("GET", "/app", Cookie=cookie).status == 200

    out = site.post("/auth/logout", {}, Cookie=cookie, **origin)
    assert parsed_cookie(out.headers["Set-Cookie"]) == ("jwt", "", DELETED)
    assert site.ask("GET", "/app", Cookie=cookie).status == 401
    assert len(site.seen) == 2


def test_bearer_through_a_proxy(site):
    """A client without cookies sends the token in the Authorization header."""
    token = site.register().removeprefix("jwt=")

    assert site.ask("GET", "/app", Authorization=f"Bearer {token}").status == 200
    assert site.named() == OURS


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_body(site, method):
    """A body reaches the application whole, also one that the service itself would not take."""
    cookie, body = site.register(), "0123456789abcdef" * 20_000

    for text in (body, "{}", ""):
        answer = site.ask(method, "/app", text, Cookie=cookie, **{"Content-Type": "text/plain"})
        seen = site.seen[-1]
        assert (answer.status, seen["method"], seen["body"]) == (200, method, text)


TRICKS = [
    "/verify",
    "/verify/../x",
    "/auth",
    "/auth/../app",
    "/auth/..%2fapp",
    "/auth%2f..%2fapp",
    "/auth/%2e%2e/app",
    "/auth/%2e%2e%2fapp",
    "/auth/%252e%252e/app",
    "/auth/./../app",
    "/auth/x/../../app",
    "/auth//../app",
    "/auth/..;/app",
    "/auth/..\\app",
    "/auth/..%5capp",
    "/auth/%00/../app",
    "/auth/verify/../../app",
    "/auth/verify",
    "/auth/verify?/../../app",
    "/auth/?/../app",
    "/%61uth/../app",
    "/AUTH/login",
    "/app/../auth/../app",
    "/app/..%2fauth/login/../../app",
    "//",
    "//auth/login",
    "//app",
    "///app",
    "/./app",
    "/app?x=/auth/login",
    "/app%3f/auth/",
    "/app;/auth/login",
    "/app/%0d%0aX-Auth-User-Id:%20666",
    "http://127.0.0.1/app",
    "http://127.0.0.1/auth/../app",
    "http://other.example/app",
]


def test_tricks_without_a_session(site):
    """However a target is written, without a session nothing reaches the application."""
    for target in TRICKS:
        for method in ("GET", "POST", "HEAD"):
            site.ask(method, target)

    assert site.seen == []


def test_tricks_with_a_session(site):
    """However a target is written, what reaches the application names whose request it is."""
    cookie = site.register()

    for target in TRICKS:
        passed = len(site.seen)
        site.ask("GET", target, Cookie=cookie)
        if len(site.seen) > passed:
            assert site.named() == OURS, target

    assert len(site.seen) > len(TRICKS) / 3


def test_address(site):
    """The service has the client's address from the proxy, whatever the client says of it."""
    claims = {
        "X-Forwarded-For": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "X-Real-IP": "203.0.113.9",
    }
    cookie = site.post("/auth/register", USER, **claims).headers["Set-Cookie"].partition(";")[0]

    (session,) = site.ask("GET", "/auth/sessions", Cookie=cookie, **claims).json["sessions"]
    site.ask("GET", "/app", Cookie=cookie, **claims)

    assert session["ip"] == CLIENT
    seen = dict(site.seen[-1]["headers"])
    assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == (CLIENT, "http")
    assert seen["x-forwarded-host"] == seen["host"] == f"127.0.0.1:{site.port}"


def test_fails_closed(site):
    """While the service is away nobody gets through, with a session or without."""
    cookie = site.register()
    assert site.ask("GET", "/app", Cookie=cookie).status == 200

    site.service.close()

    statuses = [site.ask("GET", "/app", Cookie=cookie).status, site.ask("GET", "/app").status]
    assert min(statuses) >= 500
    assert len(site.seen) == 1


BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize("headers", [{}, {"Cookie": "jwt=garbage"}])
def test_a_browser_is_sent_to_the_login_page(site, headers):
    """Without a session a browser goes to the login page; any other client gets the 401."""
    for method in ("GET", "POST", "HEAD"):
        answer = site.ask(method, "/app?a=b", **BROWSER, **headers)
        assert (answer.status, answer.headers["Location"]) == (302, "/login")
    for accept in ("application/json", "*/*"):
        answer = site.ask("GET", "/app", Accept=accept, **headers)
        assert (answer.status, answer.headers["Location"]) == (401, None)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert site.seen == []


def test_login_page(site):
    """Everybody sees the login page, in no frame, and it comes from no application."""
    answer = site.ask("GET", "/login", **BROWSER)

    assert (answer.status, answer.headers.get_content_type()) == (200, "text/html")
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.body == (EXAMPLES / "login.html").read_bytes()
    assert site.ask("GET", "/app", Cookie=site.register(), **BROWSER).status == 200
    assert len(site.seen) == 1


@pytest.fixture(name="ports")
def _ports():
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture(name="secure")
def _secure(behind, ports):
    """The nginx example as it stands, with TLS."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    return behind(nginx_with_tls, *ports, public_url="https://example.com")


def handshake(port, **limits):
    """The version and cipher that a client with such limits agrees on; None where it fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(limits.pop("ciphers", "ALL:@SECLEVEL=0"))
    for name, value in limits.items():
        setattr(context, name, value)
    try:
        with connected(port) as plain, context.wrap_socket(plain) as wrapped:
            return wrapped.version(), wrapped.cipher()[0]
    except ssl.SSLError:
        return None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls(secure):
    """The nginx example speaks TLS 1.2 and 1.3 alone, with forward secrecy and AEAD ciphers."""
    version = ssl.TLSVersion

    assert handshake(secure.port)[0] == "TLSv1.3"
    assert handshake(secure.port, maximum_version=version.TLSv1_2)[0] == "TLSv1.2"
    old = {"minimum_version": version.TLSv1, "maximum_version": version.TLSv1_1}
    assert handshake(secure.port, **old) is None
    for ciphers in ("kRSA", "kDHE", "ECDHE+AES128+SHA1", "ECDHE+AES256+SHA384:!AESGCM"):
        limits = {"ciphers": f"{ciphers}:@SECLEVEL=0", "maximum_version": version.TLSv1_2}
        assert handshake(secure.port, **limits) is None, ciphers


def test_plain_http_is_redirected(secure, ports):
    """The nginx example sends whoever comes without TLS to the same path with it."""
    plain = Site(ports[1], None, secure.seen)

    answer = plain.ask("POST", "/app?a=b", "{}", Host="example.com")

    assert (answer.status, answer.headers["Location"]) == (308, "https://example.com/app?a=b")
    assert secure.seen == []


def test_session_over_tls(secure):
    """Behind the nginx example the session cookie is Secure, and opens the application."""
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", secure.port, timeout=30, context=context)
    with closing(connection):
        connection.request(
            "POST", "/auth/register", json.dumps(USER), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
        answer.read()
        connection.request("GET", "/app", headers={"Cookie": cookie})
        status = connection.getresponse().status

    assert (answer.status, cookie.partition("=")[0], status) == (201, "__Host-jwt", 200)
    assert "Secure" in attributes
    assert secure.named() == OURS
    assert dict(secure.seen[-1]["headers"])["x-forwarded-proto"] == "https"
