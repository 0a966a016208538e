"""Two nodes on one PostgreSQL server: the changes of a user happen one after the other.

Triggers that wait widen the moment between what a change reads and what it writes. Each race is
lost without the lock on the user's row, so the tests would notice if it was forgotten.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import why_none
from conftest import CHEAP, OTHER, USER, Client, eventually, token_of
from emails import NEW as NEW_EMAIL
from emails import ask, confirm, mail_to
from engines import PostgreSQLEngine
from mailboxes import MailingClient, mail_settings, token_in
from test_races import at_once

from authapi import Settings, create_app

if why_none():
    pytest.skip(why_none(), allow_module_level=True)

NEW = "another one 42"
SLOW = """
CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep({seconds}); IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END; $$;
CREATE TRIGGER slow BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION slow();
"""


@pytest.fixture(name="nodes", params=["locked", "unlocked"])
def _nodes(cluster, clock, request):
    """Return the clients of two nodes, which lock a user's row or do not."""
    engine = PostgreSQLEngine(cluster)
    values = engine.settings(**CHEAP, rate_limits="off", hash_slots=8, max_sessions=3)
    nodes = [Client(create_app(Settings(**values), clock=clock)) for _ in range(2)]
    for node in nodes:
        database = node.app.core.database
        engine.prepare(database)
        if request.param == "unlocked":
            database.transaction = lambda patience=None, of=None, begin=database.transaction: begin(
                patience
            )
    yield nodes, request.param == "locked"
    for node in nodes:
        node.app.close()


def widen(node, event, table, seconds=0.1):
    """Make each change of a row take so many seconds, so that another one happens meanwhile."""
    text = SLOW.format(event=event, table=table, seconds=seconds).encode()
    node.app.core.database.run(lambda connection: connection.execute(text, prepare=False))


def test_most_sessions(nodes):
    """Ten logins at once leave as many sessions as a user may have."""
    (one, other), is_locked = nodes
    one.register()
    widen(one, "INSERT", "sessions")

    answers = at_once([one.log_in, other.log_in] * 5)

    live = one.query("SELECT count(*) FROM sessions")[0][0]
    assert {answer.status_code for answer in answers} == {200}
    assert live == 3 if is_locked else live > 3


def test_a_login_beside_a_change_of_the_password(nodes):
    """A session that the old password opened does not outlive its change."""
    (one, other), is_locked = nodes
    token, password, outlived = token_of(one.register()), USER["password"], 0
    widen(one, "INSERT", "sessions")

    for number in range(3):
        change = {"current_password": password, "new_password": f"{NEW}{number}"}
        changed, *logins = at_once(
            [lambda t=token, c=change: one.request_as(t, "PUT", "/user/password", c)]
            + [lambda p=password: other.log_in(password=p)] * 2
        )
        token, password = token_of(changed), change["new_password"]
        opened = [token_of(login) for login in logins if login.status_code == 200]
        outlived += sum(one.get_as(each).status_code == 200 for each in opened)

    assert outlived == 0 if is_locked else outlived > 0


def test_two_sessions_end_each_other(nodes):
    """Where two sessions end all others at once, one of them is left."""
    (one, other), is_locked = nodes
    one.register()
    widen(one, "DELETE", "sessions")
    both_ended = 0

    for _ in range(3):
        first, second = token_of(one.log_in()), token_of(other.log_in())
        answers = at_once(
            [
                lambda token=first: one.request_as(token, "DELETE", "/sessions"),
                lambda token=second: other.request_as(token, "DELETE", "/sessions"),
            ]
        )
        statuses = sorted(answer.status_code for answer in answers)
        both_ended += statuses == [200, 200]

    assert both_ended == 0 if is_locked else both_ended > 0


def brought(*tokens):
    """Return the headers of a browser that brings session cookies."""
    return {"Cookie": "; ".join(f"jwt={token}" for token in tokens)}


def test_logins_that_bring_each_others_sessions(nodes):
    """Two users who log in, each with the other's session in the browser, both get a session."""
    (one, other), is_locked = nodes
    names = ("first", "second")
    tokens = [token_of(one.register(username=n, email=f"{n}@example.com")) for n in names]
    for name in names * 2:
        one.log_in(name)  # so that the next login ends the oldest session, which the other brings
    widen(one, "DELETE", "sessions", seconds=0.5)

    answers = at_once(
        [
            lambda: one.log_in("first", headers=brought(tokens[1])),
            lambda: other.log_in("second", headers=brought(tokens[0])),
        ]
    )

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 200] if is_locked else statuses == [200, 503]


def test_logouts_of_the_same_sessions(nodes):
    """Two logouts that bring the same sessions in another order both end them."""
    (one, other), is_locked = nodes
    tokens = [token_of(one.register()), token_of(one.register(username="b", email="b@b.com"))]
    widen(one, "DELETE", "sessions")

    answers = at_once(
        [
            lambda: one.post("/logout", headers=brought(*tokens)),
            lambda: other.post("/logout", headers=brought(*reversed(tokens))),
        ]
    )

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 200] if is_locked else statuses == [200, 503]


SQL_PROVE = "UPDATE users SET email_verified_at = 1 WHERE username = %s"
SQL_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.mark.parametrize("locks", ["both", "one"])
def test_an_undo_beside_a_proof_of_a_squatter(cluster, clock, tmp_path, locks):
    """A squatter who is proving the address when its former owner undoes a change keeps it.

    So the undo locks the rows of both users before it reads whether the address is proved.
    """
    import psycopg  # noqa: PLC0415 - it may not be installed

    settings = mail_settings(tmp_path, security_notices="off", **CHEAP)
    app = create_app(Settings(**PostgreSQLEngine(cluster).settings(**settings)), clock=clock)
    client, begin = MailingClient(app, tmp_path), app.core.database.transaction
    token = token_of(client.register())
    link = token_in(mail_to(client, NEW_EMAIL)) if ask(client, token).status_code == 202 else ""
    confirm(client, token, {"token": link})
    link = token_in(mail_to(client, USER["email"]))
    client.register(**{**OTHER, "email": USER["email"]})
    if locks == "one":
        app.core.database.transaction = lambda of=None, **more: begin(
            of=min(of) if isinstance(of, set) else of, **more
        )

    with psycopg.connect(cluster.url) as proving, ThreadPoolExecutor(1) as pool:
        proving.execute(SQL_PROVE, [OTHER["username"]])
        undo = pool.submit(client.post, "/user/email/undo", {"token": link})
        with psycopg.connect(cluster.url, autocommit=True) as looking:
            eventually(lambda: looking.execute(SQL_WAITING).fetchone()[0])
        proving.commit()
        answer = undo.result()

    app.close()
    assert answer.status_code == (409 if locks == "both" else 200)
