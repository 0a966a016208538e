"""Requests from other sites change nothing."""

import pytest

OURS = "https://auth.example.com"


@pytest.fixture(name="https_client")
def _https_client(make_client):
    return make_client(public_url=OURS)


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Sec-Fetch-Site": "Same-Origin"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": OURS}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, True),
        ({"Origin": OURS}, True),
        ({"Origin": "https://behind.proxy", "Host": "behind.proxy"}, True),
        ({"Origin": "https://behind.proxy:8443", "Host": "behind.proxy:8443"}, True),
        ({"Origin": "http://auth.example.com", "Host": "auth.example.com"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "https://auth.example.com.evil.example"}, False),
        ({"Origin": "https://evil-auth.example.com"}, False),
        ({"Origin": "https://sub.auth.example.com"}, False),
        ({"Origin": "https://auth.example.com:444"}, False),
        ({"Origin": "https://AUTH.example.com"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": f"{OURS}, https://evil.example"}, False),
        ({"Origin": f"{OURS}, {OURS}"}, False),
        ({"Sec-Fetch-Site": "same-origin, same-origin"}, False),
        ({"Sec-Fetch-Site": "same-origin, cross-site"}, False),
        # a Host may have any case and a default port (RFC 3986, 6.2.2.1 and 6.2.3)
        ({"Origin": "https://behind.proxy", "Host": "behind.proxy:443"}, True),
        ({"Origin": "https://behind.proxy", "Host": "Behind.Proxy"}, True),
        ({"Origin": "https://[2001:db8::1]", "Host": "[2001:DB8:0::1]:443"}, True),
        ({"Origin": "https://behind.proxy", "Host": "behind.proxy:80"}, False),
        ({"Origin": "https://behind.proxy", "Host": "behind.proxy."}, False),
        ({"Origin": "https://behind.proxy", "Host": "behind.proxy, behind.proxy"}, False),
        ({"Origin": "https://behind.proxy", "Host": "x@behind.proxy"}, False),
        ({"Origin": "wss://behind.proxy", "Host": "behind.proxy"}, False),
        ({"Origin": "https://", "Host": ""}, False),
        ({"Origin": "null", "Host": "null"}, False),
    ],
)
@pytest.mark.parametrize("path", ["/login", "/register", "/logout"])
def test_cross_site(https_client, headers, passes, path):
    """Requests of other sites that would change something are refused, before anything happens."""
    answer = https_client.simulate_post(path, headers=headers)

    assert (answer.status_code == 403) is not passes
    if not passes:
        assert answer.json["error"] == "cross_site_request"
        assert not answer.cookies


def test_same_host_over_http(client):
    """If the public URL is http, both schemes of the request's own host are ours."""
    for origin in ("http://localhost:8080", "https://localhost:8080"):
        headers = {"Origin": origin, "Host": "localhost:8080"}
        assert client.simulate_post("/logout", headers=headers).status_code == 200
    assert (
        client.simulate_post("/logout", headers={"Origin": "http://127.0.0.1:3001"}).status_code
        == 200
    )


def test_cross_site_reading(client, token):
    """Requests that change nothing may come from anywhere, so links to us work."""
    answer = client.simulate_get(
        "/user", headers={"Cookie": f"jwt={token}", "Sec-Fetch-Site": "cross-site"}
    )

    assert answer.status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_cross_site_methods(client, method):
    """Every method that could change something is checked, on every path."""
    headers = {"Sec-Fetch-Site": "cross-site"}

    for path in ("/user", "/nowhere"):
        assert client.simulate_request(method, path, headers=headers).status_code == 403
