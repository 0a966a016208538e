"""Limits: how often something may be tried, and who is never kept out."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import OTHER, USER, process, request, token_of
from tries import WRONG, fail, full, lock_out, statuses

from authapi.errors import Overloaded, Unavailable
from authapi.identifiers import username_key
from authapi.inline import IN_LOOP, KEPT, HandOver

NETWORK = "192.0.2.7"
LIGATURES = "\ufdf2" * 80  # each is four letters


def test_failed_logins_of_a_name(client, token, clock):
    """Ten wrong passwords pass, then one each six minutes; a refused try costs no hash."""
    assert statuses(10, lambda: fail(client)) == [401] * 10

    with full(client):  # a hash would be 503
        refused = client.log_in()

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


def test_the_loop_gives_a_login_its_place(make_client):
    """The server's loop gives a login a place for a thread; without a free one, it answers 503."""
    client = make_client(hash_slots=1, threads=2)
    login, extras = {"usernameOrEmail": "nobody", "password": "crispengari"}, {IN_LOOP: True}

    with pytest.raises(HandOver) as left:
        client.simulate_post("/login", json=login, extras=extras)

    assert client.simulate_post("/login", json=login, extras=extras).status_code == 503
    left.value.kept["place"].release()


def test_a_refusal_frees_the_place_that_the_loop_gave(make_client):
    """A login over its network's limit gets 429 in a thread too, and its place is free again."""
    client = make_client(login_network_limit="1/hour")
    login = {"usernameOrEmail": "nobody", "password": "crispengari"}
    assert client.simulate_post("/login", json=login).status_code == 401
    place = client.app.admission.admit("127.0.0.1")

    answer = client.simulate_post("/login", json=login, extras={KEPT: {"place": place}})

    assert (answer.status_code, place.release.alive) == (429, False)


def test_success_clears_the_failures(client, token):
    """A login gives both names of its user their whole budgets back."""
    names = (USER["username"], USER["email"])
    for _ in range(3):
        for name in names:
            assert statuses(9, lambda: fail(client, name)) == [401] * 9  # noqa: B023
        assert client.log_in().status_code == 200


def test_unknown_names_are_limited_alike(client, token, clock):
    """An unknown name, a user's and a disabled user's get the same answers throughout."""
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
    """Renaming a user back and forth gives no more tries."""
    assert statuses(11, lambda: fail(client)) == [401] * 10 + [429]
    renamed = client.request_as(token, "PATCH", "/user", {"username": "another"})

    assert renamed.status_code == 200
    assert fail(client, "another").status_code == 429
    assert fail(client, USER["username"]).status_code == 401  # nobody's now


def test_a_name_that_was_locked_out_before_it_had_a_user(client, clock):
    """A user who registers a locked-out name starts without failures."""
    lock_out(client, clock)
    assert client.register().status_code == 201

    assert client.log_in().status_code == 200


@pytest.mark.parametrize("lockout", [100, 10, 9])
@pytest.mark.sqlite("the writer lock is SQLite's")
def test_refused_tries_take_no_turn(make_client, clock, lockout):
    """A flood of refused tries keeps nobody from writing: they need no writer lock."""
    client = make_client()
    client.register()
    assert statuses(10, lambda: fail(client)) == [401] * 10
    client = make_client(login_lockout=lockout)
    clock.move(0 if lockout > 10 else 3_600)  # what is left to refuse it is the lockout

    with client.app.core.database.writer_lock.hold(0):
        assert fail(client).status_code == 429


SESSION_PASSWORDS = [
    ("PUT", "/user/password", {"current_password": WRONG, "new_password": "another one 42"}),
    ("POST", "/sessions/reauthenticate", {"password": WRONG}),
    ("DELETE", "/user", {"password": WRONG}),
]


@pytest.mark.parametrize("wrong", SESSION_PASSWORDS, ids=lambda wrong: wrong[1])
def test_passwords_in_a_session(client, token, clock, wrong):
    """A user's sessions have ten wrong passwords together, wherever they are given."""
    second = token_of(client.log_in())
    tokens = [token, second] * 5
    for number, each in enumerate(tokens):
        assert client.request_as(each, *SESSION_PASSWORDS[number % 3]).status_code == 403

    with full(client):
        refused = client.request_as(token, *wrong)

    assert (refused.status_code, refused.headers["ratelimit"]) == (429, '"password";r=0;t=360')
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


def test_registrations_that_find_no_place(client):
    """A registration that finds the hash lane full takes no try."""
    with full(client):
        assert {client.register().status_code for _ in range(30)} == {503}
    assert client.register().status_code == 201


def test_tries_that_found_no_place_lock_nobody_out(client, token):
    """Logins that find the hash lane full do not add up to a lockout."""
    with full(client):
        assert {client.log_in().status_code for _ in range(120)} == {503}
    assert client.log_in().status_code == 200


def test_try_that_found_no_place_is_given_back(client, token, clock):
    """A login that the hash lane refuses takes no try."""
    with full(client):
        assert statuses(20, client.log_in) == [503] * 20
        clock.move(91 * 86_400)
        assert client.log_in("another").status_code == 503
    client.app.jobs.run_due()
    assert len(client.query("SELECT * FROM limits")) == 2
    assert statuses(11, lambda: fail(client)) == [401] * 10 + [429]


@pytest.mark.parametrize(("failure", "patience"), [(Overloaded, None), (Unavailable, 0)])
def test_who_has_waited_waits_no_longer(client, token, monkeypatch, failure, patience):
    """A try is given back in the next turn, or at once where the database was waited for."""
    turns, database = [], client.app.core.database
    transaction = database.transaction

    def counted(patience=None, **of):
        turns.append(patience)
        return transaction(patience, **of)

    monkeypatch.setattr(database, "transaction", counted)

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
    """Spent tries are forgotten if they would keep somebody waiting beyond the new window."""
    client = make_client(login_account_limit=rate)
    client.register()
    assert statuses(tries, lambda: fail(client)) == [401] * tries

    client = make_client(login_account_limit="10/hour")
    assert statuses(11, lambda: fail(client)) == [401] * 10 + [429]


def test_very_long_names(client):
    """A very long name has a budget like any other."""
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
