"""Forward authentication behind real proxies: the login page, and requests of other sites."""

from proxies import BROWSER

pytest_plugins = ("proxies_fixtures",)

UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Fetch-Mode": "websocket"}


def test_the_way_back(site):
    """A browser goes to the login page, which knows where it came from; a program gets the 401."""
    own = f"http://127.0.0.1:{site.port}"

    for target in ("/app?a=b", "/a/%C3%A9%2B?x=%2F+d"):
        answer = site.ask("GET", target, **BROWSER, **{"X-Forwarded-Uri": "//evil.example"})
        back = f"{own}{target}".replace("%", "%25").replace("+", "%2B")
        assert answer.status == 302
        assert answer.headers["Location"] == f"{own}/login?return_to={back}"
        assert answer.headers["Cache-Control"] == "no-store"
    program = site.ask("GET", "/app", **{"X-Forwarded-Host": "evil.example"})
    assert (program.status, program.headers["Location"]) == (401, None)
    assert site.ask("GET", "/app", **BROWSER, **UPGRADE).status in {401, 403}
    assert site.ask("TRACE", "/app").status in {401, 405}
    assert site.seen == []
    assert site.ask("GET", "/app", Cookie=site.register(), **BROWSER).status == 200


def test_targets_stay_on_their_host(site):
    """A browser is led to no other host, however it writes a target and whatever it claims."""
    own = f"http://127.0.0.1:{site.port}"
    claims = {
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Method": "GET",
        "Forwarded": "host=e",
    }

    for target in (
        "//evil.example/%2F",
        "/\\evil.example",
        "/a%0d%0aX:1",
        "/@evil.example",
        "/%00",
    ):
        answer = site.ask("GET", target, **BROWSER, **claims)
        to = answer.headers["Location"] or f"{own}/login"
        assert to.startswith((f"{own}/login?return_to={own}/", f"{own}/")), target
        assert answer.headers["X"] is None
    assert site.seen == []


def test_requests_of_other_sites(site):
    """A request that changes something comes from the application's own pages, or a program."""
    cookie, own = site.register(), f"http://127.0.0.1:{site.port}"
    refused = [
        {"Origin": "http://evil.example"},
        {"Origin": "http://evil.example", "X-Forwarded-Method": "GET"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site"},
    ]
    for headers in refused:
        for method in ("POST", "DELETE"):
            assert site.ask(method, "/app", Cookie=cookie, **headers).status == 403
    assert site.seen == []

    for headers in ({"Origin": own}, {"Origin": own, "Sec-Fetch-Site": "same-origin"}, {}):
        assert site.ask("POST", "/app", "x", Cookie=cookie, **headers).status == 200
    assert site.ask("GET", "/app", Cookie=cookie, Origin="http://evil.example").status == 200
    assert len(site.seen) == 4
