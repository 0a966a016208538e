"""A fault before and after each statement of each route that writes: all of a change, or nothing.

The statements are counted as a request runs, so that those of a later day are tried too. A fault
after a commit is the one that nobody can undo: the change is kept, and its answer is lost.
"""

import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

import falcon.inspect
import pytest
from browsers import SETTINGS, Browser, proof_in
from conftest import OTHER, USER, Client, token_of
from emails import NEW, ask, confirm, mail_to
from falcon.testing import Result
from mailboxes import MailingClient, _make_mailing, token_in  # noqa: F401 - a fixture
from registrations import browser_of, verify

from authapi.database.sqlite.connections import Connection
from authapi.session_tokens import SessionTokens, public_id

PROOFS = {"email_verification": "required", "security_notices": "off"}
STRONGER = {"argon2_time_cost": 2}
ANOTHER = {"username": "third", "email": "third@example.com", "password": "battery staple"}
# Hashes, ids of sessions and requests, and what a mailed link is derived from.
OURS = re.compile(r"\$argon2|[0-9a-f]{64}\Z|[0-9a-f]{16}\Z|[\w-]{22}\Z")
HASHED = re.compile(r'(\$argon2[^"]*)\$[^$"]+\$[^$"]+')  # in the data of a registration
REAL_TIME = 1_700_000_000  # seconds since the epoch: later than every clock of a test


def refusal(code):
    """Return the exception that sqlite3 raises for a result code."""
    error = sqlite3.OperationalError(f"result code {code}")
    error.sqlite_errorcode = code
    return error


KINDS = {
    "I/O": lambda: refusal(sqlite3.SQLITE_IOERR_WRITE),
    "full": lambda: refusal(sqlite3.SQLITE_FULL),
    "unexpected": lambda: ZeroDivisionError("of a test"),
}


class Plan:
    """Counts the statements that connections run, and fails at a chosen one."""

    def __init__(self):
        self.begin()

    def begin(self, at=None, when=None, error=None, *, rolls_back=True):
        self.at, self.when, self.error, self.rolls_back = at, when, error, rolls_back
        self.steps, self.commits, self.on_commit = [], 0, lambda: None
        self.commits_at_fault = 0

    def run(self, text, action):
        number = len(self.steps)
        self.steps.append(text)
        self._fail(number, "before")
        result = action()
        if text == "COMMIT":
            self.commits += 1
            self.on_commit()
        self._fail(number, "after")
        return result

    def _fail(self, number, when):
        if (number, when) == (self.at, self.when):
            self.commits_at_fault = self.commits
            raise self.error


@pytest.fixture(name="plan")
def _plan():
    plan = Plan()

    class Cursor(sqlite3.Cursor):
        def execute(self, text, parameters=()):
            try:
                return plan.run(text, lambda: super(Cursor, self).execute(text, parameters))
            except BaseException:
                self.close()  # a statement that fails does not go on reading
                raise

        executemany = executescript = None  # would not be counted

    class CountedConnection(Connection):
        def cursor(self, factory=Cursor):
            return super().cursor(factory)

        def execute(self, text, parameters=()):
            return self.cursor().execute(text, parameters)

        def commit(self):
            return plan.run("COMMIT", super().commit)

        def rollback(self):
            if not plan.rolls_back:
                raise refusal(sqlite3.SQLITE_IOERR)
            super().rollback()

    plan.factory = CountedConnection
    return plan


@dataclass
class Scenario:
    """A request that writes; `of` is its route."""

    of: str
    send: Callable[[Client, list], Result]  # to the client, with two sessions and what `mail` gives
    status: int = 200
    settings: dict = field(default_factory=dict)
    renews: bool = False
    mail: Callable[[MailingClient, str], object] | None = None  # what it gives, if it mails


SCENARIOS = {
    "register": Scenario("POST /register", lambda client, _: client.register(**ANOTHER), 201),
    "login": Scenario("POST /login", lambda client, _: client.log_in()),
    "login that fails": Scenario("POST /login", lambda client, _: client.log_in(password="x"), 401),
    "login of nobody": Scenario("POST /login", lambda client, _: client.log_in("nobody"), 401),
    "login with a rehash": Scenario(
        "POST /login", lambda client, _: client.log_in(), 200, STRONGER
    ),
    "login of one too many": Scenario(
        "POST /login", lambda client, _: client.log_in(), 200, {"max_sessions": 2}
    ),
    "logout": Scenario(
        "POST /logout", lambda client, tokens: client.request_as(tokens[0], "POST", "/logout")
    ),
    "logout everywhere": Scenario(
        "POST /logout",
        lambda client, tokens: client.request_as(
            tokens[0], "POST", "/logout", {"everywhere": True}
        ),
    ),
    "end the others": Scenario(
        "DELETE /sessions",
        lambda client, tokens: client.request_as(tokens[0], "DELETE", "/sessions"),
    ),
    "end one": Scenario(
        "DELETE /sessions/{session_id}",
        lambda client, tokens: client.request_as(
            tokens[0], "DELETE", f"/sessions/{id_of(client, tokens[1])}"
        ),
    ),
    "reauthenticate": Scenario(
        "POST /sessions/reauthenticate",
        lambda client, tokens: client.request_as(
            tokens[0], "POST", "/sessions/reauthenticate", {"password": USER["password"]}
        ),
    ),
    "reauthenticate wrongly": Scenario(
        "POST /sessions/reauthenticate",
        lambda client, tokens: client.request_as(
            tokens[0], "POST", "/sessions/reauthenticate", {"password": "x"}
        ),
        403,
    ),
    "change the password": Scenario(
        "PUT /user/password",
        lambda client, tokens: client.request_as(
            tokens[0],
            "PUT",
            "/user/password",
            {"current_password": USER["password"], "new_password": "battery staple"},
        ),
    ),
    "rename": Scenario(
        "PATCH /user",
        lambda client, tokens: client.request_as(tokens[0], "PATCH", "/user", {"username": "new"}),
    ),
    "delete the user": Scenario(
        "DELETE /user",
        lambda client, tokens: client.request_as(
            tokens[0], "DELETE", "/user", {"password": USER["password"]}
        ),
    ),
    "renew": Scenario("GET /user", lambda client, tokens: client.get_as(tokens[0]), renews=True),
}


MAILS = {
    "ask for a reset": Scenario(
        "POST /password/reset/request",
        lambda client, _: client.ask_for_reset(USER["email"]),
        202,
        mail=lambda *_: "",
    ),
    "reset": Scenario(
        "POST /password/reset",
        lambda client, tokens: client.reset(tokens[2]),
        mail=lambda client, _: client.reset_token(USER["email"]),
    ),
    "ask for a verification": Scenario(
        "POST /user/email/verify/request",
        lambda client, tokens: client.request_as(tokens[0], "POST", "/user/email/verify/request"),
        202,
        mail=lambda *_: "",
    ),
    "verify": Scenario(
        "POST /user/email/verify",
        lambda client, tokens: client.request_as(
            tokens[0], "POST", "/user/email/verify", {"token": tokens[2]}
        ),
        mail=lambda client, token: mailed(
            client, client.request_as(token, "POST", "/user/email/verify/request"), USER["email"]
        ),
    ),
    "ask for a change of the email": Scenario(
        "POST /user/email",
        lambda client, tokens: ask(client, tokens[0]),
        202,
        mail=lambda *_: "",
    ),
    "give up a change of the email": Scenario(
        "DELETE /user/email/pending",
        lambda client, tokens: client.request_as(tokens[0], "DELETE", "/user/email/pending"),
        mail=lambda client, token: mailed(client, ask(client, token), NEW),
    ),
    "confirm a change of the email": Scenario(
        "POST /user/email/confirm",
        lambda client, tokens: confirm(client, tokens[0], {"token": tokens[2]}),
        mail=lambda client, token: mailed(client, ask(client, token), NEW),
    ),
    "undo a change of the email": Scenario(
        "POST /user/email/undo",
        lambda client, tokens: client.post("/user/email/undo", {"token": tokens[2]}),
        mail=lambda client, token: mailed(client, changed(client, token), USER["email"]),
    ),
    "not me": Scenario(
        "POST /user/not-me",
        lambda client, tokens: client.post("/user/not-me", {"token": tokens[2]}),
        mail=lambda client, token: mailed(
            client, client.request_as(token, "PATCH", "/user", {"username": "new"}), USER["email"]
        ),
    ),
    "ask for a login by mail": Scenario(
        "POST /login/mail",
        lambda client, _: Browser(client).ask(),
        202,
        SETTINGS,
        mail=lambda *_: "",
    ),
    "log in by a mailed link": Scenario(
        "POST /login/mail/verify",
        lambda client, given: Browser(client, **given[2][1]).log_in(given[2][0]),
        200,
        SETTINGS,
        mail=lambda client, _: asked_for_login(client, "link"),
    ),
    "log in by a mailed code": Scenario(
        "POST /login/mail/verify",
        lambda client, given: Browser(client, **given[2][1]).log_in(given[2][0]),
        200,
        SETTINGS,
        mail=lambda client, _: asked_for_login(client, "code"),
    ),
    "register with a proof": Scenario(
        "POST /register",
        lambda client, _: client.register(**ANOTHER),
        202,
        PROOFS,
        mail=lambda *_: "",
    ),
    "prove by a mailed link": Scenario(
        "POST /register/verify",
        lambda client, given: verify(client, *given[2]),
        201,
        PROOFS,
        mail=lambda client, _: registered(client, "link"),
    ),
    "prove by a mailed code": Scenario(
        "POST /register/verify",
        lambda client, given: verify(client, *given[2]),
        201,
        PROOFS,
        mail=lambda client, _: registered(client, "code"),
    ),
    "prove in another browser": Scenario(
        "POST /register/verify",
        lambda client, given: verify(client, {**given[2][0], "password": ANOTHER["password"]}),
        201,
        PROOFS,
        mail=lambda client, _: registered(client, "link"),
    ),
}
EVERY = SCENARIOS | MAILS


def mailed(client, answer, address):
    """Return the token of the link that follows an answer, by mail to an address."""
    assert answer.status_code < 300
    return token_in(mail_to(client, address))


def changed(client, token):
    """Change the email of a session's user; return the answer."""
    return confirm(client, token, {"token": mailed(client, ask(client, token), NEW)})


def asked_for_login(client, kind):
    """Ask for a login by mail; return the body that gives what is mailed, and the cookies."""
    browser = Browser(client)
    browser.ask()
    return proof_in(client.mail(), kind), browser.cookies


def registered(client, kind):
    """Register with a proof; return the body that gives what is mailed, and the cookie's header."""
    browser = browser_of(client.register(**ANOTHER))
    return proof_in(client.mail(), kind), browser


def id_of(client, token):
    core = client.app.core
    return public_id(core.of(SessionTokens).read(token, core.clock()))


class World:
    """A database whose content can be read and put back as a whole."""

    def __init__(self, path, earlier=None):
        self._file = sqlite3.connect(path, isolation_level=None)
        self._file.execute("PRAGMA synchronous = OFF")
        self._kept = sqlite3.connect(":memory:")
        self._file.backup(self._kept)
        values = {value for row in self._rows() for value in row}
        self._known = earlier._known if earlier else values

    def put_back(self):
        self._kept.backup(self._file)

    def close(self):
        self._file.close()
        self._kept.close()

    def content(self):
        """Every row of every table; what is drawn anew each time is numbered, not compared.

        A budget that has all its tries is as good as none.
        """
        drawn = {}
        rows = [row for row in self._rows() if row[0] != "limits" or row[3]]
        return [tuple(self._plain(value, drawn) for value in row) for row in rows]

    def _plain(self, value, drawn):
        if isinstance(value, int) and value > REAL_TIME:
            return "the real time"
        if isinstance(value, str) and value not in self._known and OURS.match(value):
            costs = value.rpartition("$")[0].rpartition("$")[0]
            return f"{costs} {drawn.setdefault(value, len(drawn))}"
        return HASHED.sub(r"\1", value) if isinstance(value, str) else value

    def _rows(self):
        names = self._file.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")
        for (name,) in names.fetchall():
            for row in self._file.execute(f'SELECT * FROM "{name}" ORDER BY 1').fetchall():
                yield (name, *row)


class Trial:
    """Sends the request of a scenario, again and again, from the same beginning."""

    def __init__(self, scenario, client, given, plan, world):
        self.scenario, self.plan, self.world = scenario, plan, world
        self._client, self._given = client, given
        self.database = client.app.core.database
        self.states = [world.content()]  # before, and after each commit where nothing fails

    def send(self, *fault, **options):
        self.plan.begin(*fault, **options)
        return self.scenario.send(self._client, self._given)

    def count(self):
        """Run it without a fault; give the statements, with BEGIN and COMMIT among them."""
        self.plan.begin()
        self.plan.on_commit = lambda: self.states.append(self.world.content())
        answer = self.scenario.send(self._client, self._given)
        assert self.scenario.status == answer.status_code
        assert self.states[-1] == self.world.content()
        return self.plan.steps

    def fails(self, at, when, kind, **options):
        """Run it with one fault, and hold the outcome to the promise; then run it again."""
        self.world.put_back()
        answer = self.send(at, when, KINDS[kind](), **options)
        commits = self.plan.commits_at_fault

        survives = self.scenario.renews and at > 0 and kind != "unexpected"
        status, error = (500, "internal_error") if kind == "unexpected" else (503, "unavailable")
        assert (200 if survives else status) == answer.status_code
        assert answer.json.get("error") == (None if survives else error)
        assert answer.headers.get("retry-after") == ("1" if answer.status_code == 503 else None)
        assert "set-cookie" not in answer.headers
        assert answer.json.get("user") is None or survives
        assert self._kept(at, commits, kind) == self.world.content()

        again = self.send()
        assert again.status_code < 500
        if commits < len(self.states) - 1:  # the change is not made, so it can be made again
            assert self.scenario.status == again.status_code
        if commits == 0:
            assert self.states[-1] == self.world.content()
        return commits

    def _kept(self, at, commits, kind):
        """Return what must remain; a try is given back if the database fails in what it was for.

        The tries of a mail are taken with the mail, in one transaction.
        """
        kept = self.states[commits]
        gives_back = kind != "unexpected" and "COMMIT" in self.plan.steps[:at]
        of_mails = [
            row
            for row in kept
            if row[0] != "limits" or row[1].startswith(("mail-address", "mail-network"))
        ]
        return of_mails if gives_back else kept


def settings_of(scenario):
    """Return the settings of a scenario's service, but for the limits."""
    mode = {"email_verification": "optional"} if scenario.mail else {}
    return mode | scenario.settings


def prepared(make, scenario):
    """Make what a scenario finds; return two sessions, and what its mail gives."""
    mode = {"email_verification": "optional"} if scenario.mail else {}
    client = make(rate_limits="off", **mode)
    given = [token_of(client.register()), token_of(client.log_in())]
    client.register(**OTHER)
    if scenario.mail:
        client.mails()
        if scenario.settings:
            client = make(rate_limits="off", **settings_of(scenario))
            client.mails()
        given.append(scenario.mail(client, given[0]))
    return given


@pytest.fixture(name="trial_of")
def _trial_of(make_client, make_mailing, plan, clock, tmp_path):
    """Return the function that makes a scenario's trial."""
    worlds = []

    def trial_of(scenario, rate_limits="off"):
        make = make_mailing if scenario.mail else make_client
        given = prepared(make, scenario)
        client = make(rate_limits=rate_limits, **settings_of(scenario))
        client.app.core.database.connections.factory = plan.factory
        clock.move(3_600 if scenario.renews else 60)
        client.query("PRAGMA synchronous = OFF")  # no power is cut here
        worlds.append(World(tmp_path / "authapi.db"))
        return Trial(scenario, client, given, plan, worlds[-1])

    yield trial_of
    for world in worlds:
        world.close()


@pytest.mark.parametrize("name", EVERY)
def test_all_or_nothing(name, trial_of):
    """A fault at any statement leaves whole transactions or nothing; the next request works.

    The limits are on, so a try is a transaction of its own before the change.
    """
    trial = trial_of(EVERY[name], rate_limits="on")
    steps = trial.count()
    assert steps[-1] == "COMMIT"
    assert len(steps) >= 4

    for at in range(len(steps)):
        for when in ("before", "after"):
            for kind in KINDS:
                commits = trial.fails(at, when, kind)
                assert commits == steps[: at + (when == "after")].count("COMMIT")


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fault_of_the_rollback_too(name, trial_of):
    """If the rollback fails as well, nothing is kept, and nothing stays locked."""
    trial = trial_of(SCENARIOS[name])
    for at in range(len(trial.count())):
        trial.fails(at, "before", "I/O", rolls_back=False)


@pytest.mark.parametrize("name", ["login", "rename"])
def test_the_log_tells_what_is_kept(name, trial_of, caplog):
    """The log names an event only if its change was committed."""
    caplog.set_level("INFO", "authapi.events")
    trial = trial_of(SCENARIOS[name])
    steps = trial.count()
    trial.world.put_back()
    caplog.clear()

    trial.send(steps.index("COMMIT"), "before", KINDS["full"]())
    assert caplog.messages == [line for line in caplog.messages if line.startswith("request ")]
    trial.send()
    assert [record.name for record in caplog.records].count("authapi.events") == 1


ONE_USERS = {"login", "login with a rehash", "login of one too many", "logout everywhere"}
ONE_USERS |= {"end the others", "end one", "reauthenticate", "change the password", "rename"}
ONE_USERS |= {"delete the user", "logout", "reset", "not me", "undo a change of the email"}
ONE_USERS |= {"verify", "give up a change of the email", "confirm a change of the email"}
ONE_USERS |= {"ask for a verification", "ask for a change of the email"}
ONE_USERS |= {"log in by a mailed link", "log in by a mailed code"}


@pytest.mark.parametrize("name", EVERY)
def test_a_change_of_one_user_names_the_user(name, trial_of, monkeypatch):
    """Changes that read and write rows of one user say so, for an engine with many writers."""
    trial = trial_of(EVERY[name])
    database, named = trial.database, []
    transaction = database.transaction
    monkeypatch.setattr(
        database,
        "transaction",
        lambda *patience, of=None, **more: (
            named.append(of) or transaction(*patience, of=of, **more)
        ),
    )

    trial.send()

    users = [{of} if isinstance(of, int) else set(of) for of in named if of]
    assert users == [{1}] * (name in ONE_USERS)


def test_every_route_that_writes_is_tried(make_mailing):
    """Every route that writes has a scenario. `/verify/{path}` only reads, in any method."""
    app = make_mailing(email_verification="required", mail_login="on").app
    found = {
        f"{responder.method} {route.path}"
        for route in falcon.inspect.inspect_routes(app)
        if not route.path.startswith("/verify/")
        for responder in route.methods
        if responder.method in {"POST", "PUT", "PATCH", "DELETE"} and not responder.internal
    }

    assert {each.of for each in EVERY.values()} - {"GET /user"} == found
