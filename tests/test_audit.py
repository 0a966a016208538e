"""The audit log."""

import re
from contextlib import closing
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from conftest import CHEAP, OTHER, USER, Client, token_of
from engines import REFUSALS

from authapi import LoggedIn, Settings, Unlocked, UserRenamed, create_app, events, features
from authapi.errors import InvalidToken
from authapi.feature import load
from authapi.features import audit

DAY = 86_400


def activity(client, token, **params):
    return client.get_as(token, "/user/activity", params=params).json["activity"]


EVERY_EVENT = [
    "registered",
    "login_failed",
    "login_failed",
    "logged_in",
    "session_renewed",
    "reauthenticated",
    "user_renamed",
    "password_changed",
    "credentials_changed",
    "session_revoked",
    "reauthenticated",
    "logged_in",
    "logged_out",
    "user_deleted",
]


def test_every_event_is_kept(client, token, clock):
    """Each event of an account is kept once, in order, without names or secrets."""
    client.log_in(password="wrong password")
    client.log_in("nobody")
    other = token_of(client.log_in())
    clock.move(3_600)
    client.get_as(token)
    token = client.reauthenticate(token)
    token = token_of(client.request_as(token, "PATCH", "/user", {"username": "frodo"}))
    body = {"current_password": USER["password"], "new_password": "another password"}
    token = token_of(client.request_as(token, "PUT", "/user/password", body))
    again = {"password": "another password"}
    token = token_of(client.request_as(token, "POST", "/sessions/reauthenticate", again))
    client.request_as(other, "POST", "/logout")
    client.request_as(token_of(client.log_in("frodo", "another password")), "POST", "/logout")
    client.request_as(token, "DELETE", "/user")

    assert client.events() == EVERY_EVENT
    assert [user_id for (user_id,) in client.events("user_id")] == [1, 1, None] + [1] * 11
    assert client.events("session_id")[4] == client.events("session_id")[0]
    everything = repr(client.events("*"))
    for secret in (
        *USER.values(),
        "frodo",
        "nobody",
        "wrong password",
        "another password",
        token,
    ):
        assert secret not in everything


def test_activity(client, clock):
    """A user sees what happened to them, newest first, from where and by what request."""
    headers = {"User-Agent": "curl/8.4.0"}
    client.register()
    clock.move(1)
    answer = client.log_in(headers=headers, remote_addr="192.0.2.7")
    token = token_of(answer)

    shown = client.get_as(token, "/user/activity")

    assert (shown.status_code, shown.json["message"]) == (200, "Activity.")
    assert shown.json["activity"][0] == {
        "id": 2,
        "time": "Tue, 16 Aug 2022 10:21:30 GMT",
        "event": "logged_in",
        "session_id": client.sessions_of(token)[0]["id"],
        "ip": "192.0.2.7",
        "user_agent": "curl/8.4.0",
        "request_id": answer.headers["x-request-id"],
    }
    assert [entry["event"] for entry in shown.json["activity"]] == ["logged_in", "registered"]


def test_activity_is_ones_own(client, token):
    """Users do not see the events of other users or of nobody."""
    other = token_of(client.register(**OTHER))
    client.log_in("nobody")

    assert [entry["event"] for entry in activity(client, token)] == ["registered"]
    assert [entry["event"] for entry in activity(client, other)] == ["registered"]


def test_pages(client, token):
    """`before` and `limit` page through it, without gaps or repeats, whatever happens meanwhile."""
    for _ in range(9):
        client.log_in()

    pages, before = [], {}
    while page := activity(client, token, limit=4, **before):
        pages.append([entry["id"] for entry in page])
        before = {"before": page[-1]["id"]}
        client.log_in()

    assert pages == [[10, 9, 8, 7], [6, 5, 4, 3], [2, 1]]


def test_page_sizes(make_client):
    """A page is 50 unless asked otherwise, and 100 at most."""
    client = make_client(rate_limits="off")
    token = token_of(client.register())
    for _ in range(110):
        client.log_in("crispengari", "wrong password")

    assert len(activity(client, token)) == 50
    assert len(activity(client, token, limit=100)) == 100
    assert len(activity(client, token, limit=1)) == 1


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=1.0"]
    + ["before=0", "before=9223372036854775808", "before=99999999999999999999", "before=%D9%A1"],
)
def test_bad_pages(client, token, query):
    """A value that is not a page number is refused by name."""
    answer = client.simulate_get(
        "/user/activity", query_string=query, headers={"Cookie": f"jwt={token}"}
    )

    (fault,) = answer.json["errors"]
    assert (422, query.partition("=")[0]) == (answer.status_code, fault["field"])


def test_largest_page_number(client, token):
    """The largest id that there can be is a fine `before`."""
    assert len(activity(client, token, before=2**63 - 1)) == 1


def test_needs_a_session(client):
    """Nobody's activity is shown to nobody."""
    assert client.simulate_get("/user/activity").status_code == 401


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET event = 'logged_out'",
        "UPDATE audit_log SET ip = ''",
        "DELETE FROM audit_log",
        "DELETE FROM audit_log WHERE id = 1",
    ],
)
def test_append_only(client, token, statement):
    """The schema itself refuses to change or delete what the log holds."""
    keeps_entries(client, statement)


@pytest.mark.sqlite("another engine knows no REPLACE")
@pytest.mark.parametrize(
    "statement",
    [
        "REPLACE INTO audit_log SELECT id, created_at, 'x', 2, '', '', '', '', '' FROM audit_log",
        "INSERT OR REPLACE INTO audit_log VALUES (1, 0, 'x', 2, '', '', '', '', '')",
        "INSERT INTO audit_log SELECT * FROM audit_log WHERE 1 ON CONFLICT DO UPDATE SET ip = 'x'",
    ],
)
def test_nothing_is_replaced(client, token, statement):
    """The schema itself refuses to replace what the log holds."""
    keeps_entries(client, statement)


def keeps_entries(client, statement):
    client.log_in()
    before = client.events("*")

    with pytest.raises(REFUSALS, match="audit_log"):
        client.query(statement)

    assert before == client.events("*")


def test_forgets_by_age(client, token, clock):
    """A job deletes entries that are 90 days older than the newest, not a second earlier."""
    client.log_in()
    clock.move(90 * DAY - 1)
    client.log_in()
    client.app.jobs.run_due()
    assert len(client.events()) == 3

    clock.move(60)
    client.log_in()
    client.app.jobs.run_due()
    assert client.events() == ["logged_in", "logged_in"]


def test_a_log_that_nothing_is_added_to(client, token, clock, caplog):
    """If nothing happens for 90 days and more, the job violates no trigger."""
    client.log_in()
    clock.move(200 * DAY)
    client.app.jobs.run_due()

    assert client.events() == ["registered", "logged_in"]
    assert not caplog.messages


def test_retention_is_one_number(client):
    """Code, schema and page say the same of how long it is kept."""
    root = Path(__file__).parent.parent
    folder = root / "sql" / "sqlite" / "migrations"
    files = ("0004_audit_log", "0009_audit_log_of_nobody")
    schema = "\n".join((folder / f"{name}.sql").read_text() for name in files)
    page = (root / "docs" / "features" / "audit.md").read_text()

    assert [str(audit.RETENTION)] * 2 == re.findall(r"- (\d+)\n", schema)
    assert audit.RETENTION == 90 * DAY
    assert "90 days" in page


def add_entries(client, count, user_id):
    client.query(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO audit_log (created_at, event, user_id, ip, user_agent, request_id) "
        "SELECT CAST(? AS BIGINT), 'login_failed', CAST(? AS BIGINT), '', '', '' FROM n",
        count,
        int(client.app.core.clock()),
        user_id,
    )


@pytest.mark.parametrize("name", [USER["username"], "nobody"])
def test_made_up_names_fill_no_disk(client, token, name):
    """A job keeps the newest 10,000 entries without a user; all others stay."""
    add_entries(client, audit.NOBODYS + 1_500, None)
    add_entries(client, 50, 2)
    assert client.log_in(name, "wrong password").status_code == 401

    client.app.jobs.run_due()

    newest = client.query("SELECT id FROM audit_log WHERE user_id IS NULL ORDER BY id")
    assert len(newest) == audit.NOBODYS
    assert newest[0] >= (1_500,)
    assert client.query("SELECT count(*) FROM audit_log WHERE user_id = 2") == [(50,)]
    assert client.events()[0] == "registered"


def test_an_operator_prunes(client, token):
    """Any SQL shell deletes entries that name no user, and no others."""
    client.log_in("nobody")
    client.log_in(password="wrong password")
    client.query("DELETE FROM audit_log WHERE user_id IS NULL")

    assert client.events("event", "user_id") == [("registered", 1), ("login_failed", 1)]


def test_kept_with_the_change_or_not_at_all(client, token):
    """If the log cannot be written, nothing is changed."""
    client.query("DROP TABLE audit_log")

    assert client.log_in().status_code == 500
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]
    assert client.register(**OTHER).status_code == 500
    assert client.query("SELECT count(*) FROM users") == [(1,)]


def test_oldest_go_first(client, token):
    """The oldest entries are deleted first, a bounded number at once."""
    for age in range(120):
        client.query(
            "INSERT INTO audit_log (created_at, event, user_id, ip, user_agent, request_id)"
            " VALUES (?, 'x', 2, '', '', '')",
            age,
        )
    log = client.app.core.of(audit.AuditRepository)

    assert log.prune(client.app.core.clock(), at_most=100) == 100
    assert client.query("SELECT min(created_at) FROM audit_log") == [(100,)]


def test_ids_are_positive(client, token):
    """No entry can stand in the way of the next one."""
    for number in (0, -1, -(2**63)):
        with pytest.raises(REFUSALS):
            client.query(
                "INSERT INTO audit_log (id, created_at, event, user_id, ip, user_agent, request_id)"
                " VALUES (?, 0, 'x', 2, '', '', '')",
                number,
            )
    assert client.log_in().status_code == 200


def test_details_are_for_the_operator(client, token):
    """The log keeps why a login failed, and the user's activity does not show it."""
    client.log_in(password="wrong password")

    assert client.events("event", "detail")[-2:] == [
        ("registered", None),
        ("login_failed", "wrong_password"),
    ]
    assert "wrong_password" not in str(activity(client, token))


def every_event():
    load(features.DEFAULT)
    return [
        kind for kind in events.Event.__subclasses__() if kind.__module__.startswith("authapi.")
    ]


@pytest.mark.parametrize("kind", every_event())
def test_events_are_frozen(kind):
    """An event is what happened: no subscriber changes it for the next one."""
    event = kind(1, events.Caller("192.0.2.1", "curl", "0"), "x")

    for name in ("user_id", "session_id", "caller", "note"):
        with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
            setattr(event, name, 2)
    with pytest.raises((FrozenInstanceError, TypeError)):
        event.caller.ip = "192.0.2.2"
    assert event == kind(1, events.Caller("192.0.2.1", "curl", "0"), "x")
    assert kind.__doc__


def test_a_subscriber_hears_of_what_it_asked_for(client, token):
    """A subscriber hears of every event, or of those of one class."""
    everything, renames = [], []
    client.app.core.events.subscribe(lambda event: everything.append(event.name))
    client.app.core.events.subscribe(lambda event: renames.append(event.name), UserRenamed)

    client.log_in()
    client.request_as(token, "PATCH", "/user", {"username": "frodo"})

    assert everything == ["logged_in", "user_renamed"]
    assert renames == ["user_renamed"]


def test_an_event_of_a_subscriber_waits(client):
    """Every subscriber gets an event before those that another subscriber emits because of it."""
    told, app_events = [], client.app.core.events
    app_events.subscribe(lambda event: app_events.emit(Unlocked(1, event.caller)), LoggedIn)
    app_events.subscribe(lambda event: told.append(event.name))

    client.register()
    client.log_in()

    assert told[-2:] == client.events()[-2:] == ["logged_in", "unlocked"]


def test_a_subscriber_that_fails(client, token):
    """A subscriber that raises undoes the change, and the next event is told as before."""
    told = []

    def refuse_the_first(event):
        told.append(event.name)
        if len(told) == 1:
            raise InvalidToken

    client.app.core.events.subscribe(refuse_the_first, UserRenamed)

    answers = [
        client.request_as(token, "PATCH", "/user", {"username": name}) for name in ("frodo", "sam")
    ]

    assert [answer.status_code for answer in answers] == [401, 200]
    assert client.events() == ["registered", "user_renamed"]


def test_the_order_of_features_changes_nothing(tmp_path, clock):
    """A change's entries stand in the order of its events, in whatever order features are named."""
    orders = (features.DEFAULT, features.DEFAULT[::-1])

    logs = [
        _entries_of_a_password_change(tmp_path / f"{order[0]}.db", clock, order) for order in orders
    ]

    assert logs[0][-3:] == ["password_changed", "credentials_changed", "session_revoked"]
    assert logs[0] == logs[1]


def _entries_of_a_password_change(path, clock, names):
    settings = Settings(database_url=f"sqlite:///{path}", features=names, **CHEAP)
    app = create_app(settings, clock=clock)
    with closing(app):
        client = Client(app)
        token = token_of(client.register())
        client.log_in()
        body = {"current_password": USER["password"], "new_password": "another password"}
        client.request_as(token, "PUT", "/user/password", body)
        return client.events()
