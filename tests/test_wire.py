"""The wire: the envelope, every class of failure, and what is a JSON body."""

from email.utils import parsedate_to_datetime

import falcon
import pytest
from conftest import USER

from authapi import errors, features
from authapi.bodies import BODY_LIMIT
from authapi.budgets import TooManyFailures, TooManyRequests
from authapi.feature import load
from authapi.features.forward_auth import LoginRequired, LoginRequiredUnderNginx
from authapi.features.sign_in import InvalidCredentials, WrongPassword

PROBLEM = {"Accept": "application/problem+json"}


class Raises:
    """Raises what it is given."""

    public = True

    def __init__(self, error):
        self.error = error

    def on_get(self, _req, _resp):
        raise self.error


def answer_to(client, error, **headers):
    """Return the answer where a resource raises an error, which then forgets the application."""
    client.app.add_route("/raises", Raises(error))
    answer = client.simulate_get("/raises", headers=headers)
    error.with_traceback(None)
    return answer


def every_failure(base=errors.Failure):
    load(features.DEFAULT)
    for failure in base.__subclasses__():
        if failure.__module__.startswith("authapi.") and not failure.__name__.startswith("_"):
            yield from [failure] if hasattr(failure, "error") else []
            yield from every_failure(failure)


EXAMPLES = {
    InvalidCredentials: InvalidCredentials("wrong_password"),
    WrongPassword: WrongPassword("wrong_password"),
    LoginRequired: LoginRequired("https://example.com/login"),
    LoginRequiredUnderNginx: LoginRequiredUnderNginx("https://example.com/login"),
    errors.NotFound: errors.NotFound("/x"),
    TooManyFailures: TooManyFailures("login-account", 100, "Ask the operator."),
    TooManyRequests: TooManyRequests("login-account", 10, 3_600, 60),
    errors.ValidationFailed: errors.ValidationFailed({"email": "No."}),
}
FAILURES = [EXAMPLES.get(failure) or failure() for failure in every_failure()]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.error)
def test_every_failure(client, failure):
    """Each class of failure has the envelope: `code` is a string, `error` a stable name."""
    answer = answer_to(client, failure)

    assert failure.status == answer.status_code
    assert answer.headers["content-type"] == "application/json"
    more = {"errors"} if failure.status == 422 else set()
    more |= {"user"} if failure.error == "invalid_credentials" else set()
    assert {"code", "message", "timestamp", "error"} | more == set(answer.json)
    assert str(failure.status) == answer.json["code"]
    assert failure.error == answer.json["error"]
    assert answer.json["message"].endswith((".", "allowed."))
    assert parsedate_to_datetime(answer.json["timestamp"]).tzinfo is not None


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.error)
def test_every_failure_as_a_problem(client, failure):
    """A client that prefers it gets the same failure as RFC 9457 problem details."""
    answer = answer_to(client, failure, **PROBLEM)

    assert failure.status == answer.status_code
    assert answer.headers["content-type"] == "application/problem+json"
    assert {
        "type": "about:blank",
        "title": answer.json["title"],
        "status": failure.status,
        "detail": failure.message,
        "error": failure.error,
        **failure.fields,
    } == answer.json
    assert answer.json["title"]


@pytest.mark.parametrize(
    ("accept", "problem"),
    [
        ("application/problem+json", True),
        ("Application/Problem+JSON", True),
        ("application/problem+json" + ", a/b" * 200, True),
        ("application/problem+json" + ", a/b" * 201, False),  # too long to be looked at
        ("application/problem+json, application/json;q=0.5", True),
        ("application/json;q=0.5, application/problem+json", True),
        ("application/json, application/problem+json", False),
        ("application/json, application/problem+json;q=0.9", False),
        ("*/*", False),
        ("text/html", False),
        ("application/xml", False),
        ("application/*", False),
        ("application/problem+json;q=0", False),
        ("garbage/, application/problem+json", True),
        ("application/problem+json;q=x", False),
        ("", False),
    ],
)
def test_preference(client, accept, problem):
    """Problem details are for those who prefer them; everyone else has the envelope, never XML."""
    answer = client.simulate_get("/user", headers={"Accept": accept})

    expected = "application/problem+json" if problem else "application/json"
    assert (401, expected) == (answer.status_code, answer.headers["content-type"])


def test_error_names_are_unique():
    """A name says which failure it is; a subclass says the same in other words."""
    names = [failure.error for failure in FAILURES if errors.Failure in type(failure).__bases__]

    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/x", "/x"),
        ("/user/", "/user/"),
        ("/user/x.css", "/user/x.css"),
        ("/a b", "/a%20b"),
        ('/"', "/%22"),
        ("/%22", "/%22"),
        ("/é", "/%C3%A9"),
        ("/%0d%0aX: y", "/%0D%0AX:%20y"),
        ("/%00", "/%00"),
        ("/<script>", "/%3Cscript%3E"),
    ],
)
def test_not_found(client, path, shown):
    """Another path is not found, and shown as it was received, safely encoded."""
    answer = client.simulate_get(path)

    assert (404, f'Path "{shown}" not found.', "not_found") == (
        answer.status_code,
        answer.json["message"],
        answer.json["error"],
    )


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/user", "DELETE, GET, HEAD, PATCH, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
        ("TRACE", "/user", "DELETE, GET, HEAD, PATCH, OPTIONS"),
        ("GET", "/login", "POST, OPTIONS"),
        ("HEAD", "/login", "POST, OPTIONS"),
        ("PUT", "/register", "POST, OPTIONS"),
        ("PATCH", "/logout", "POST, OPTIONS"),
    ],
)
def test_method_not_allowed(client, method, path, allow):
    """Another method is answered with those that there are, to everyone."""
    answer = client.simulate_request(method, path)

    assert (405, allow) == (answer.status_code, answer.headers["allow"])
    if method != "HEAD":
        assert answer.json["message"] == "Method not allowed."


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/cbor",
        "application/json-patch+json",
        "application/problem+json",
        "application/json, application/json",
        "application/json, text/plain",
        "text/plain; application/json",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-8",
        "application/json; charset=utf-8, application/json",
        "application/json; charset=latin-1",
        "application/json; charset=windows-1252",
        "application/xml",
    ],
)
@pytest.mark.parametrize("path", ["/register", "/login"])
def test_unsupported_media_type(client, path, content_type):
    """A body that is not declared as JSON, exactly once, is not read."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    answer = client.simulate_post(path, body='{"username": "a"}', headers=headers)

    assert (
        answer.status_code,
        answer.json["message"],
        answer.json["error"],
    ) == (415, "Json data allowed.", "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8"]
    + [
        'application/json;charset="UTF-8"',
        " application/json ;",
        "application/json;;Charset=UTF-8;",
    ],
)
def test_supported_media_type(client, content_type):
    """JSON is JSON in any case, and UTF-8 may be said."""
    answer = client.simulate_post("/login", body="{}", headers={"Content-Type": content_type})

    assert answer.status_code == 422


GOOD = b'"usernameOrEmail":"a","password":"b"'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{" + GOOD + b",}",
        b"{" + GOOD + b"} x",
        b"{" + GOOD + b"}{}",
        b"{'a':1}",
        b"// comment\n{" + GOOD + b"}",
        b'{"password":"a",' + GOOD + b"}",
        b'{"pass\\u0077ord":"a",' + GOOD + b"}",
        b'{"x":{"y":1,"y":2},' + GOOD + b"}",
        b'{"x":NaN,' + GOOD + b"}",
        b'{"x":Infinity,' + GOOD + b"}",
        b'{"x":-Infinity,' + GOOD + b"}",
        b'{"x":1e400,' + GOOD + b"}",
        b'{"x":' + b"1" * 5_000 + b"," + GOOD + b"}",
        b'{"x":"\\ud800",' + GOOD + b"}",
        b'{"\\udfff":1,' + GOOD + b"}",
        b'{"x":"\xed\xa0\x80",' + GOOD + b"}",
        b'{"x":"\xff",' + GOOD + b"}",
        b'{"x":"\n",' + GOOD + b"}",
        b"\xef\xbb\xbf{" + GOOD + b"}",
        ("{" + GOOD.decode() + "}").encode("utf-16"),
        b"[" * 30_000,
        b'{"x":' + b"[" * 100 + b"]" * 100 + b"," + GOOD + b"}",
        b'{"x":' * 101 + b"1" + b"}" * 101,
        b'{"x":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b"," + GOOD + b"}",
    ],
)
def test_malformed_json(client, body):
    """A body that is not one strict JSON object is malformed, and never a 500."""
    answer = client.simulate_post("/login", body=body, headers={"Content-Type": "application/json"})

    assert (
        answer.status_code,
        answer.json["message"],
        answer.json["error"],
    ) == (400, "Malformed JSON.", "malformed_json")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{'a': 1}", "object keys must be strings (byte 1)"),
        (b'{"a": 1,}', "trailing comma in object (byte 8)"),
        (b'{"a": 1', "Input data was truncated"),
        (b'{"a": 1, "a": 1}', "duplicate keys"),
        (b"[1]", "not an object"),
    ],
)
def test_what_is_malformed(client, body, reason):
    """An answer says what is wrong with the JSON, and where."""
    answer = client.simulate_post("/login", body=body, headers={"Content-Type": "application/json"})

    assert answer.json["reason"] == reason
    assert set(answer.json) == {"code", "message", "timestamp", "error", "reason"}


@pytest.mark.parametrize("levels", [1, 99])
def test_nested_json(client, levels):
    """Up to 100 levels are JSON like any other, the body's own object included."""
    body = b'{"x":' + b"[" * levels + b"]" * levels + b"," + GOOD + b"}"

    answer = client.simulate_post("/login", body=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422


def test_body_limit(client):
    """64 KiB are read, one byte more is too large."""
    head, tail = b'{"usernameOrEmail":"', b'","password":"x"}'
    headers = {"Content-Type": "application/json"}
    full = head + b"a" * (BODY_LIMIT - len(head) - len(tail)) + tail

    assert client.simulate_post("/login", body=full, headers=headers).status_code == 401
    answer = client.simulate_post("/login", body=full + b" ", headers=headers)
    assert (answer.status_code, answer.json["error"]) == (413, "payload_too_large")


def test_unknown_fields(client):
    """A field that is not asked for is a fault: nobody sets an id or a role by sending one."""
    body = {**USER, "id": 7, "is_admin": True}

    answer = client.post("/register", body)

    expected = [{"field": name, "message": "Is no field here."} for name in ("id", "is_admin")]
    assert expected == answer.json["errors"]


@pytest.mark.parametrize(
    ("error", "status", "name", "message"),
    [
        (falcon.HTTPForbidden(description="Not yours."), 403, "forbidden", "Not yours."),
        (falcon.HTTPNotFound(), 404, "not_found", "404 Not Found"),
        (falcon.HTTPTooManyRequests(headers={"Retry-After": "7"}), 429, "too_many_requests", None),
        (falcon.HTTPError(418, title="Tea"), 418, "tea", "Tea"),
    ],
)
def test_an_applications_own_errors(client, error, status, name, message):
    """An error that a resource raises the Falcon way comes in our envelope, with its headers."""
    answer = answer_to(client, error)

    assert (status, str(status), name) == (
        answer.status_code,
        answer.json["code"],
        answer.json["error"],
    )
    assert message in {None, answer.json["message"]}
    assert (error.headers or {}).get("Retry-After") == answer.headers.get("retry-after")


def test_overloaded(make_client):
    """If every hash place is taken, the answer is 503 at once, and costs no hash."""
    client = make_client(hash_slots=1, threads=2)
    client.register()
    place = client.app.admission.admit("192.0.2.1")

    answers = [
        client.log_in(),
        client.log_in("nobody"),
        client.register(username="other", email="o@b.c"),
    ]

    for answer in answers:
        assert (
            answer.status_code,
            answer.json["error"],
            answer.headers["retry-after"],
        ) == (503, "overloaded", "1")
    place.release()
    assert client.log_in().status_code == 200
