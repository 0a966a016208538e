"""Two processes on one database against a plain model of what they must answer."""

import http.client
import itertools
import json
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from conftest import process
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

EXAMPLES, STEPS = int(os.environ.get("MODEL_EXAMPLES", "25")), 25
ONE_OF_TWO = st.integers(0, 1)
ANY = st.integers(0, 1_000)  # one of those that there are, by the remainder
MOSTLY = st.sampled_from((True, True, True, False))
WRONG = "wrong password"
NAMES = [("anna", "Anna"), ("bob", "BOB"), ("straße", "STRASSE")]  # two spellings of each


@pytest.fixture(scope="module", autouse=True)
def _processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    options = {"AUTHAPI_RATE_LIMITS": "off", "AUTHAPI_LOG_LEVEL": "error"}  # nobody reads stderr
    with process(folder, **options) as (_, one), process(folder, **options) as (_, other):
        Machine.ports = [urlsplit(url).port for url in (one, other)]
        yield


@dataclass
class User:
    """The model's data about a user; sessions are tokens."""

    name: int
    username: str
    email: int
    password: str
    sessions: list[str] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """Does what users do, in either process, and compares each answer with the model's."""

    ports = ()
    numbers, passwords = itertools.count(), itertools.count(1)

    @initialize()
    def begin(self):
        self.number = next(self.numbers)
        self.users = []
        self.tokens = []
        self.connections = [http.client.HTTPConnection("127.0.0.1", port) for port in self.ports]
        for which in (0, 1):
            self.register(which, name=which, spelling=0, email=which)
            self.log_in(1 - which, who=which, known=True, by=0, right=True)

    def teardown(self):
        for connection in self.connections:
            connection.close()

    def ask(self, which, method, path, body=None, token=None):
        """Return the status, the body and the new session token of an answer."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Cookie"] = f"jwt={token}"
        connection = self.connections[which]
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, headers)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        cookies = [line.partition(";")[0] for line in answer.headers.get_all("Set-Cookie") or []]
        tokens = [cookie[4:] for cookie in cookies if cookie.startswith("jwt=") and cookie[4:]]
        return answer.status, document, tokens[0] if tokens else None

    def email(self, number):
        return f"e{number}-{self.number}@example.com"

    def username(self, name, spelling):
        return f"{NAMES[name][spelling]}{self.number}"

    def holder(self, **fields):
        (*found,) = [u for u in self.users if all(getattr(u, k) == v for k, v in fields.items())]
        return found[0] if found else None

    def pick(self, number, live):
        """One of the tokens that there were, of those that are alive where there are any."""
        alive = [token for token in self.tokens if self.owner(token)] if live else []
        tokens = alive or self.tokens
        return tokens[number % len(tokens)]

    def owner(self, token):
        return next((user for user in self.users if token in user.sessions), None)

    def opened(self, user, token):
        user.sessions.append(token)
        self.tokens.append(token)

    def replaced(self, user, old, new):
        user.sessions = [new if token == old else token for token in user.sessions]
        self.tokens.append(new)

    @rule(which=ONE_OF_TWO, name=st.integers(0, 2), spelling=ONE_OF_TWO, email=st.integers(0, 2))
    def register(self, which, name, spelling, email):
        username = self.username(name, spelling)
        body = {"username": username, "email": self.email(email), "password": "password 0"}
        status, document, token = self.ask(which, "POST", "/register", body)
        if self.holder(name=name):
            assert (status, document["error"]) == (409, "username_taken")
        elif self.holder(email=email):
            assert (status, document["error"]) == (409, "email_taken")
        else:
            assert (status, document["user"]["username"]) == (201, username)
            user = User(name, username, email, "password 0")
            self.users.append(user)
            self.opened(user, token)

    @rule(which=ONE_OF_TWO, who=ANY, known=MOSTLY, by=st.integers(0, 2), right=MOSTLY)
    def log_in(self, which, who, known, by, right):
        if known and self.users:
            user = self.users[who % len(self.users)]
            identifier = self.email(user.email) if by == 2 else self.username(user.name, by)
        else:
            user = self.holder(name=who % 3)
            identifier = self.username(who % 3, by % 2)
        password = user.password if user and right else WRONG
        body = {"usernameOrEmail": identifier, "password": password}
        status, document, token = self.ask(which, "POST", "/login", body)
        if user and right:
            assert (status, document["user"]["username"]) == (200, user.username)
            self.opened(user, token)
        else:
            assert (status, document["error"], token) == (401, "invalid_credentials", None)

    @precondition(lambda self: self.tokens)
    @rule(which=ONE_OF_TWO, pick=ANY, live=MOSTLY, everywhere=st.booleans())
    def log_out(self, which, pick, live, everywhere):
        token = self.pick(pick, live)
        user = self.owner(token)
        body = {"everywhere": True} if everywhere else None
        status, document, _ = self.ask(which, "POST", "/logout", body, token)
        if everywhere and not user:
            assert (status, document["error"]) == (401, "invalid_token")
            return
        assert status == 200
        if user:
            user.sessions = [] if everywhere else [t for t in user.sessions if t != token]

    @precondition(lambda self: self.tokens)
    @rule(which=ONE_OF_TWO, pick=ANY, live=MOSTLY, name=st.integers(0, 2), spelling=ONE_OF_TWO)
    def rename(self, which, pick, live, name, spelling):
        token = self.pick(pick, live)
        user, username = self.owner(token), self.username(name, spelling)
        holder = self.holder(name=name)
        status, document, new = self.ask(which, "PATCH", "/user", {"username": username}, token)
        if not user:
            assert status == 401
        elif holder and holder is not user:
            assert (status, document["error"]) == (409, "username_taken")
        else:
            assert (status, document["user"]["username"]) == (200, username)
            user.name, user.username = name, username
            self.also(user, token, new)

    def also(self, user, token, new):
        """Another token of the same session: the model goes on with the new one."""
        self.tokens = [new if each == token else each for each in self.tokens]
        user.sessions = [new if each == token else each for each in user.sessions]

    @precondition(lambda self: self.tokens)
    @rule(which=ONE_OF_TWO, pick=ANY, live=MOSTLY, right=MOSTLY)
    def change_password(self, which, pick, live, right):
        token = self.pick(pick, live)
        user = self.owner(token)
        current = user.password if user and right else WRONG
        new = f"password {next(self.passwords)}"
        body = {"current_password": current, "new_password": new}
        status, document, issued = self.ask(which, "PUT", "/user/password", body, token)
        if not user:
            assert status == 401
        elif not right:
            assert (status, document["error"]) == (403, "wrong_password")
        else:
            assert status == 200
            user.password, user.sessions = new, []
            self.opened(user, issued)

    @precondition(lambda self: self.tokens)
    @rule(which=ONE_OF_TWO, pick=ANY, live=MOSTLY, right=MOSTLY)
    def reauthenticate(self, which, pick, live, right):
        token = self.pick(pick, live)
        user = self.owner(token)
        body = {"password": user.password if user and right else WRONG}
        status, document, new = self.ask(which, "POST", "/sessions/reauthenticate", body, token)
        if not user:
            assert status == 401
        elif not right:
            assert (status, document["error"]) == (403, "wrong_password")
        else:
            assert status == 200
            self.replaced(user, token, new)

    @precondition(lambda self: self.tokens)
    @rule(which=ONE_OF_TWO, pick=ANY, live=MOSTLY, other=ANY)
    def revoke(self, which, pick, live, other):
        token, target = self.pick(pick, live), self.pick(other, live)
        user = self.owner(token)
        _, shown, _ = self.ask(1 - which, "GET", "/sessions", token=target)
        known = [each["id"] for each in shown.get("sessions", []) if each["current"]]
        session_id = known[0] if known else "0" * 64
        status, *_ = self.ask(which, "DELETE", f"/sessions/{session_id}", token=token)
        if not user:
            assert status == 401
        elif target in user.sessions:
            assert status == 200
            user.sessions.remove(target)
        else:
            assert status == 404

    @precondition(lambda self: self.tokens)
    @rule(which=ONE_OF_TWO, pick=ANY, live=MOSTLY)
    def revoke_others(self, which, pick, live):
        token = self.pick(pick, live)
        user = self.owner(token)
        status, document, _ = self.ask(which, "DELETE", "/sessions", token=token)
        if not user:
            assert status == 401
        else:
            assert (status, document["ended"]) == (200, len(user.sessions) - 1)
            user.sessions = [token]

    @precondition(lambda self: self.tokens)
    @rule(which=ONE_OF_TWO, pick=ANY, live=MOSTLY, right=MOSTLY)
    def delete(self, which, pick, live, right):
        token = self.pick(pick, live)
        user = self.owner(token)
        body = {"password": user.password if user and right else WRONG}
        status, *_ = self.ask(which, "DELETE", "/user", body, token)
        if not user:
            assert status == 401
        elif not right:
            assert status == 403
        else:
            assert status == 200
            self.users.remove(user)

    @invariant()
    def tokens_are_alive_or_dead_in_both(self):
        for token in self.tokens[-8:]:
            user = self.owner(token)
            for which in (0, 1):
                status, document, _ = self.ask(which, "GET", "/user", token=token)
                if user:
                    assert (status, document["user"]["username"]) == (200, user.username)
                else:
                    assert (status, document["error"]) == (401, "invalid_token")

    @invariant()
    def as_many_sessions_as_known(self):
        for user in self.users:
            for token in user.sessions[:1]:
                _, shown, _ = self.ask(0, "GET", "/sessions", token=token)
                assert len(shown["sessions"]) == len(user.sessions)


Machine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize="MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
TestModel = Machine.TestCase
