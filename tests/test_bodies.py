"""Bodies: whether a request has one, however its server passes it on, and what is said of it."""

import io
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest
from conftest import CHEAP, USER, connected, running, token_of

from authapi.bodies import BODY_LIMIT
from authapi.principal import FRESH_FOR

JSON = {"Content-Type": "application/json"}
LOGIN = b'{"usernameOrEmail":"crispengari","password":"crispengari"}'
EVERYWHERE = b'{"everywhere":true}'
WRONG = b'{"password":"not this one"}'


def passed_on(client, method, path, body, *, token="", **environ):
    """Send a chunked body as a server does that passes it on without a length."""
    extras = {
        "wsgi.input": body if isinstance(body, io.IOBase) else io.BytesIO(body),
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
        **environ,
    }
    headers = {**JSON, "Cookie": f"jwt={token}"} if token else JSON
    return client.simulate_request(method, path, headers=headers, extras=extras)


class Pieces(io.RawIOBase):
    """An input that gives one byte at a time, and counts them."""

    given = 0

    def __init__(self, body):
        self.body = body

    def read(self, _size=-1):
        self.given += 1
        return self.body[self.given - 1 : self.given]


class Exact(io.RawIOBase):
    """An input of so many bytes that would block whoever asks for more than are left."""

    def __init__(self, body):
        self.left = body

    def read(self, size=-1):
        assert 0 <= size <= len(self.left)
        piece, self.left = self.left[: min(size, 7)], self.left[min(size, 7) :]
        return piece


class Broken(io.RawIOBase):
    """An input that fails as servers' inputs do for a malformed chunk."""

    def __init__(self, error):
        self.error = error

    def read(self, _size=-1):
        raise self.error


def test_login(client):
    """A login works whose body has no declared length."""
    client.register()

    assert passed_on(client, "POST", "/login", LOGIN).status_code == 200


def test_length_beside_chunks(client):
    """If the input ends with the body, a length that the server also gives is not believed."""
    client.register()

    assert passed_on(client, "POST", "/login", LOGIN, CONTENT_LENGTH="2").status_code == 200


def test_input_in_pieces(client):
    """An input may give a body in pieces of any size."""
    client.register()

    assert passed_on(client, "POST", "/login", Pieces(LOGIN)).status_code == 200


def test_no_more_than_the_length(client):
    """If the length is declared, no byte beyond it is read."""
    client.register()
    extras = {"wsgi.input": Exact(LOGIN), "CONTENT_LENGTH": str(len(LOGIN))}

    assert client.simulate_post("/login", headers=JSON, extras=extras).status_code == 200


@pytest.mark.parametrize("coding", [{}, {"HTTP_TRANSFER_ENCODING": ""}])
def test_wrong_password_deletes_nobody(client, token, coding):
    """A wrong password counts in a body without a declared length, in a fresh session too."""
    answer = passed_on(client, "DELETE", "/user", WRONG, token=token, **coding)

    assert (answer.status_code, answer.json["error"]) == (403, "wrong_password")
    assert client.get_as(token).status_code == 200


def test_chunked_body_that_is_empty(client, token):
    """A chunked body that is empty is not taken for none: it may have been cut off."""
    answer = passed_on(client, "DELETE", "/user", b"", token=token)

    assert (answer.status_code, answer.json["error"]) == (400, "malformed_json")
    assert client.get_as(token).status_code == 200


def test_logout_everywhere(client, token):
    """`everywhere` counts in a body without a declared length."""
    other = token_of(client.log_in())

    assert (
        passed_on(client, "POST", "/logout", b'{"everywhere":true}', token=token).status_code == 200
    )

    assert [client.get_as(each).status_code for each in (token, other)] == [401, 401]


def test_no_body(client, token, clock):
    """An input that ends at once is no body: a fresh session is enough to delete the user."""
    extras = {"wsgi.input_terminated": True}
    clock.move(FRESH_FOR)
    refused = client.request_as(token, "DELETE", "/user", extras=extras)
    token = token_of(client.log_in())
    deleted = client.request_as(token, "DELETE", "/user", extras=extras)

    assert (refused.status_code, refused.json["error"]) == (403, "fresh_login_required")
    assert deleted.status_code == 200


def test_no_declared_length(client, token):
    """A body counts that has neither a length nor a coding, as HTTP/2 allows."""
    extras = {"wsgi.input": io.BytesIO(WRONG), "wsgi.input_terminated": True}
    headers = {**JSON, "Cookie": f"jwt={token}"}

    answer = client.simulate_delete("/user", headers=headers, extras=extras)

    assert (answer.status_code, answer.json["error"]) == (403, "wrong_password")


def test_limit(client):
    """64 KiB are read from an input without a length, and no more than a byte after them."""
    stream = Pieces(b" " * (BODY_LIMIT + 9))

    answer = passed_on(client, "POST", "/login", stream)

    assert (answer.status_code, answer.json["error"]) == (413, "payload_too_large")
    assert stream.given == BODY_LIMIT + 1


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/login"), ("DELETE", "/user"), ("POST", "/logout")]
)
def test_length_required(client, token, method, path):
    """A body whose end the server cannot tell is refused with 411, and changes nothing."""
    extras = {"wsgi.input": io.BytesIO(WRONG), "HTTP_TRANSFER_ENCODING": "chunked"}
    headers = {**JSON, "Cookie": f"jwt={token}"}

    answer = client.simulate_request(method, path, headers=headers, extras=extras)

    assert (answer.status_code, answer.json["error"]) == (411, "length_required")
    assert client.get_as(token).status_code == 200


@pytest.mark.parametrize("error", [OSError("reset"), ValueError("chunk size")])
def test_broken_input(client, token, error, caplog):
    """An input that cannot be read is a bad request, and no fault of the service."""
    answer = passed_on(client, "DELETE", "/user", Broken(error), token=token)

    assert (answer.status_code, answer.json["error"]) == (400, "bad_request")
    assert not caplog.records
    assert client.get_as(token).status_code == 200


@pytest.mark.parametrize("length", ["28", "99"])
def test_cut_off(client, token, length):
    """A body that ends before its declared length is refused, and never taken for a shorter one."""
    extras = {"wsgi.input": io.BytesIO(WRONG), "CONTENT_LENGTH": length}
    headers = {**JSON, "Cookie": f"jwt={token}"}

    answer = client.simulate_request("DELETE", "/user", headers=headers, extras=extras)

    assert (answer.status_code, answer.json["error"]) == (400, "bad_request")


@pytest.mark.parametrize("kind", ["text/plain", "application/cbor"])
def test_body_of_another_type(client, token, kind):
    """A logout does not look at a body that is not declared as JSON, whatever its length."""
    headers = {"Cookie": f"jwt={token}", "Content-Type": kind}
    extras = {"wsgi.input": io.BytesIO(b"x"), "HTTP_TRANSFER_ENCODING": "chunked"}

    assert client.simulate_post("/logout", headers=headers, extras=extras).status_code == 200


def test_space_is_http_space(client):
    """Only space and tab around a media type are no part of it (RFC 9110, 5.6.3)."""
    answers = [
        client.simulate_post(
            "/login", body=LOGIN, extras={"CONTENT_TYPE": f"{space}application/json"}
        )
        for space in ("\xa0", "\t")
    ]

    assert [answer.status_code for answer in answers] == [415, 401]


def test_faults_named(client):
    """An answer names 20 faults, those of known fields first, and says how many more there are."""
    unknown = {f"field{number}": number for number in range(100)}

    answer = client.post("/login", {**unknown, "password": 1})

    errors = [
        {"field": "usernameOrEmail", "message": "Is required."},
        {"field": "password", "message": "Must be text."},
        *({"field": f"field{number}", "message": "Is no field here."} for number in range(18)),
    ]
    assert (422, errors, 82) == (
        answer.status_code,
        answer.json["errors"],
        answer.json["errors_omitted"],
    )


def test_all_faults_named(client):
    """Up to 20 faults are all of them, and nothing is said of more."""
    answer = client.post("/login", {f"field{number}": number for number in range(18)})

    assert len(answer.json["errors"]) == 20
    assert "errors_omitted" not in answer.json


def test_long_names_are_cut(client):
    """An answer shows the first 80 characters of a field's name at most."""
    answer = client.post("/login", {"a" * 81: 1, "b" * 80: 1})

    names = [error["field"] for error in answer.json["errors"]]
    assert names == ["usernameOrEmail", "password", "a" * 79 + "…", "b" * 80]


@contextmanager
def under_gunicorn(folder):
    """Run the service under gunicorn; give the port."""
    settings = {**CHEAP, "database_url": f"sqlite:///{folder}/authapi.db"}
    code = f"from authapi import Settings, create_app\napp = create_app(Settings(**{settings!r}))\n"
    (folder / "wsgi.py").write_text(code)
    gunicorn = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind=127.0.0.1:0", "--threads=4", "wsgi:app"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        listening = next(line for line in gunicorn.stderr if "Listening at" in line)
        yield int(re.search(r"127\.0\.0\.1:(\d+)", listening)[1])
    finally:
        gunicorn.terminate()
        gunicorn.communicate()


@pytest.fixture(name="port", params=["authapi", "gunicorn"])
def _port(request, tmp_path, make_app):
    """The port of the service, under its own server and under gunicorn."""
    if request.param == "gunicorn":
        pytest.importorskip("gunicorn")
        service = under_gunicorn(tmp_path)
    else:
        service = running(make_app())
    with service as port:
        yield port


def chunked(port, method, path, body, token=""):
    """Send a body in two chunks; return the status line and headers, and the body."""
    cut = len(body) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:cut], body[cut:]))
    request = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\nCookie: jwt={token}\r\n"
        "\r\n"
    )
    with connected(port) as connection:
        connection.sendall(request.encode() + chunks + b"0\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    return received.decode().split("\r\n\r\n", 1)


def token_in(head):
    return re.search(r"(?i)set-cookie: jwt=([^;]+)", head)[1]


def test_chunked_over_a_socket(port):
    """A chunked body counts on every route that takes one, whatever the server."""
    registered, _ = chunked(port, "POST", "/register", str(USER).replace("'", '"').encode())
    head, _ = chunked(port, "POST", "/login", LOGIN)
    refused, body = chunked(port, "DELETE", "/user", WRONG, token_in(head))
    ended, _ = chunked(port, "POST", "/logout", EVERYWHERE, token_in(head))
    gone, _ = chunked(port, "DELETE", "/user", WRONG, token_in(registered))

    statuses = [each.split()[1] for each in (registered, head, refused, ended, gone)]
    assert statuses == ["201", "200", "403", "200", "401"]
    assert '"wrong_password"' in body
