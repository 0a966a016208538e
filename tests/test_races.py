"""32 at once, at each write that must happen once."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
from conftest import USER, process, request, token_of

THREADS = 32
NEW = "another one 42"


def at_once(calls):
    """Make calls at the same moment, each in its own thread; return their results."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait(timeout=60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def statuses(answers):
    return Counter(answer.status_code for answer in answers)


@pytest.fixture(name="roomy")
def _roomy(make_client):
    """Return a client of a service with a hash place for everybody."""
    return make_client(hash_slots=8, threads=4 * (THREADS + 8), rate_limits="off")


@pytest.fixture(name="tokens")
def _tokens(roomy):
    """Two sessions of a user."""
    return [token_of(roomy.register()), token_of(roomy.log_in())]


def test_register(roomy):
    """If 32 spellings of a name are registered at once, one succeeds and the others are taken."""
    names = ["".join(start) + "engari" for start in product(*zip("crisp", "CRISP", strict=True))]
    calls = [
        lambda n=n, name=name: roomy.register(username=name, email=f"u{n}@example.com")
        for n, name in enumerate(names)
    ]

    assert statuses(at_once(calls)) == {201: 1, 409: 31}
    assert roomy.events() == ["registered"]


def test_logout(roomy, tokens):
    """32 logouts of a session all succeed, and one is recorded."""
    calls = [lambda: roomy.request_as(tokens[0], "POST", "/logout")] * THREADS

    assert statuses(at_once(calls)) == {200: 32}
    assert roomy.events().count("logged_out") == 1


def test_revoke(roomy, tokens):
    """A session is revoked once; the other requests get 404."""
    shown = roomy.sessions_of(tokens[1])
    (session_id,) = [each["id"] for each in shown if not each["current"]]
    calls = [lambda: roomy.request_as(tokens[1], "DELETE", f"/sessions/{session_id}")] * THREADS

    assert statuses(at_once(calls)) == {200: 1, 404: 31}
    assert roomy.events().count("session_revoked") == 1


def test_revoke_others(roomy, tokens):
    """Each ended session is counted by one request only."""
    for _ in range(5):
        roomy.log_in()
    calls = [lambda: roomy.request_as(tokens[1], "DELETE", "/sessions")] * THREADS

    answers = at_once(calls)

    assert statuses(answers) == {200: 32}
    assert sum(answer.json["ended"] for answer in answers) == 6


def test_ending_all_others(roomy, tokens):
    """If two sessions end all others one is left, because an ended session ends nothing."""
    calls = [lambda token=token: roomy.request_as(token, "DELETE", "/sessions") for token in tokens]

    assert set(statuses(at_once(calls * (THREADS // 2)))) <= {200, 401}
    assert sorted(roomy.get_as(token).status_code for token in tokens) == [200, 401]


def test_ending_each_other(roomy, tokens):
    """If two sessions end each other, one remains."""
    ids = [each["id"] for each in roomy.sessions_of(tokens[0])]  # newest first
    calls = [
        lambda token=token, other=other: roomy.request_as(token, "DELETE", f"/sessions/{other}")
        for token, other in zip(tokens, ids, strict=True)
    ]

    assert statuses(at_once(calls * (THREADS // 2)))[200] == 1
    assert sorted(roomy.get_as(token).status_code for token in tokens) == [200, 401]


def test_logout_everywhere_while_the_user_is_deleted(roomy, tokens):
    """A logged-out user's pending request deletes nothing."""
    calls = [
        lambda: roomy.request_as(tokens[0], "POST", "/logout", {"everywhere": True}),
        lambda: roomy.request_as(tokens[1], "DELETE", "/user"),
    ]

    assert statuses(at_once(calls * (THREADS // 2))) == {200: 1, 401: 31}
    assert ("user_deleted" in roomy.events()) is not ("logged_out" in roomy.events())


def test_password_change(roomy, tokens):
    """If 32 password changes run at once, one wins, and only its password opens a session."""
    passwords = [f"{NEW} {number}" for number in range(THREADS)]

    def change(number):
        body = {"current_password": USER["password"], "new_password": passwords[number]}
        return roomy.request_as(tokens[number % 2], "PUT", "/user/password", body)

    answers = at_once([lambda number=number: change(number) for number in range(THREADS)])

    won = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert len(won) == 1
    assert set(statuses(answers)) <= {200, 401, 403}
    assert roomy.log_in(password=passwords[won[0]]).status_code == 200
    assert roomy.log_in().status_code == 401
    assert roomy.events().count("password_changed") == 1


def test_reauthentication(roomy, tokens):
    """A token is rotated once: one new token is good, and the old one is not."""
    body = {"password": USER["password"]}
    calls = [lambda: roomy.request_as(tokens[0], "POST", "/sessions/reauthenticate", body)]

    answers = at_once(calls * THREADS)

    assert statuses(answers) == {200: 1, 401: 31}
    (winner,) = [answer for answer in answers if answer.status_code == 200]
    assert roomy.get_as(token_of(winner)).status_code == 200
    assert len(roomy.sessions_of(tokens[1])) == 2


def test_rename(roomy):
    """If 32 users want a name, one gets it."""
    mine = [
        token_of(roomy.register(username=f"u{number}", email=f"u{number}@example.com"))
        for number in range(THREADS)
    ]
    calls = [
        lambda token=token: roomy.request_as(token, "PATCH", "/user", {"username": "Fin"})
        for token in mine
    ]

    assert statuses(at_once(calls)) == {200: 1, 409: 31}
    assert roomy.events().count("user_renamed") == 1


def test_renewal(roomy, tokens, clock):
    """A session is renewed once, and all 32 go on."""
    clock.move(3_600)
    answers = at_once([lambda: roomy.get_as(tokens[0])] * THREADS)

    assert statuses(answers) == {200: 32}
    assert roomy.events().count("session_renewed") == 1


def test_deletion(roomy, tokens):
    """A user is deleted once, and no row of the user remains."""
    body = {"password": USER["password"]}
    calls = [
        lambda token=token: roomy.request_as(token, "DELETE", "/user", body) for token in tokens
    ]

    assert statuses(at_once(calls * (THREADS // 2))) == {200: 1, 401: 31}
    assert roomy.events().count("user_deleted") == 1
    assert roomy.query("SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM sessions)") == [
        (0, 0)
    ]


def test_most_sessions(make_client):
    """A user never has more sessions than the setting allows."""
    client = make_client(hash_slots=8, threads=4 * (THREADS + 8), rate_limits="off", max_sessions=5)
    client.register()

    assert statuses(at_once([client.log_in] * THREADS)) == {200: 32}
    assert client.query("SELECT count(*) FROM sessions") == [(5,)]


def test_logins_while_the_password_changes(roomy, tokens):
    """No session is opened by the old password, whenever that was checked."""
    body = {"current_password": USER["password"], "new_password": NEW}
    change = [lambda: roomy.request_as(tokens[0], "PUT", "/user/password", body)]

    changed, *logins = at_once(change + [roomy.log_in] * (THREADS - 1))

    assert changed.status_code == 200
    assert set(statuses(logins)) <= {200, 401}
    assert len(roomy.sessions_of(token_of(changed))) == 1
    for login in logins:
        if login.status_code == 200:
            assert roomy.get_as(token_of(login)).status_code == 401


def test_logins_while_the_user_is_deleted(roomy, tokens):
    """No session of a deleted user remains."""
    body = {"password": USER["password"]}
    delete = [lambda: roomy.request_as(tokens[0], "DELETE", "/user", body)]

    at_once(delete + [roomy.log_in] * (THREADS - 1))

    assert roomy.query("SELECT count(*) FROM sessions") == [(0,)]


def test_tries(make_client):
    """If 32 wrong passwords come at once, as many are checked as there are tries."""
    client = make_client(hash_slots=8, threads=4 * (THREADS + 8), login_lockout=6)
    client.register()

    answers = at_once([lambda: client.log_in(password="wrong password")] * THREADS)

    assert statuses(answers) == {401: 6, 429: 26}
    assert client.events().count("locked_out") == 1


@pytest.mark.parametrize("most", [6, 100])
def test_tries_in_two_processes(tmp_path, most):
    """Two processes share the tries of the lockout and of the rate."""
    options = {"AUTHAPI_HASH_SLOTS": "8", "AUTHAPI_THREADS": "80"}
    options["AUTHAPI_LOGIN_LOCKOUT"] = str(most)
    body = {"usernameOrEmail": "nobody", "password": "wrong password"}
    with process(tmp_path, **options) as (_, one), process(tmp_path, **options) as (_, other):
        calls = [lambda url=url: request(f"{url}/login", body)[0] for url in (one, other)]
        answers = at_once(calls * (THREADS // 2))

    assert Counter(answers) == {401: min(most, 10), 429: THREADS - min(most, 10)}


@pytest.fixture(name="ask", scope="module")
def _ask(tmp_path_factory):
    """Send a request to one of two processes on one database; return status, body and token."""
    folder = tmp_path_factory.mktemp("races")
    options = {
        "AUTHAPI_RATE_LIMITS": "off",
        "AUTHAPI_HASH_SLOTS": "8",
        "AUTHAPI_THREADS": "80",
        "AUTHAPI_MAX_SESSIONS": "5",
    }
    with process(folder, **options) as (_, one), process(folder, **options) as (_, other):

        def ask(which, method, path, body=None, token=None):
            headers = {"Cookie": f"jwt={token}"} if token else {}
            url = (one, other)[which % 2] + path
            status, answer, received = request(url, body, method=method, **headers)
            cookies = [line.partition(";")[0] for line in received.get_all("Set-Cookie") or []]
            tokens = [cookie[4:] for cookie in cookies if cookie.startswith("jwt=")]
            return status, answer, tokens[0] if tokens else None

        yield ask


def registration(name, number=0):
    return {**USER, "username": name, "email": f"{name}{number}@example.com"}


def in_both(ask, calls):
    """Return the answers to 32 calls that alternate between two processes."""
    asked = enumerate(calls * (THREADS // len(calls)))
    return at_once([lambda number=number, call=call: ask(number, *call) for number, call in asked])


def of_both(answers):
    return Counter(status for status, *_ in answers)


def test_register_in_two_processes(ask):
    """A name is registered once across processes."""
    calls = [("POST", "/register", registration("anna", number)) for number in range(THREADS)]

    answers = in_both(ask, calls)

    assert of_both(answers) == {201: 1, 409: 31}
    assert {answer.get("error") for _, answer, _ in answers} == {None, "username_taken"}


def test_password_change_in_two_processes(ask):
    """If 32 changes run in two processes, one wins, and only its password is right in both."""
    *_, token = ask(0, "POST", "/register", registration("bob"))
    bodies = [
        {"current_password": USER["password"], "new_password": f"{NEW} {number}"}
        for number in range(THREADS)
    ]

    answers = in_both(ask, [("PUT", "/user/password", body, token) for body in bodies])

    assert of_both(answers)[200] == 1
    assert set(of_both(answers)) <= {200, 401, 403}
    right = [
        number
        for number, body in enumerate(bodies)
        for which in (0, 1)
        if ask(which, "POST", "/login", login("bob", body["new_password"]))[0] == 200
    ]
    won = [status for status, *_ in answers].index(200)
    assert right == [won, won]


def login(name, password=USER["password"]):
    return {"usernameOrEmail": name, "password": password}


def test_reauthentication_in_two_processes(ask):
    """A token is rotated once across processes."""
    *_, token = ask(0, "POST", "/register", registration("carl"))
    call = ("POST", "/sessions/reauthenticate", {"password": USER["password"]}, token)

    answers = in_both(ask, [call])

    assert of_both(answers) == {200: 1, 401: 31}
    (new,) = [new for status, _, new in answers if status == 200]
    assert [ask(which, "GET", "/user", token=new)[0] for which in (0, 1)] == [200, 200]


def test_ending_each_other_in_two_processes(ask):
    """If two sessions end all others, each in its own process, one remains."""
    *_, one = ask(0, "POST", "/register", registration("dora"))
    *_, other = ask(1, "POST", "/login", login("dora"))

    in_both(ask, [("DELETE", "/sessions", None, token) for token in (one, other)])

    for which in (0, 1):
        statuses = [ask(which, "GET", "/user", token=token)[0] for token in (one, other)]
        assert sorted(statuses) == [200, 401]


def test_most_sessions_in_two_processes(ask):
    """A user never has more sessions than the setting allows, in whichever process."""
    ask(0, "POST", "/register", registration("eve"))

    answers = in_both(ask, [("POST", "/login", login("eve"))])

    assert of_both(answers) == {200: 32}
    alive = [token for *_, token in answers if ask(0, "GET", "/user", token=token)[0] == 200]
    assert len(alive) == 5


def test_deletion_in_two_processes(ask):
    """A user is deleted once across processes."""
    *_, token = ask(0, "POST", "/register", registration("finn"))
    body = {"password": USER["password"]}

    answers = in_both(ask, [("DELETE", "/user", body, token)])

    assert of_both(answers) == {200: 1, 401: 31}
