"""The steps that clients took in accounts, and their expected effect on the database."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

MOST_STEPS = 20  # steps in one account, then its writer turns to another
FRESH_FOR = 240  # seconds after which no step needs a fresh session; the service allows 300
BUSY = 503  # statuses by which the service says that it did nothing


@dataclass(frozen=True)
class Answer:
    """An answer that was read to its end. The token is the one that it sets, or an empty text."""

    status: int
    body: dict[str, Any]
    token: str
    request_id: str


@dataclass(frozen=True)
class Step:
    """A request in an account, and its expected effect.

    `status` is the expected status, `kept` are the sessions that remain, `opens` says whether a
    session is added, and `events` are those that the audit log gets.
    """

    method: str
    path: str
    status: int
    username: str
    version: int
    kept: frozenset[str]
    body: dict[str, Any] | None = None
    token: str = ""
    opens: bool = False
    events: Counter[str] = field(default_factory=Counter)


Ask = Callable[[Step], Answer]


@dataclass(frozen=True)
class State:
    """An account as the database has it. A `version` of 0 means no row in `users`.

    `version` counts the passwords, `sessions` are public ids, and `unseen` counts further sessions
    whose token never reached the client.
    """

    username: str = ""
    version: int = 0
    sessions: frozenset[str] = frozenset()
    events: Counter[str] = field(default_factory=Counter)
    unseen: int = 0

    def __str__(self) -> str:
        """Return all of it, with shortened ids."""
        sessions = sorted(session[:8] for session in self.sessions) + ["unseen"] * self.unseen
        return f"({self.username!r}, password {self.version}, {sessions}, {dict(self.events)})"

    def after(self, step: Step, session_id: str = "") -> State:
        """Return the state after a step. A session without a known id is unseen."""
        known = {session_id} if step.opens and session_id else set()
        unseen = int(step.opens and not session_id)
        return State(
            step.username, step.version, step.kept | known, self.events + step.events, unseen
        )

    def allows(self, stored: State) -> bool:
        """Return whether this state is exactly the one that was found."""
        rest = stored.sessions - self.sessions
        found = replace(stored, sessions=stored.sessions - rest, unseen=len(rest))
        return self == found


@dataclass
class Account:
    """An account, and all steps that its only client performed.

    `states[n]` is its state after `n` steps. `request_ids[n]` is the request that followed, and
    empty if no answer came. `pending` is a step whose answer has not come yet.
    """

    name: str
    user_id: int | None = None
    states: list[State] = field(default_factory=lambda: [State()])
    request_ids: list[str] = field(default_factory=list)
    logged_ids: set[str] = field(default_factory=set)  # of requests that the audit log must hold
    passwords: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)  # the public ids of their sessions
    opened_at: dict[str, float] = field(default_factory=dict)  # monotonic seconds, by session
    pending: Step | None = None

    @property
    def state(self) -> State:
        """Return its state without a pending step."""
        return self.states[-1]

    @property
    def email(self) -> str:
        """Return the address, which never changes."""
        return f"{self.name}@example.com"

    @property
    def is_over(self) -> bool:
        """Return whether it is deleted, or has had enough steps."""
        return len(self.states) > MOST_STEPS or (len(self.states) > 1 and not self.state.version)

    def allowed(self) -> list[State]:
        """Return the states that it may have: as before, or with all of the pending step."""
        after = [self.state.after(self.pending)] if self.pending else []
        return [self.state, *after]

    def take(self, step: Step, answer: Answer) -> str:
        """Record an acknowledged step; return what is wrong with the answer, or an empty text."""
        self.pending = None
        if answer.status == BUSY:
            return ""
        shown = (answer.body.get("user") or {}).get("username", step.username)
        if (answer.status, shown) != (step.status, step.username):
            asked = f"{step.method} {step.path} of {self.email}"
            return f"{asked}: {answer.status} for {shown!r}, not {step.status}: {answer.body}"
        session_id = public_id(answer.token) if answer.token else ""
        if session_id:
            self.tokens[answer.token] = session_id
            self.opened_at.setdefault(session_id, time.monotonic())
        if step.path == "/register":
            self.user_id = answer.body["user"]["id"]
        self.states.append(self.state.after(step, session_id))
        self.request_ids.append(answer.request_id)
        if step.events.total():
            self.logged_ids.add(answer.request_id)
        return ""

    def settle(self, stored: State) -> None:
        """Accept the found state as the result of the pending step."""
        if not self.state.allows(stored):
            self.states.append(stored)
            self.request_ids.append("")
        self.pending = None

    def next_step(self, rng: random.Random) -> Step:
        """Return a random step of what users do."""
        if not self.request_ids:
            return self.register()
        live = [token for token, session in self.tokens.items() if session in self.state.sessions]
        if not live:
            return self.log_in(self.state.version)
        token = rng.choice(live)
        others = sorted(self.state.sessions - {self.tokens[token]})
        is_fresh = time.monotonic() - self.opened_at.get(self.tokens[token], 0) < FRESH_FOR
        choices: list[tuple[float, Callable[[], Step]]] = [
            (5, lambda: self.log_in(self.state.version)),
            (1, lambda: self.log_in(0)),
            (2, lambda: self.log_out(token)),
            (1, lambda: self.log_out_everywhere(token)),
            (3 if others and is_fresh else 0, lambda: self.revoke(token, rng.choice(others))),
            (1 if is_fresh else 0, lambda: self.revoke_others(token)),
            (2, lambda: self.change_password(token)),
            (1, lambda: self.reauthenticate(token)),
            (1 if is_fresh else 0, lambda: self.rename(token)),
            (0.5, lambda: self.delete(token)),
        ]
        weights = [weight for weight, _ in choices]
        (_, take) = rng.choices(choices, weights)[0]
        return take()

    def register(self) -> Step:
        """Return a registration."""
        self.passwords = [f"{self.name} password 1"]
        body = {"username": self.name, "email": self.email, "password": self.passwords[0]}
        fields = {"username": self.name, "version": 1, "opens": True}
        return self._step("POST", "/register", "registered", status=201, body=body, **fields)

    def log_in(self, version: int) -> Step:
        """Return a login with the password of that number; 0 is a password that it never had."""
        password = self.passwords[version - 1] if version else "mistyped password"
        right = bool(version) and version == self.state.version
        event = "logged_in" if right else "login_failed"
        return self._step(
            "POST",
            "/login",
            *[event] * bool(self.state.version),  # a deleted user gets no further events
            status=200 if right else 401,
            body={"usernameOrEmail": self.email, "password": password},
            opens=right,
        )

    def look(self, token: str) -> Step:
        """Return a session check with a token, which works while its session lives."""
        status = 200 if self.tokens[token] in self.state.sessions else 401
        return self._step("GET", "/user", status=status, token=token)

    def log_out(self, token: str) -> Step:
        """Return a logout of a token's session."""
        kept = self.state.sessions - {self.tokens[token]}
        return self._step("POST", "/logout", "logged_out", token=token, kept=kept)

    def log_out_everywhere(self, token: str) -> Step:
        """Return a logout of all sessions."""
        events = ("logged_out", *self._revoked(token))
        kept: frozenset[str] = frozenset()
        body = {"everywhere": True}
        return self._step("POST", "/logout", *events, token=token, body=body, kept=kept)

    def revoke(self, token: str, session_id: str) -> Step:
        """Return the end of another session."""
        path, kept = f"/sessions/{session_id}", self.state.sessions - {session_id}
        return self._step("DELETE", path, "session_revoked", token=token, kept=kept)

    def revoke_others(self, token: str) -> Step:
        """Return the end of all sessions except a token's."""
        kept = frozenset({self.tokens[token]})
        return self._step("DELETE", "/sessions", *self._revoked(token), token=token, kept=kept)

    def change_password(self, token: str) -> Step:
        """Return a password change, which ends all sessions but a token's, and rotates that."""
        version = self.state.version + 1
        del self.passwords[version - 1 :]  # a session that a crash has lost
        self.passwords.append(f"{self.name} password {version}")
        body = {"current_password": self.passwords[-2], "new_password": self.passwords[-1]}
        events = ("password_changed", "credentials_changed", *self._revoked(token))
        fields = {"version": version, "kept": frozenset(), "opens": True}
        return self._step("PUT", "/user/password", *events, token=token, body=body, **fields)

    def reauthenticate(self, token: str) -> Step:
        """Return a reauthentication, which gives a session another secret."""
        kept = self.state.sessions - {self.tokens[token]}
        body = {"password": self.passwords[self.state.version - 1]}
        fields = {"kept": kept, "opens": True}
        event = "reauthenticated"
        return self._step(
            "POST", "/sessions/reauthenticate", event, token=token, body=body, **fields
        )

    def rename(self, token: str) -> Step:
        """Return a rename."""
        username = f"{self.name}-{len(self.states)}"
        body = {"username": username}
        return self._step(
            "PATCH", "/user", "user_renamed", token=token, body=body, username=username
        )

    def delete(self, token: str) -> Step:
        """Return a deletion of the account."""
        body = {"password": self.passwords[self.state.version - 1]}
        fields = {"username": "", "version": 0, "kept": frozenset()}
        return self._step("DELETE", "/user", "user_deleted", token=token, body=body, **fields)

    def proofs(self) -> Iterator[Step]:
        """Yield steps that show the account's whole state through the service.

        They try every token and every password that it ever had, whether valid or not.
        """
        for token in list(self.tokens):
            yield self.look(token)
        for version in range(1, len(self.passwords) + 1):
            yield self.log_in(version)

    def _revoked(self, token: str) -> list[str]:
        return ["session_revoked"] * len(self.state.sessions - {self.tokens[token]})

    def _step(self, method: str, path: str, *events: str, **fields: Any) -> Step:  # noqa: ANN401
        unchanged = {
            "username": self.state.username,
            "version": self.state.version,
            "kept": self.state.sessions,
        }
        given = {"status": 200, "events": Counter(events), **unchanged, **fields}
        return Step(method, path, **given)


def public_id(token: str) -> str:
    """Return a session's public id: the SHA-256 of the secret id in its token."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return hashlib.sha256(claims["sid"].encode()).hexdigest()


class Ledger:
    """The accounts of all writers, what was acknowledged to them, and the broken promises."""

    def __init__(self) -> None:
        """Start without accounts."""
        self.accounts: list[Account] = []
        self.broken: list[str] = []
        self.acknowledged = 0
        self.busy = 0  # answers that are acknowledged
        self._changed = threading.Condition()

    def open(self) -> Account:
        """Return another account, which is still to be registered."""
        with self._changed:
            self.accounts.append(Account(f"user{len(self.accounts)}"))
            return self.accounts[-1]

    def perform(self, account: Account, step: Step, ask: Ask) -> None:
        """Perform a step and record its answer. Raises OSError or HTTPException if none comes."""
        account.pending = step
        answer = ask(step)
        with self._changed:
            self.busy += answer.status == BUSY
            if fault := account.take(step, answer):
                self.broken.append(fault)
            self.acknowledged += bool(step.events)
            self._changed.notify_all()

    def wait_for(self, acknowledged: int, patience: float) -> bool:
        """Wait for a number of acknowledged writes; return False if that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self.acknowledged >= acknowledged, patience)
