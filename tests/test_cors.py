"""Browser applications on other origins: who may call, and who may read (Fetch Standard, 3.2)."""

import logging

import pytest
from conftest import USER, process, token_of

APP, LOCAL = "https://app.example.com", "http://localhost:5173"
STRANGERS = [
    "https://app.example.com.evil.example",
    "https://evil-app.example.com",
    "https://sub.app.example.com",
    "https://app.example.co",
    "https://app.example.com:8443",
    "https://app.example.com/",
    "https://APP.example.com",
    "HTTPS://app.example.com",
    "http://app.example.com",
    "https://example.com",
    "http://localhost",
    "http://localhost:51730",
    "null",
    "",
    "*",
    f"{APP} {LOCAL}",
    f"{APP}, {APP}",
]


def cors_of(answer):
    return {
        name: value
        for name, value in answer.headers.items()
        if name.startswith("access-control") or name == "vary"
    }


@pytest.fixture(name="cors")
def _cors(make_client):
    return make_client(allowed_origins=f"{APP} {LOCAL}")


READABLE = {
    "vary": "Origin",
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "Authapi-Token, RateLimit, RateLimit-Policy, Retry-After, "
    "X-Request-ID",
}


@pytest.mark.parametrize("origin", [APP, LOCAL])
@pytest.mark.parametrize("site", ["same-site", "cross-site"])
def test_allowed(cors, origin, site):
    """An allowed origin may log in, with credentials, and read answers and failures."""
    headers = {"Origin": origin, "Sec-Fetch-Site": site}

    registered = cors.post("/register", USER, headers=headers)
    read = cors.get_as(token_of(registered), headers=headers)
    refused = cors.simulate_get("/user", headers=headers)
    missing = cors.simulate_get("/nowhere", headers=headers)

    statuses = [answer.status_code for answer in (registered, read, refused, missing)]
    assert statuses == [201, 200, 401, 404]
    for answer in (registered, read, refused, missing):
        assert cors_of(answer) == {**READABLE, "access-control-allow-origin": origin}


@pytest.mark.parametrize("path", ["/login", "/sessions", "/user", "/user/password", "/sessions/1"])
def test_preflight(cors, path):
    """A browser that asks first is told the methods of the route, and what it may send."""
    headers = {
        "Origin": APP,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "content-type",
    }

    answer = cors.simulate_options(path, headers=headers)

    assert (answer.status_code, answer.text) == (200, "")
    assert cors_of(answer) == {
        **READABLE,
        "access-control-allow-origin": APP,
        "access-control-allow-methods": answer.headers["allow"],
        "access-control-allow-headers": "Authapi-Token, Authorization, Content-Type, "
        "X-Requested-With, traceparent, tracestate, baggage, sentry-trace",
        "access-control-max-age": "600",
    }


@pytest.mark.parametrize(
    ("method", "path", "asks"),
    [
        ("OPTIONS", "/user", False),
        ("OPTIONS", "/nowhere", True),
        ("PUT", "/user", False),
        ("PUT", "/user", True),
        ("DELETE", "/login", True),
        ("GET", "/user", True),
    ],
)
def test_no_preflight(cors, method, path, asks):
    """Only a preflight of a route is told what may be sent, though other answers name methods."""
    headers = {"Origin": APP, **({"Access-Control-Request-Method": "PUT"} if asks else {})}

    answer = cors.simulate_request(method, path, headers=headers)

    assert cors_of(answer) == {**READABLE, "access-control-allow-origin": APP}


@pytest.mark.parametrize("origin", STRANGERS)
def test_strangers(cors, origin):
    """Every other origin gets no CORS header at all, and can change nothing."""
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    preflight = {**headers, "Access-Control-Request-Method": "POST"}
    login = {"usernameOrEmail": USER["username"], "password": USER["password"]}

    answers = [
        cors.post("/login", login, headers=headers),
        cors.simulate_get("/user", headers=headers),
        cors.simulate_options("/login", headers=preflight),
    ]

    assert [answer.status_code for answer in answers] == [403, 401, 200]
    for answer in answers:
        assert cors_of(answer) == {"vary": "Origin"}
    assert cors.post("/login", login, headers={"Origin": origin}).status_code == 403


@pytest.mark.parametrize("origin", [APP, "null", "*"])
def test_none_by_default(client, origin):
    """Without the setting no origin is allowed, and none is told of any."""
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}

    for answer in (
        client.simulate_options("/login", headers=headers),
        client.simulate_get("/user", headers=headers),
        client.post("/logout", headers=headers),
    ):
        assert cors_of(answer) == {}
    assert client.post("/logout", headers=headers).status_code == 403


def test_no_origin(cors, token):
    """A client that is no browser is answered as ever, without CORS headers but Vary."""
    answer = cors.get_as(token)

    assert cors_of(answer) == {"vary": "Origin"}


def test_our_own_origin(cors, token):
    """Our own origin needs no place on the list."""
    headers = {"Origin": "http://127.0.0.1:3001", "Sec-Fetch-Site": "same-origin"}

    answer = cors.request_as(token, "POST", "/logout", headers=headers)

    assert answer.status_code == 200
    assert cors_of(answer) == {"vary": "Origin"}


@pytest.mark.parametrize(
    ("allowed", "public", "others"),
    [
        ("http://localhost:5173", "http://127.0.0.1:3001", ["http://localhost:5173"]),
        ("http://localhost:5173", "http://localhost:3001", []),
        (f"{LOCAL} {APP}", "https://auth.example.com", [LOCAL]),
        ("http://app.example.com", "https://auth.example.com", ["http://app.example.com"]),
        ("https://a.vercel.app", "https://b.vercel.app", ["https://a.vercel.app"]),
        ("https://a.example.co.uk", "https://b.example.co.uk", []),
        ("", "http://127.0.0.1:3001", []),
    ],
)
def test_other_sites_are_warned_of(tmp_path, allowed, public, others):
    """A start warns once of allowed origins from which browsers send no cookie, and says why."""
    settings = {"AUTHAPI_ALLOWED_ORIGINS": allowed, "AUTHAPI_PUBLIC_URL": public}
    with process(tmp_path, **settings) as (service, _):
        service.terminate()
        log = service.communicate()[1]

    lines = [line for line in log.splitlines() if "AUTHAPI_ALLOWED_ORIGINS" in line]
    assert len(lines) == bool(others)
    for line, origin in zip(lines, others, strict=True):
        assert f" WARNING authapi.serve AUTHAPI_ALLOWED_ORIGINS has {origin}, which" in line
        assert f"another site than AUTHAPI_PUBLIC_URL {public}" in line


@pytest.mark.parametrize(
    "allowed",
    [
        "HTTPS://App.Example.com:443/ http://LOCALHOST:05173",
        f"{APP},{LOCAL}",
        f"\t{APP} ,\n{LOCAL}\n",
    ],
)
def test_spellings_of_the_setting(make_client, allowed):
    """An allowed origin counts as a browser writes it, however the setting spells it."""
    client = make_client(allowed_origins=allowed)

    for origin in (APP, LOCAL):
        answer = client.post("/logout", headers={"Origin": origin})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin


def refusals(caplog):
    messages = [record.getMessage() for record in caplog.records]
    return [message for message in messages if message.startswith("refused ")]


@pytest.mark.parametrize(
    ("method", "headers", "shown"),
    [
        ("POST", {"Origin": LOCAL}, f"origin='{LOCAL}'"),
        (
            "POST",
            {"Origin": LOCAL, "Sec-Fetch-Site": "cross-site"},
            f"origin='{LOCAL}' site='cross-site'",
        ),
        ("DELETE", {"Sec-Fetch-Site": "same-site"}, "site='same-site'"),
        (
            "OPTIONS",
            {"Origin": LOCAL, "Access-Control-Request-Method": "POST"},
            f"origin='{LOCAL}'",
        ),
        ("POST", {"Origin": "x" * 1_000 + "'\\"}, f"origin='{'x' * 100}'"),
        ("POST", {"Origin": "x\x85'\"user_id=1"}, "origin='x\\x85\\'\"user_id=1'"),
    ],
)
def test_refusals_are_logged(make_client, caplog, method, headers, shown):
    """A refused request leaves one line a minute: the origin, quoted and cut, and the setting."""
    caplog.set_level(logging.INFO)
    client = make_client(allowed_origins=APP)

    for _ in range(3):
        client.simulate_request(method, "/login", headers=headers, remote_addr="::FFFF:192.0.2.7")

    (line,) = refusals(caplog)
    network = "error=cross_site_request network=192.0.2.7"
    assert line == f"refused {network} {shown} setting=AUTHAPI_ALLOWED_ORIGINS"


def test_a_page_over_http(make_client, caplog):
    """A page of our own host that was not opened by https is told of the public URL."""
    caplog.set_level(logging.INFO)
    client = make_client(public_url="https://auth.example.com")
    headers = {"Origin": "http://auth.example.com", "Host": "auth.example.com"}

    assert client.post("/login", headers=headers).status_code == 403

    (line,) = refusals(caplog)
    assert line.endswith(" origin='http://auth.example.com' setting=AUTHAPI_PUBLIC_URL")


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"Origin": APP}),
        ("GET", {"Origin": LOCAL, "Sec-Fetch-Site": "cross-site"}),
        ("OPTIONS", {"Origin": APP, "Access-Control-Request-Method": "POST"}),
        ("OPTIONS", {"Origin": LOCAL}),
        ("OPTIONS", {"Access-Control-Request-Method": "POST"}),
    ],
)
def test_what_passes_is_not_logged(make_client, caplog, method, headers):
    """Requests that pass, and requests from an allowed origin, leave no line."""
    caplog.set_level(logging.INFO)

    make_client(allowed_origins=APP).simulate_request(method, "/user", headers=headers)

    assert not refusals(caplog)
