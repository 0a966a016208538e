"""Limits: how often something may be tried, and who is never kept out."""

import math
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import OTHER, USER, Client, process, request, token_of
from tries import WRONG, fail, lock_out, statuses

from authapi import Settings, create_app
from authapi.errors import Overloaded, Unavailable
from authapi.identifiers import username_key

NETWORK = "192.0.2.7"
LIGATURES = "\ufdf2" * 80  # each is four letters


def hashes(client, monkeypatch):
    """A list that grows with each password that is verified or hashed."""
    done, passwords = [], client.app.core.passwords
    for name in ("verify", "hash"):
        run = getattr(passwords, name)
        monkeypatch.setattr(
            passwords, name, lambda *args, run=run, **kwargs: done.append(1) or run(*args, **kwargs)
        )
    return done


def test_failed_logins_of_a_name(client, token, clock, monkeypatch):
    """Ten wrong passwords pass, then one each six minutes; a refused try costs no hash."""
    assert statuses(10, lambda: fail(client)) == [401] * 10
    done = hashes(client, monkeypatch)

    refused = client.log_in()

    assert done == []
    assert (refused.status_code, refused.json["error"]) == (429, "too_many_requests")
    assert refused.headers["retry-after"] == "360"
    assert refused.headers["ratelimit-policy"] == '"login-account";q=10;w=3600'
    assert refused.headers["ratelimit"] == '"login-account";r=0;t=360'
    assert not refused.cookies
    clock.move(359.5)
    assert client.log_in().headers["retry-after"] == "1"
    clock.move(0.5)
    assert fail(client).status_code == 401
    assert fail(client).status_code == 429


def test_success_clears_the_failures(client, token):
    """A login gives both names of its user their whole budgets back."""
    names = (USER["username"], USER["email"])
    for _ in range(3):
        for name in names:
            assert statuses(9, lambda: fail(client, name)) == [401] * 9  # noqa: B023
        assert client.log_in().status_code == 200


def test_unknown_names_are_limited_alike(client, token, clock):
    """A name that is nobody's, a user's, and a disabled user's meet the same answers throughout."""
    client.register(**OTHER)
    client.query("UPDATE users SET disabled_at = 1 WHERE username = 'other'")

    def answers(name):
        for step in range(120):
            answer = fail(client, name)
            yield answer.status_code, answer.json["error"], answer.headers.get("ratelimit")
            if step > 9:
                clock.move(400)

    names = (USER["username"], USER["email"], "other", "nobody", "nobody@example.com")
    found = [list(answers(name)) for name in names]

    assert found == [found[0]] * 5
    assert {status for status, *_ in found[0]} == {401, 429}


def test_names_are_caseless(client, token):
    """Other spellings of a name have no budget of their own."""
    assert statuses(5, lambda: fail(client, "CrispenGari")) == [401] * 5
    assert statuses(6, lambda: fail(client, "crispengari")) == [401] * 5 + [429]


def test_names_that_are_nobodys_are_caseless(client):
    """Nor have they where nobody has the name."""
    spellings = ["nobody", "NOBODY", "\uff4e\uff4f\uff42\uff4f\uff44\uff59", "no\u034fbody"]
    for number in range(10):
        assert fail(client, spellings[number % 4]).status_code == 401
    assert {fail(client, name).status_code for name in spellings} == {429}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("alias", "name"),
    [
        (USER["email"].replace("@", "\uff20"), USER["email"]),
        (username_key(LIGATURES), LIGATURES),
    ],
    ids=["fullwidth @", "longer than any name"],
)
def test_forms_of_two_kinds(client, alias, name, known):
    """Names of two kinds whose caseless forms are alike have budgets apart, known or unknown."""
    if known:
        assert client.register(username=LIGATURES).status_code == 201

    assert statuses(10, lambda: fail(client, alias)) == [401] * 10
    assert fail(client, name).status_code == 401


def test_tries_are_not_saved_up(client, token, clock):
    """A name that nobody tries for a month has ten tries, and not more."""
    assert fail(client).status_code == 401
    clock.move(30 * 86_400)

    assert statuses(11, lambda: fail(client)) == [401] * 10 + [429]


def test_a_rename_brings_no_tries(client, token):
    """Whoever has a session and renames its user to and fro has no more guesses for it."""
    assert statuses(11, lambda: fail(client)) == [401] * 10 + [429]
    renamed = client.request_as(token, "PATCH", "/user", {"username": "another"})

    assert renamed.status_code == 200
    assert fail(client, "another").status_code == 429
    assert fail(client, USER["username"]).status_code == 401  # nobody's now


def test_a_name_that_was_locked_out_before_it_had_a_user(client, clock):
    """Who registers it starts afresh."""
    lock_out(client, clock)
    assert client.register().status_code == 201

    assert client.log_in().status_code == 200


def test_renames_of_a_network(client, token, clock):
    """They tell which names are taken, and count as registrations."""
    client.register(**OTHER)  # the second

    def rename(number):
        name = "other" if number % 2 else f"u{number}"
        return client.request_as(token, "PATCH", "/user", {"username": name})

    assert [rename(number).status_code for number in range(18)] == [200, 409] * 9
    refused = rename(20)
    assert (refused.status_code, refused.headers["ratelimit"]) == (429, '"registration";r=0;t=180')
    clock.move(180)
    assert rename(22).status_code == 200


def test_names_are_no_text_in_the_table(client, token):
    """People type passwords into the wrong field: a row has a keyed digest."""
    fail(client, "my secret password")

    keys = [key for (key,) in client.query("SELECT key FROM limits ORDER BY key")]
    assert re.fullmatch(r"login-account:[0-9a-f]{64}:username", keys[0])
    assert keys[0] != keys[1]
    other = Client(create_app(Settings(database_url=f"{_url(client)}2"), clock=lambda: 0))
    fail(other, "my secret password")
    assert keys[0] not in {key for (key,) in other.query("SELECT key FROM limits")}
    other.app.close()


def _url(client):
    return f"sqlite:///{client.app.core.database.path}"


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


SUBNETS = {  # of 2001:db8::/48
    "": ["2001:db8::1", "2001:db8::ffff:0:0:1"],  # one /64
    "-56": [f"2001:db8:0:{number:x}::1" for number in range(200)],
    "-48": [f"2001:db8:0:{number:x}00::1" for number in range(200)],
}


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
    """So it is for registrations and renames."""
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
    """Who goes on trying is not kept out for longer, nor are others on the network."""
    client = make_client(login_network_limit="11/hour")
    there = {"remote_addr": NETWORK}
    assert statuses(20, lambda: fail(client, **there)) == [401] * 10 + [429] * 10

    assert fail(client, "another", **there).status_code == 401
    assert fail(client, "another", **there).status_code == 429
    clock.move(360)
    assert fail(client, **there).status_code == 401


def turns_of(client, monkeypatch):
    """A list that grows with each turn at writing."""
    database, turns = client.app.core.database, []
    transaction = database.transaction
    monkeypatch.setattr(
        database,
        "transaction",
        lambda most=None, **of: turns.append(most) or transaction(most, **of),
    )
    return turns


@pytest.mark.parametrize("lockout", [100, 10, 9])
def test_refused_tries_take_no_turn(make_client, clock, monkeypatch, lockout):
    """A flood of them keeps nobody from writing."""
    client = make_client()
    client.register()
    assert statuses(10, lambda: fail(client)) == [401] * 10
    client = make_client(login_lockout=lockout)
    clock.move(0 if lockout > 10 else 3_600)  # what is left to refuse it is the lockout
    turns = turns_of(client, monkeypatch)

    assert fail(client).status_code == 429
    assert turns == []


def test_registrations_of_a_network(client, clock, monkeypatch):
    """A network has 20 registrations; those that ask for what is taken count, for they tell."""
    there = {"remote_addr": NETWORK}

    def register(number):
        body = {**USER, "username": f"u{number}", "email": f"u{number}@example.com"}
        return client.post("/register", body, **there)

    assert [register(number // 2).status_code for number in range(20)] == [201, 409] * 10
    assert client.post("/register", {"username": "x"}, **there).status_code == 429
    done = hashes(client, monkeypatch)
    refused = register(99)
    assert (refused.status_code, refused.headers["ratelimit"]) == (429, '"registration";r=0;t=180')
    assert done == []
    assert client.register().status_code == 201
    clock.move(180)
    assert register(99).status_code == 201


def test_faults_of_the_body_are_no_registrations(client):
    """What is not well-formed costs no hash, and nothing of the budget."""
    assert {client.post("/register", {"username": "x"}).status_code for _ in range(30)} == {422}
    assert client.register().status_code == 201


SESSION_PASSWORDS = [
    ("PUT", "/user/password", {"current_password": WRONG, "new_password": "another one 42"}),
    ("POST", "/sessions/reauthenticate", {"password": WRONG}),
    ("DELETE", "/user", {"password": WRONG}),
]


@pytest.mark.parametrize("wrong", SESSION_PASSWORDS, ids=lambda wrong: wrong[1])
def test_passwords_in_a_session(client, token, clock, monkeypatch, wrong):
    """A user's sessions have ten wrong passwords together, wherever they are given."""
    second = token_of(client.log_in())
    tokens = [token, second] * 5
    for number, each in enumerate(tokens):
        assert client.request_as(each, *SESSION_PASSWORDS[number % 3]).status_code == 403
    done = hashes(client, monkeypatch)

    refused = client.request_as(token, *wrong)

    assert (refused.status_code, refused.headers["ratelimit"]) == (429, '"password";r=0;t=360')
    assert done == []
    other = token_of(client.register(**OTHER))
    assert client.request_as(other, *wrong).status_code == 403
    clock.move(360)
    assert client.request_as(token, *wrong).status_code == 403


@pytest.mark.parametrize("right", ["reauthenticate", "change", "login"])
def test_right_password_in_a_session_clears(client, token, right):
    """The right password, in a session or at a login, gives the budget back."""
    wrong, password = ("POST", "/sessions/reauthenticate", {"password": WRONG}), USER["password"]
    for _ in range(3):
        assert [client.request_as(token, *wrong).status_code for _ in range(9)] == [403] * 9
        if right == "login":
            answer = client.log_in()
        elif right == "change":
            body = {"current_password": password, "new_password": f"{password}!"}
            answer = client.request_as(token, "PUT", "/user/password", body)
            password = f"{password}!"
        else:
            answer = client.request_as(token, "POST", wrong[1], {"password": password})
        assert answer.status_code == 200
        token = token_of(answer)


def test_restart_forgets_nothing(make_client, clock):
    """The budgets are in the database, so another process knows them."""
    client = make_client()
    assert statuses(10, lambda: fail(client)) == [401] * 10
    client.app.close()

    assert fail(make_client()).status_code == 429


def test_two_processes_share_the_budgets(tmp_path):
    """Ten wrong passwords are ten, in however many processes."""
    wrong = {"usernameOrEmail": "crispengari", "password": WRONG}
    pool = ThreadPoolExecutor(4)
    with process(tmp_path) as (_, one), process(tmp_path) as (_, other), pool:
        urls = [f"{url}/login" for url in (one, other)] * 15
        answers = [status for status, *_ in pool.map(lambda url: request(url, wrong), urls)]

    assert answers.count(401) == 10
    assert set(answers) <= {401, 429, 503}


def test_32_threads(make_client):
    """Many tries at once get no more than one after the other."""
    client = make_client(hash_slots=20, threads=128)

    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: client.log_in("somebody", WRONG).status_code, range(64)))

    assert sorted(answers) == [401] * 10 + [429] * 54


@pytest.mark.parametrize("kept", [Overloaded, Unavailable])
def test_right_passwords_that_lead_nowhere(client, token, monkeypatch, kept):
    """A change of the password counts no try where what follows the check cannot be done."""
    body = {"current_password": USER["password"], "new_password": "another one 42"}

    def full(*_args, **_options):
        raise kept

    with monkeypatch.context() as patch:
        patch.setattr(client.app.core.passwords, "hash", full)
        answers = [client.request_as(token, "PUT", "/user/password", body) for _ in range(101)]
    assert {answer.status_code for answer in answers} == {503}
    assert client.request_as(token, "PUT", "/user/password", body).status_code == 200


def test_registrations_that_find_no_place(client, monkeypatch):
    """They are none, in whatever number."""

    def full(*_args, **_options):
        raise Overloaded

    with monkeypatch.context() as patch:
        patch.setattr(client.app.core.passwords, "hash", full)
        assert {client.register().status_code for _ in range(30)} == {503}
    assert client.register().status_code == 201


def test_tries_that_found_no_place_lock_nobody_out(client, token, monkeypatch):
    """They add up to nothing."""

    def full(*_args, **_options):
        raise Overloaded

    with monkeypatch.context() as patch:
        patch.setattr(client.app.core.passwords, "verify", full)
        assert {client.log_in().status_code for _ in range(120)} == {503}
    assert client.log_in().status_code == 200


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
    """Whoever uses up the budget of a network keeps nobody there from changing their password."""
    there = {"remote_addr": NETWORK}
    for number in range(300):
        assert fail(client, f"user{number}", **there).status_code == 401
    assert fail(client, **there).status_code == 429

    body = {"current_password": USER["password"], "new_password": "another password"}
    assert client.request_as(token, "PUT", "/user/password", body, **there).status_code == 200


def test_which_limit_is_told(client):
    """Where a network and a name have none left, it is the network."""
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


def test_try_that_found_no_place_is_given_back(client, token, clock, monkeypatch):
    """A login that the hash lane refuses was none."""

    def full(*_args, **_options):
        raise Overloaded

    with monkeypatch.context() as patch:
        patch.setattr(client.app.core.passwords, "verify", full)
        assert statuses(20, client.log_in) == [503] * 20
        clock.move(91 * 86_400)
        assert client.log_in("another").status_code == 503
    client.app.jobs.run_due()
    assert len(client.query("SELECT * FROM limits")) == 2
    assert statuses(11, lambda: fail(client)) == [401] * 10 + [429]


@pytest.mark.parametrize(("failure", "patience"), [(Overloaded, None), (Unavailable, 0)])
def test_who_has_waited_waits_no_longer(client, token, monkeypatch, failure, patience):
    """A try is given back in the next turn, or at once where the database was waited for."""
    turns = turns_of(client, monkeypatch)

    def fail_so(*_, **__):
        raise failure

    monkeypatch.setattr(client.app.core.passwords, "verify", fail_so)

    assert client.log_in().status_code == 503
    assert turns == [None, patience]


def test_off(make_client):
    """Nothing is limited, nothing is counted, where the setting says so."""
    client = make_client(rate_limits="off", login_lockout=1)
    client.register()

    assert statuses(40, lambda: fail(client, remote_addr=NETWORK)) == [401] * 40
    assert client.query("SELECT * FROM limits") == []
    assert "locked_out" not in client.events()
    assert client.log_in().status_code == 200


@pytest.mark.parametrize("tries", [1, 5, 10])
@pytest.mark.parametrize("hours", [0.2, 0.5, 1, 2])
def test_clock_that_is_set_back(client, token, clock, tries, hours):
    """Nobody waits for a clock that was ahead, whatever is left of their budget."""
    assert statuses(tries, lambda: fail(client)) == [401] * tries
    clock.move(-3_600 * hours)

    assert statuses(11, lambda: fail(client)) == [401] * 10 + [429]


@pytest.mark.parametrize("seconds", [0.001, 1, 360])
def test_clock_that_is_set_back_a_little(client, token, clock, seconds):
    """A step of the clock, as it is set now and then, brings no tries."""
    assert statuses(10, lambda: fail(client)) == [401] * 10
    clock.move(-seconds)

    refused = fail(client)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) == 360 + math.ceil(seconds)


@pytest.mark.parametrize(("rate", "tries"), [("10/day", 10), ("20/day", 1)])
def test_a_window_that_was_longer(make_client, rate, tries):
    """What was spent is forgotten where it would keep somebody waiting beyond the new window."""
    client = make_client(login_account_limit=rate)
    client.register()
    assert statuses(tries, lambda: fail(client)) == [401] * tries

    client = make_client(login_account_limit="10/hour")
    assert statuses(11, lambda: fail(client)) == [401] * 10 + [429]


def test_a_deleted_user_leaves_no_budget(client, token):
    """Its rows go with it."""
    fail(client)
    fail(client, USER["email"])
    client.request_as(token, "DELETE", "/user", {"password": USER["password"]})

    keys = [key for (key,) in client.query("SELECT key FROM limits")]
    assert not [key for key in keys if key.startswith(("login-account:", "password:"))]


@pytest.mark.parametrize("name", [USER["username"], "nobody"])
@pytest.mark.parametrize("failures", [1, 99])
@pytest.mark.parametrize(("seconds", "remembered"), [(-1, True), (0, False)])
def test_failures_long_ago(client, token, clock, failures, seconds, remembered, name):  # noqa: PLR0913, PLR0917
    """Each failure in a row is remembered for 0.9 days, so 100 would be for 90.

    Whether the name is somebody's makes no difference.
    """
    for _ in range(failures):
        clock.move(360)
        assert fail(client, name).status_code == 401
    clock.move(failures * 90 * 864 + seconds)

    locked_out = []
    for _ in range(100 - failures if remembered else 100):
        assert fail(client, name).status_code == 401
        locked_out.append(client.events()[-1] == "locked_out")
        clock.move(360)
    assert locked_out == [False] * (len(locked_out) - 1) + [True]


def test_rows_are_pruned(client, token, clock):
    """A job deletes rows without meaning: networks' within the hour, one failure's in a day."""
    for number in range(20):
        fail(client, f"user{number}")
    assert len(client.query("SELECT * FROM limits")) == 41  # one of the registration
    clock.move(3_601)
    fail(client, "another")
    client.app.jobs.run_due()
    assert len(client.query("SELECT * FROM limits")) == 22
    clock.move(90 * 864)
    fail(client, "another")
    client.app.jobs.run_due()
    assert len(client.query("SELECT * FROM limits")) == 2


def test_very_long_names(client):
    """Whatever is typed has a budget, and takes no longer for it."""
    name = "x" * 60_000
    assert statuses(11, lambda: fail(client, name)) == [401] * 10 + [429]


def test_the_log_names_each_limit_that_refuses(client, caplog, clock):
    """A minute has one line at info for each limit and network, whatever is tried; no names."""
    caplog.set_level("INFO", "authapi.refusals")
    there = {"remote_addr": NETWORK}
    for number in range(301):
        fail(client, "nobody" if number < 11 else f"nobody{number}", **there)
    for _ in range(9):
        fail(client, **there)
    clock.move(60)
    client.app.maintain()

    assert [line.strip() for line in caplog.messages] == [
        f"refused error=too_many_requests limit=login-account network={NETWORK}",
        f"refused error=too_many_requests limit=login-network network={NETWORK}",
        f"refused error=too_many_requests limit=login-network network={NETWORK} 8 more times",
    ]
