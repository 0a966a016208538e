"""Devices: browsers that their user has logged in with are known again."""

import base64
import json

import pytest
from conftest import OTHER, USER, attributes_of, cookie_of, token_of

from authapi.features.devices import DeviceClaims, Devices
from authapi.keys import load_keys
from authapi.tokens import KeyRing

WRONG = "wrong password"
YEAR = 365 * 86_400


def log_in(client, device, name=USER["username"], password=USER["password"]):
    """Log in from a browser that sends a device cookie."""
    return client.log_in(name, password, headers={"Cookie": f"device={device}"})


def use_up(client, name=USER["username"], cookie=""):
    """Use up the budget of a name or of a browser, as somebody else."""
    headers = {"Cookie": f"device={cookie}"}
    elsewhere = {"headers": headers, "remote_addr": "198.51.100.7"}
    while client.log_in(name, WRONG, **elsewhere).status_code == 401:
        pass


@pytest.fixture(name="device")
def _device(client):
    return cookie_of(client.register(), "device")


def test_cookie(client, device):
    """A registration and a login set it, for a year; nothing else does."""
    for answer in (client.log_in(), client.register(**OTHER)):
        assert attributes_of(answer, "device") == (YEAR, "/", None, True, "Lax", False)
    assert "device" not in client.log_in(password=WRONG).cookies
    token = token_of(client.log_in())
    assert "device" not in client.get_as(token).cookies
    assert "device" not in client.post("/logout", headers={"Cookie": f"jwt={token}"}).cookies


def test_owner_gets_in(client, device):
    """Using up a name's budget keeps out only browsers that are not known."""
    for name in (USER["username"], USER["email"]):
        use_up(client, name)
        assert client.log_in(name).status_code == 429
        assert log_in(client, device, name).status_code == 200
        assert client.log_in(name).status_code == 200


def test_budget_of_its_own(client, device, clock):
    """A known browser has ten failures, whatever others do, and others whatever it does."""
    statuses = [log_in(client, device, password=WRONG).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    assert log_in(client, device, USER["email"]).headers["ratelimit"] == '"login-device";r=0;t=360'

    assert client.log_in(password=WRONG).status_code == 401
    clock.move(360)
    assert log_in(client, device).status_code == 200


def test_success_clears_its_budget(client, device):
    """A login from a known browser gives it a whole budget."""
    for _ in range(3):
        for _ in range(9):
            assert log_in(client, device, password=WRONG).status_code == 401
        answer = log_in(client, device)
        assert answer.status_code == 200
        device = cookie_of(answer, "device")


def test_two_browsers(client, device):
    """Each browser of a user has a budget of its own."""
    second = cookie_of(client.log_in(), "device")
    for each in (device, second):
        assert [log_in(client, each, password=WRONG).status_code for _ in range(11)] == [
            *[401] * 10,
            429,
        ]


def test_browser_of_two_users(client, device):
    """Two users of one browser have a device id and a budget each."""
    other = client.post("/register", OTHER, headers={"Cookie": f"device={device}"})
    claims = [
        client.app.core.of(Devices).tokens.read(each, 0)
        for each in (device, cookie_of(other, "device"))
    ]

    assert claims[0].jti != claims[1].jti
    assert claims[1].sub == "2"


def test_browser_that_fails_too_often_is_new(client, device, clock):
    """After 100 failures in a row it has but the name's budget, and an event tells of it."""
    for _ in range(100):
        assert log_in(client, device, password=WRONG).status_code == 401
        clock.move(360)

    assert client.events()[-2:] == ["login_failed", "locked_out"]

    statuses = [log_in(client, device, password=WRONG).status_code for _ in range(11)]

    assert statuses == [401] * 10 + [429]


def test_browser_that_failed_more_often_than_is_allowed_now(make_client):
    """A known browser over a lockout that was lowered counts as new, with the name's budget."""
    client = make_client(login_lockout=9)
    device = cookie_of(client.register(), "device")
    for _ in range(7):
        assert log_in(client, device, password=WRONG).status_code == 401

    client = make_client(login_lockout=5)
    statuses = [log_in(client, device, password=WRONG).status_code for _ in range(6)]
    assert statuses == [401] * 5 + [429]


def test_it_is_for_its_user_alone(client, device):
    """Another user's browser is a new one here."""
    others = cookie_of(client.register(**OTHER), "device")
    use_up(client)

    assert log_in(client, others).status_code == 429
    assert log_in(client, others, "other", OTHER["password"]).status_code == 200


def test_it_opens_nothing(client, device):
    """A device token opens no session, as cookie or bearer; a session token names no device."""
    token = token_of(client.log_in())
    assert client.get_as(device).json["error"] == "invalid_token"
    bearer = {"Authorization": f"Bearer {device}"}
    assert client.simulate_get("/user", headers=bearer).status_code == 401
    use_up(client)
    assert log_in(client, token).status_code == 429


def test_it_outlives_logout(client, device):
    """The browser stays known: it tells only that the password was known here once."""
    token = token_of(client.log_in())
    client.request_as(token, "POST", "/logout")
    use_up(client)

    assert log_in(client, device).status_code == 200


def test_it_ends_with_the_password(client, device):
    """A password change makes all browsers new except the one where it was made."""
    token = token_of(client.log_in())
    body = {"current_password": USER["password"], "new_password": "another one 42"}
    changed = client.request_as(token, "PUT", "/user/password", body)
    use_up(client)

    assert log_in(client, device, password="another one 42").status_code == 429
    here = cookie_of(changed, "device")
    assert log_in(client, here, password="another one 42").status_code == 200


def test_reauthentication_makes_it_known(client, token):
    """A reauthentication makes the browser known."""
    body = {"password": USER["password"]}
    answer = client.request_as(token, "POST", "/sessions/reauthenticate", body)
    use_up(client)

    assert log_in(client, cookie_of(answer, "device")).status_code == 200


def test_rename(client, device):
    """A known browser stays known after a rename."""
    token = token_of(client.log_in())
    client.request_as(token, "PATCH", "/user", {"username": "pengari"})
    use_up(client, "pengari")

    assert log_in(client, device, "pengari").status_code == 200


def claims(token):
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def test_each_login_makes_another(client, device, clock):
    """A login moves the end of the browser's year, and gives it an id that no copy of it has."""
    clock.move(YEAR - 1)
    later = cookie_of(log_in(client, device), "device")

    assert claims(later)["exp"] == int(clock.now) + YEAR
    assert claims(later)["jti"] != claims(device)["jti"]
    assert len(claims(later)["jti"]) == 22  # 128 bits in base64url


def test_a_copy_has_a_budget_apart(client, device):
    """A copy of the cookie has a budget of its own: it keeps nobody out and gains no tries."""
    mine = cookie_of(log_in(client, device), "device")
    use_up(client)
    use_up(client, cookie=device)

    assert log_in(client, mine).status_code == 200
    assert log_in(client, device).status_code == 429


def test_a_spent_one_is_known_again(client, device, clock):
    """A browser that failed too often, and whose user logs in with it, is known again."""
    for _ in range(100):
        log_in(client, device, password=WRONG)
        clock.move(360)
    mine = cookie_of(log_in(client, device), "device")
    use_up(client)

    assert log_in(client, mine).status_code == 200


def test_a_network_without_tries(make_client, clock):
    """Known browsers get in where others use up the network's budget; and only so often."""
    client = make_client(login_network_limit="20/hour")
    mine = cookie_of(client.register(), "device")
    for number in range(20):
        assert client.log_in(f"nobody{number}", WRONG).status_code == 401
    assert client.log_in().status_code == 429

    for _ in range(10):
        answer = log_in(client, mine)
        assert answer.status_code == 200
        mine = cookie_of(answer, "device")
    refused = log_in(client, mine)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "360")
    assert refused.headers["ratelimit"].startswith('"login-known"')
    clock.move(180)
    assert client.log_in().status_code == 200


def test_planted_cookies_without_tries(make_client):
    """A planted cookie of a user without tries does not keep out the browser's own user."""
    client = make_client(login_network_limit="2/hour", registration_limit="2/hour")
    mine = cookie_of(client.register(), "device")
    others = cookie_of(client.register(**OTHER), "device")
    for _ in range(2 + 10):
        others = cookie_of(log_in(client, others, "other", OTHER["password"]), "device")
    assert log_in(client, others, "other", OTHER["password"]).status_code == 429

    assert log_in(client, f"{others}; device={mine}").status_code == 200


@pytest.mark.parametrize("name", ["CRISPENGARI", "CrispenGari@Gmail.com"])
def test_however_the_name_is_written(client, device, name):
    """The browser is known under every way to write the user's names."""
    use_up(client)
    use_up(client, USER["email"])

    assert log_in(client, device, name).status_code == 200


def test_it_expires(client, device, clock):
    """A year after its last login a browser is new."""
    clock.move(YEAR - 1)
    use_up(client)
    assert log_in(client, device).status_code == 200
    clock.move(1)
    use_up(client)

    assert log_in(client, device).status_code == 429


def test_bad_cookies(client, device):
    """A cookie that is not our device token has no effect."""
    head, payload, signature = device.split(".")
    forged = base64.urlsafe_b64encode(b'{"sub":"1","jti":"x","ver":1,"exp":9999999999}').decode()
    signed = KeyRing(load_keys(client.app.core.settings), "device+jwt").sign
    bad = [
        "",
        "x",
        "a.b.c",
        f"{head}.{forged.rstrip('=')}.{signature}",
        f"{head}.{payload}.{signature[:-2]}AA",
        signed(b"{}"),
        signed(b'{"sub":1,"jti":"x","ver":1,"exp":9999999999}'),
        signed(b'{"sub":"1","jti":"x","ver":2,"exp":9999999999}'),
        signed(b'{"sub":"1","jti":"x","exp":9999999999}'),
        signed(b"\xff"),
        f'"{device}"',
        "x" * 5_000,
    ]
    use_up(client)

    assert [log_in(client, cookie).status_code for cookie in bad] == [429] * len(bad)


def test_deleted_user(client, device):
    """The device cookie of a deleted user counts for nothing."""
    token = token_of(client.log_in())
    client.request_as(token, "DELETE", "/user", {"password": USER["password"]})
    client.register()
    use_up(client)

    assert log_in(client, device).status_code == 429
    claims = client.app.core.of(Devices).tokens.read(device, 0)
    assert isinstance(claims, DeviceClaims)
    assert claims.sub == "1"
