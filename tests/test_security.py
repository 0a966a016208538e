"""Security requirements that no feature's own tests show, and the pages that state them."""

import base64
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from conftest import CHEAPLY, USER, request, start
from mailboxes import _make_mailing  # noqa: F401 - a fixture

from authapi import events, features
from authapi.database.statements import SQL
from authapi.feature import load
from authapi.features import (
    accounts,
    email_change,
    login,
    mail_login,
    mailed_proofs,
    password_change,
    password_reset,
    pending_registrations,
    registration,
)
from authapi.principal import Claims

DOCS = Path(__file__).parent.parent / "docs"

# Runs in a process of its own, since an audit hook stays: it walks through the routes, then prints
# what was opened, asked of the network or started meanwhile.
WALK = """
import sys, json
from falcon import testing
from authapi import Settings, create_app

client = testing.TestClient(create_app(Settings.from_env()))
user = {"username": "anna", "email": "anna@example.com", "password": "crispengari"}
client.simulate_post("/register", json=user)
seen = []
def hook(event, arguments):
    if event == "open" or event.split(".")[0] in {"socket", "subprocess", "urllib", "os"}:
        seen.append([event, str(arguments[0]) if arguments else ""])
sys.addaudithook(hook)

body = {"usernameOrEmail": "anna", "password": "crispengari"}
token = client.simulate_post("/login", json=body).cookies["jwt"].value
for bearer in [token, *sys.argv[1:]]:
    headers = {"Authorization": f"Bearer {bearer}"}
    for path in ("/", "/user", "/sessions", "/user/activity", "/verify", "/../../etc/passwd"):
        client.simulate_get(path, headers=headers)
client.simulate_post("/logout", headers={"Cookie": f"jwt={token}"})
print(json.dumps(seen))
"""


def forged(**header):
    """Return a token with a header of the attacker's choice."""
    parts = [json.dumps(header).encode(), b"{}", b"x" * 32]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def test_nothing_is_called_and_no_path_is_taken_from_a_client(tmp_path):
    """The service opens its own files alone, calls no host and starts no program.

    Neither do tokens that name a URL or a path as their key.
    """
    url = "http://127.0.0.1:9/keys.json"
    tokens = [
        forged(alg="RS256", jku=url, kid="1"),
        forged(alg="HS256", x5u=url),
        forged(alg="HS256", kid="../../../../dev/null"),
        forged(alg="HS256", kid="' OR 1=1 --"),
    ]
    environ = {**CHEAPLY, "AUTHAPI_DATABASE_URL": f"sqlite:///{tmp_path}/authapi.db"}
    run = subprocess.run(
        [sys.executable, "-c", WALK, *tokens],
        env=environ,
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(run.stdout)

    assert seen, "the hook sees what it should"
    ours = (
        str(tmp_path),
        str(SQL),
        sys.prefix,
        sys.base_prefix,
        "/proc/",
        str(DOCS.parent / "authapi"),
    )
    assert [each for each in seen if each[0] == "open" and not each[1].startswith(ours)] == []
    assert [
        each for each in seen if each[0].startswith(("socket.", "subprocess.", "urllib."))
    ] == []
    assert not {event for event, _ in seen} & {"os.system", "os.exec", "os.posix_spawn", "os.fork"}


def test_no_default_accounts(client):
    """A fresh database has no user, so there is no password to know."""
    assert client.query("SELECT count(*) FROM users") == [(0,)]


def test_no_password_expires(client, clock):
    """Ten years later the same password logs in: nothing asks for another one."""
    client.register()
    clock.move(10 * 365 * 86_400)

    assert client.log_in().status_code == 200


@pytest.mark.parametrize("name", ["jwt", "token", "access_token", "Authorization"])
def test_no_token_in_a_url(client, token, name):
    """A token in the query or the path counts for nothing: URLs are logged and sent on."""
    assert client.simulate_get("/user", params={name: token}).status_code == 401
    assert client.simulate_get(f"/user/{token}").status_code == 404


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "/%2f%2fevil.example", "/user/", "/login"]
)
@pytest.mark.parametrize("next_name", ["next", "url", "return_to", "redirect_uri"])
def test_no_redirect(client, path, next_name):
    """No answer sends a browser elsewhere, whatever a path or a parameter says."""
    for method in ("GET", "POST"):
        answer = client.simulate_request(method, path, params={next_name: "https://evil.example"})

        assert not 300 <= answer.status_code < 400
        assert "location" not in answer.headers
        assert "refresh" not in answer.headers


def test_what_a_token_says(client, token):
    """A token holds ids, times and the username: no email, and nothing else about a person."""
    names = {field.encode_name for field in msgspec.structs.fields(Claims)}

    assert names == {"id", "username", "sub", "iat", "exp", "sid", "iss", "aud"}
    assert USER["email"] not in token


def test_log_lines(tmp_path):
    """Each line has a time in UTC, a level, a name and words, most of them `key=value`."""
    service = start(tmp_path, AUTHAPI_LOG_LEVEL="debug")
    address = re.search(r"http://\S+:\d+", service.stdout.readline())[0]
    request(f"{address}/register", USER)
    request(f"{address}/login", {"usernameOrEmail": "a\nb", "password": "wrong"})
    service.terminate()
    _, lines = service.communicate()

    parsed = [
        re.fullmatch(
            r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (DEBUG|INFO|WARNING|ERROR) ([\w.]+) (.+)", line
        )
        for line in lines.splitlines()
    ]
    assert len(parsed) >= 2
    assert all(parsed)
    times = [time.strptime(line[1], "%Y-%m-%dT%H:%M:%SZ") for line in parsed]
    assert times == sorted(times)
    (registered,) = [line[4] for line in parsed if line[4].startswith("registered ")]
    assert dict(word.split("=", 1) for word in registered.split()[1:]).keys() >= {
        "user_id",
        "ip",
        "request_id",
    }


def test_every_event_is_documented():
    """The inventory of the audit log names each event, and none that is not there."""
    load([*features.DEFAULT, *(feature for feature, _ in features.COMMANDS.values())])
    page = (DOCS / "features" / "audit.md").read_text()
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    known = [kind for kind in _subclasses(events.Event) if kind.__module__.startswith("authapi.")]
    caller = events.Caller("", "", "")

    assert named == {kind(1, caller).name for kind in known}


def _subclasses(kind):
    """Yield the subclasses of a class, and theirs."""
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def test_every_column_is_classified(client):
    """The page of security says how each column is protected, and names no other."""
    page = (DOCS / "security.md").read_text()
    section = page.partition("## Data and its protection")[2].partition("\n## ")[0]
    named = {
        f"{table}.{column}"
        for table, columns in re.findall(r"^\| `(\w+)`: (.+?) \|", section, re.MULTILINE)
        for column in re.findall(r"`(\w+)`", columns)
    }
    tables = [
        name for (name,) in client.query("SELECT name FROM sqlite_schema WHERE type = 'table'")
    ]

    assert named == {
        f"{table}.{row[1]}"
        for table in tables
        if not table.startswith("sqlite_")
        for row in client.query(f"PRAGMA table_info({table})")
    }


def test_every_field_has_its_rule():
    """The contract has a rule for each text that a body may hold."""
    bodies = [
        registration.RegistrationBody,
        login.LoginBody,
        login.LogoutBody,
        password_change.PasswordChangeBody,
        accounts.RenameBody,
        accounts.PasswordBody,
        password_reset.ResetRequestBody,
        password_reset.ResetBody,
        mailed_proofs.MailedProofBody,
        email_change.EmailBody,
        mailed_proofs.TokenBody,
        mail_login.MailLoginRequestBody,
        pending_registrations.RegistrationProofBody,
    ]
    fields = {
        field.encode_name
        for body in bodies
        for field in msgspec.structs.fields(body)
        if _bare(field.type) in {str, str | None}
    }
    contract = (DOCS / "contract.md").read_text().partition("## Field rules")[2]
    rows = re.findall(r"^\| (`[^|]+) \|", contract.partition("\n## ")[0], re.MULTILINE)

    assert fields == {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_route_has_its_rule(make_mailing):
    """The table of who may call what names each route, and each is held to what it says."""
    client = make_mailing(email_verification="required", mail_login="on")
    page = (DOCS / "security.md").read_text()
    section = page.partition("## Who may call what")[2].partition("\n## ")[0]
    rules = dict(
        re.findall(
            r"^\| `((?:GET|POST|PUT|PATCH|DELETE) [^`]+)` \| ([a-z ]+)[^|]* \|",
            section,
            re.MULTILINE,
        )
    )
    found = {f"{method} {path}" for path, method in _routes(client.app._router._roots)}

    assert found == set(rules)
    for route, rule in rules.items():
        method, path = route.split()
        answer = client.simulate_request(method, path.replace("{session_id}", "x"))
        assert (answer.status_code == 401) == (rule.strip() != "anyone"), route


def _bare(kind):
    """Return a type without what the API document says of it."""
    return kind.__origin__ if hasattr(kind, "__metadata__") else kind


def _routes(nodes):
    """Yield the path and method of each route, except OPTIONS and what is answered as GET is."""
    for node in nodes:
        yield from _routes(node.children)
        methods = node.method_map or {}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} & set(methods):
            if methods[method].__name__ == f"on_{method.lower()}":
                yield node.uri_template.replace(":path}", "}"), method


@pytest.mark.parametrize(
    ("page", "section", "said"),
    [
        ("contract.md", "Field rules", "AUTHAPI_OWN_NAME_PASSWORDS"),  # V2.1.2
        ("features/limits.md", "Limits", "AUTHAPI_LOGIN_ACCOUNT_LIMIT"),  # V2.1.3, V6.1.1
        ("operations.md", "Behind a proxy", "host name of its own, such as"),  # V3.5.4
        ("operations.md", "Behind a proxy", "publicly trusted"),  # V12.2.2
        ("operations.md", "Behind a proxy", "127.0.0.1 or a private network"),  # V12.3.3
        ("security.md", "Passwords", "the parts of the public URL's host"),  # V6.1.2
        ("security.md", "Who may call what", "The ways to log in are the password"),  # V6.1.3
        ("security.md", "Tokens and sessions", "at most 100"),  # V7.1.1, V7.1.2
        ("security.md", "Keys", "NIST SP 800-57"),  # V11.1.1
        ("security.md", "Cryptography in use", "HMAC-SHA-256"),  # V11.1.2
        ("security.md", "What the service talks to", "opens no connection of its own"),  # V13.1.1
        ("security.md", "Data and its protection", "Clear-Site-Data"),  # V14.3.1
        ("security.md", "Dependencies", "within 7 days"),  # V15.1.1
        ("security.md", "Dependencies", "make sbom"),  # V15.1.2
        ("security.md", "Expensive requests", "hash slots"),  # V15.1.3
        ("operations.md", "The log", "What is logged, where"),  # V16.1.1
        ("operations.md", "The log", "systemd-journal-remote"),  # V16.4.3
    ],
)
def test_what_the_pages_say(page, section, said):
    """Each documented requirement is in the section where a reader looks for it."""
    text = f"\n{(DOCS / page).read_text()}"
    headings = [each for each in re.split(r"(?m)^#{1,3} ", text) if each.startswith(f"{section}\n")]

    assert any(said in " ".join(each.split()) for each in headings)


def test_tls_of_the_examples():
    """The nginx example speaks TLS 1.2 and 1.3 with forward secrecy, and sends plain HTTP there."""
    nginx = (DOCS / "examples" / "nginx.conf").read_text()

    assert re.search(r"ssl_protocols +TLSv1\.2 TLSv1\.3;", nginx)
    (ciphers,) = re.findall(r"ssl_ciphers +(\S+);", nginx)
    assert all(re.match(r"(ECDHE|DHE)-.+(GCM|CHACHA20)", name) for name in ciphers.split(":"))
    assert re.search(r"return 30[18] https://", nginx)
