"""Forward authentication with AUTHAPI_LOGIN_URL behind real proxies."""

import re

import pytest
from proxies import BROWSER, EXAMPLES, caddy, free_port, nginx

pytest_plugins = ("proxies_fixtures",)


def nginx_with_page(binary, folder, port, **addresses):
    """Run the example with what docs/features/forward_auth.md adds for the login page."""
    page = (EXAMPLES.parent / "features" / "forward_auth.md").read_text()
    recipe = re.search(r"```nginx\n(.*?)```", page, re.DOTALL)[1]
    lines = [line.strip() for line in recipe.splitlines()]
    added = {
        "auth_request_set $auth_user_id": f"{lines[2]}\nauth_request_set $auth_user_id",
        "if ($http_accept ~ text/html) {": lines[7],
        "return 302 /login;": lines[8],
        "127.0.0.1:3001/verify;": "127.0.0.1:3001/verify?status=401;",
        "        proxy_set_header Authorization $http_authorization;\n": "\n".join(
            line for line in lines if line.startswith("proxy_set_header") and "Length" not in line
        ).replace("proxy_set_header Cookie $http_cookie;\n", ""),
    }
    return nginx(binary, folder, port, **added, **addresses)


def caddy_with_page(binary, folder, port, **addresses):
    """Run the example without its own redirect."""
    text = (EXAMPLES / "Caddyfile").read_text()
    own = re.search(r"\t+# Browsers are redirected.*?copy_response\n\t+\}\n", text, re.DOTALL)[0]
    return caddy(binary, folder, port, **{own: ""}, **addresses)


@pytest.mark.parametrize("configure", [nginx_with_page, caddy_with_page])
def test_the_way_back(behind, configure):
    """A browser goes to the login page, which knows where it came from; a program gets the 401."""
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    site = behind(configure, port, public_url=own, login_url=f"{own}/login")

    for target in ("/app?a=b", "//evil.example/%2F", "/a%0d%0aX:1"):
        answer = site.ask("GET", target, **BROWSER, **{"X-Forwarded-Uri": "//evil.example"})
        back = f"{own}{target}".replace("%", "%25")
        assert answer.status == 302
        assert answer.headers["Location"] == f"{own}/login?return_to={back}"
    program = site.ask("GET", "/app", **{"X-Forwarded-Host": "evil.example"})
    assert (program.status, program.headers["Location"]) == (401, None)
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Fetch-Mode": "websocket"}
    assert site.ask("GET", "/app", **BROWSER, **upgrade).status == 401
    assert site.ask("TRACE", "/app").status in {401, 405}
    assert site.seen == []
    assert site.ask("GET", "/app", Cookie=site.register(), **BROWSER).status == 200
