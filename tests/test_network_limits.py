"""Limits of networks: of an address, and of the wider networks that hold it."""

import pytest
from conftest import OTHER, USER, token_of
from tries import fail, full, statuses

NETWORK = "192.0.2.7"
SUBNETS = {  # of 2001:db8::/48
    "": ["2001:db8::1", "2001:db8::ffff:0:0:1"],  # one /64
    "-56": [f"2001:db8:0:{number:x}::1" for number in range(200)],
    "-48": [f"2001:db8:0:{number:x}00::1" for number in range(200)],
}


def test_renames_of_a_network(client, token, clock):
    """Renames reveal which names are taken, so they count as registrations."""
    client.register(**OTHER)  # the second

    def rename(number):
        name = "other" if number % 2 else f"u{number}"
        return client.request_as(token, "PATCH", "/user", {"username": name})

    assert [rename(number).status_code for number in range(18)] == [200, 409] * 9
    refused = rename(20)
    assert (refused.status_code, refused.headers["ratelimit"]) == (429, '"registration";r=0;t=180')
    clock.move(180)
    assert rename(22).status_code == 200


def test_logins_of_a_network(client, token, clock):
    """A network has 300 logins at once, good and bad, then one each 12 seconds."""
    from_there = {"remote_addr": NETWORK}
    assert statuses(150, lambda: client.log_in(**from_there)) == [200] * 150
    for number in range(150):
        assert fail(client, f"user{number}", **from_there).status_code == 401

    refused = client.log_in(**from_there)

    assert refused.status_code == 429
    assert refused.headers["ratelimit-policy"] == '"login-network";q=300;w=3600'
    assert refused.headers["ratelimit"] == '"login-network";r=0;t=12'
    assert client.log_in(remote_addr="192.0.2.8").status_code == 200
    clock.move(12)
    assert client.log_in(**from_there).status_code == 200
    assert client.log_in(**from_there).status_code == 429


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:0DB8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("", "", True),
        ("unix:", "unix:", True),
    ],
)
def test_networks(make_client, one, other, same):
    """A network is an IPv4 address or an IPv6 /64."""
    client = make_client(login_network_limit="1/hour")

    assert fail(client, "one", remote_addr=one).status_code == 401

    assert fail(client, "other", remote_addr=other).status_code == (429 if same else 401)


@pytest.mark.parametrize(("size", "tries"), [("", 2), ("-56", 4), ("-48", 8)])
def test_logins_of_wider_networks(make_client, clock, size, tries):
    """An IPv6 /56 has twice the logins of a /64, and a /48 four times: by however many /64."""
    client, addresses = make_client(login_network_limit="2/hour"), SUBNETS[size]
    for number in range(tries):
        answer = fail(client, f"user{number}", remote_addr=addresses[number % len(addresses)])
        assert answer.status_code == 401

    refused = fail(client, "another", remote_addr=addresses[-1])

    policy = f'"login-network{size}";q={tries};w=3600'
    assert (refused.status_code, refused.headers["ratelimit-policy"]) == (429, policy)
    assert fail(client, "another", remote_addr="2001:db8:1::1").status_code == 401
    clock.move(3_600 // tries)
    assert fail(client, "another", remote_addr=addresses[-1]).status_code == 401


@pytest.mark.parametrize(("size", "tries"), [("", 2), ("-56", 4), ("-48", 8)])
def test_registrations_of_wider_networks(make_client, size, tries):
    """Registrations and renames of a /56 and a /48 are limited too."""
    client, addresses = make_client(registration_limit="2/hour"), SUBNETS[size]

    def register(number):
        body = {**USER, "username": f"u{number}", "email": f"u{number}@example.com"}
        return client.post("/register", body, remote_addr=addresses[number % len(addresses)])

    answers = [register(number) for number in range(tries)]
    refused = register(tries)
    body, there = {"username": "another"}, {"remote_addr": addresses[-1]}
    renamed = client.request_as(token_of(answers[-1]), "PATCH", "/user", body, **there)

    assert [answer.status_code for answer in answers] == [201] * tries
    assert refused.headers["ratelimit-policy"] == f'"registration{size}";q={tries};w=3600'
    assert renamed.headers["ratelimit-policy"] == refused.headers["ratelimit-policy"]


def test_refused_tries_count_nowhere(make_client, clock):
    """Refused tries do not keep a client out for longer, nor others on the network."""
    client = make_client(login_network_limit="11/hour")
    there = {"remote_addr": NETWORK}
    assert statuses(20, lambda: fail(client, **there)) == [401] * 10 + [429] * 10

    assert fail(client, "another", **there).status_code == 401
    assert fail(client, "another", **there).status_code == 429
    clock.move(360)
    assert fail(client, **there).status_code == 401


def test_registrations_of_a_network(client, clock):
    """A network has 20 registrations, including those of taken names, because they reveal them."""
    there = {"remote_addr": NETWORK}

    def register(number):
        body = {**USER, "username": f"u{number}", "email": f"u{number}@example.com"}
        return client.post("/register", body, **there)

    assert [register(number // 2).status_code for number in range(20)] == [201, 409] * 10
    assert client.post("/register", {"username": "x"}, **there).status_code == 429
    with full(client):
        refused = register(99)
    assert (refused.status_code, refused.headers["ratelimit"]) == (429, '"registration";r=0;t=180')
    assert client.register().status_code == 201
    clock.move(180)
    assert register(99).status_code == 201


def test_faults_of_the_body_are_no_registrations(client):
    """A malformed registration costs no hash and no try."""
    assert {client.post("/register", {"username": "x"}).status_code for _ in range(30)} == {422}
    assert client.register().status_code == 201


def test_passwords_of_a_network(make_client):
    """Right passwords in sessions are no way to hash without an end."""
    client = make_client(login_network_limit="20/hour")
    token = token_of(client.register())
    for _ in range(20):
        body = {"password": USER["password"]}
        answer = client.request_as(token, "POST", "/sessions/reauthenticate", body)
        assert answer.status_code == 200
        token = token_of(answer)

    for _ in range(10):  # the user's own, where the network has none
        answer = client.request_as(token, "POST", "/sessions/reauthenticate", body)
        assert answer.status_code == 200
        token = token_of(answer)
    answer = client.request_as(token, "POST", "/sessions/reauthenticate", body)
    assert answer.headers["ratelimit"] == '"login-known";r=0;t=360'


def test_a_network_that_others_use_up(client, token):
    """A user on a network without tries can still change the password."""
    there = {"remote_addr": NETWORK}
    for number in range(300):
        assert fail(client, f"user{number}", **there).status_code == 401
    assert fail(client, **there).status_code == 429

    body = {"current_password": USER["password"], "new_password": "another password"}
    assert client.request_as(token, "PUT", "/user/password", body, **there).status_code == 200


def test_which_limit_is_told(client):
    """If a network and a name have no tries left, the answer names the network."""
    there = {"remote_addr": NETWORK}
    while "login-network" not in fail(client, f"user{fail.networks}", **there).headers.get(
        "ratelimit", ""
    ):
        pass
    assert statuses(11, lambda: fail(client)) == [401] * 10 + [429]

    assert fail(client, **there).headers["ratelimit"].startswith('"login-network"')


def test_registrations_of_a_large_network(client):
    """An IPv6 /64 is one network for registrations, too."""
    for number in range(21):
        body = {**USER, "username": f"u{number}", "email": f"u{number}@example.com"}
        answer = client.post("/register", body, remote_addr=f"2001:db8::{number:x}")
    assert answer.status_code == 429
