"""What clients did to accounts, and what the database must hold of them for it."""

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

MOST_STEPS = 20  # of one account, then its writer turns to another
FRESH_FOR = 240  # seconds after which no step needs a fresh session; the service allows 300
BUSY = 503  # the service did nothing, and says so


@dataclass(frozen=True)
class Answer:
    """An answer that was read to its end; the token is the one that it sets, or empty."""

    status: int
    body: dict[str, Any]
    token: str
    request_id: str


@dataclass(frozen=True)
class Step:
    """A request in an account, and what it makes of it.

    `status` is the right one, `kept` are the sessions that are left, `opens` says whether there is
    one more, `events` are those that the audit log gets.
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
    """What the database holds of an account: no user row where `version` is 0.

    `version` counts the passwords, `sessions` are public ids; of `unseen` more the token never
    reached the client.
    """

    username: str = ""
    version: int = 0
    sessions: frozenset[str] = frozenset()
    events: Counter[str] = field(default_factory=Counter)
    unseen: int = 0

    def __str__(self) -> str:
        """All of it, with the beginnings of the ids."""
        sessions = sorted(session[:8] for session in self.sessions) + ["unseen"] * self.unseen
        return f"({self.username!r}, password {self.version}, {sessions}, {dict(self.events)})"

    def after(self, step: Step, session_id: str = "") -> State:
        """What a step makes of it; without the id of the session that it opens, that is unseen."""
        known = {session_id} if step.opens and session_id else set()
        unseen = int(step.opens and not session_id)
        return State(
            step.username, step.version, step.kept | known, self.events + step.events, unseen
        )

    def allows(self, stored: State) -> bool:
        """Whether this is what was found, all of it and nothing else."""
        rest = stored.sessions - self.sessions
        found = replace(stored, sessions=stored.sessions - rest, unseen=len(rest))
        return self == found


@dataclass
class Account:
    """One account, through all that its one client did to it, a step after the other.

    `states[n]` is what it is after `n` steps, and `request_ids[n]` is the request of the step from
    there; it is empty where no answer came. `pending` is a step whose answer is still to come.
    """

    name: str
    user_id: int | None = None
    states: list[State] = field(default_factory=lambda: [State()])
    request_ids: list[str] = field(default_factory=list)
    logged_ids: set[str] = field(default_factory=set)  # of the requests that the audit log holds
    passwords: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)  # the public ids of their sessions
    opened_at: dict[str, float] = field(default_factory=dict)  # monotonic seconds, of sessions
    pending: Step | None = None

    @property
    def state(self) -> State:
        """What it is, but for a pending step."""
        return self.states[-1]

    @property
    def email(self) -> str:
        """The address, which never changes."""
        return f"{self.name}@example.com"

    @property
    def is_over(self) -> bool:
        """Whether it is deleted, or has seen enough."""
        return len(self.states) > MOST_STEPS or (len(self.states) > 1 and not self.state.version)

    def allowed(self) -> list[State]:
        """What it may be: as it was, or wholly as the pending step would have it."""
        after = [self.state.after(self.pending)] if self.pending else []
        return [self.state, *after]

    def take(self, step: Step, answer: Answer) -> str:
        """Note an acknowledged step; say what is wrong with the answer, if anything is."""
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
        """Take what was found for what became of the pending step."""
        if not self.state.allows(stored):
            self.states.append(stored)
            self.request_ids.append("")
        self.pending = None

    def next_step(self, rng: random.Random) -> Step:
        """One of the things that users do, at random."""
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
        """Come to be."""
        self.passwords = [f"{self.name} password 1"]
        body = {"username": self.name, "email": self.email, "password": self.passwords[0]}
        fields = {"username": self.name, "version": 1, "opens": True}
        return self._step("POST", "/register", "registered", status=201, body=body, **fields)

    def log_in(self, version: int) -> Step:
        """Log in with the password of that number; 0 is one that it never had."""
        password = self.passwords[version - 1] if version else "mistyped password"
        right = bool(version) and version == self.state.version
        event = "logged_in" if right else "login_failed"
        return self._step(
            "POST",
            "/login",
            *[event] * bool(self.state.version),  # of a user who is gone, nobody is told
            status=200 if right else 401,
            body={"usernameOrEmail": self.email, "password": password},
            opens=right,
        )

    def look(self, token: str) -> Step:
        """See who it is by a token, which works as long as the session does."""
        status = 200 if self.tokens[token] in self.state.sessions else 401
        return self._step("GET", "/user", status=status, token=token)

    def log_out(self, token: str) -> Step:
        """End the session of a token."""
        kept = self.state.sessions - {self.tokens[token]}
        return self._step("POST", "/logout", "logged_out", token=token, kept=kept)

    def log_out_everywhere(self, token: str) -> Step:
        """End all sessions."""
        events = ("logged_out", *self._revoked(token))
        kept: frozenset[str] = frozenset()
        body = {"everywhere": True}
        return self._step("POST", "/logout", *events, token=token, body=body, kept=kept)

    def revoke(self, token: str, session_id: str) -> Step:
        """End another session."""
        path, kept = f"/sessions/{session_id}", self.state.sessions - {session_id}
        return self._step("DELETE", path, "session_revoked", token=token, kept=kept)

    def revoke_others(self, token: str) -> Step:
        """End all sessions but that of a token."""
        kept = frozenset({self.tokens[token]})
        return self._step("DELETE", "/sessions", *self._revoked(token), token=token, kept=kept)

    def change_password(self, token: str) -> Step:
        """Have another password, and end all sessions but that of a token, which is rotated."""
        version = self.state.version + 1
        del self.passwords[version - 1 :]  # one that a crash has lost
        self.passwords.append(f"{self.name} password {version}")
        body = {"current_password": self.passwords[-2], "new_password": self.passwords[-1]}
        events = ("password_changed", "credentials_changed", *self._revoked(token))
        fields = {"version": version, "kept": frozenset(), "opens": True}
        return self._step("PUT", "/user/password", *events, token=token, body=body, **fields)

    def reauthenticate(self, token: str) -> Step:
        """Give a session another secret."""
        kept = self.state.sessions - {self.tokens[token]}
        body = {"password": self.passwords[self.state.version - 1]}
        fields = {"kept": kept, "opens": True}
        event = "reauthenticated"
        return self._step(
            "POST", "/sessions/reauthenticate", event, token=token, body=body, **fields
        )

    def rename(self, token: str) -> Step:
        """Have another username."""
        username = f"{self.name}-{len(self.states)}"
        body = {"username": username}
        return self._step(
            "PATCH", "/user", "user_renamed", token=token, body=body, username=username
        )

    def delete(self, token: str) -> Step:
        """Be gone."""
        body = {"password": self.passwords[self.state.version - 1]}
        fields = {"username": "", "version": 0, "kept": frozenset()}
        return self._step("DELETE", "/user", "user_deleted", token=token, body=body, **fields)

    def proofs(self) -> Iterator[Step]:
        """All that shows through the service what the account is, each right at its own moment.

        Every token it ever had, and every password, each right or refused.
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
    """What the session of a token is called: the SHA-256 of the secret id that it carries."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return hashlib.sha256(claims["sid"].encode()).hexdigest()


class Ledger:
    """The accounts of all writers, what was acknowledged to them, and the promises broken."""

    def __init__(self) -> None:
        """Begin with no accounts."""
        self.accounts: list[Account] = []
        self.broken: list[str] = []
        self.acknowledged = 0
        self.busy = 0  # answers that say so
        self._changed = threading.Condition()

    def open(self) -> Account:
        """Another account, which is still to be registered."""
        with self._changed:
            self.accounts.append(Account(f"user{len(self.accounts)}"))
            return self.accounts[-1]

    def perform(self, account: Account, step: Step, ask: Ask) -> None:
        """Do a step and note its answer. Raises OSError or HTTPException where none comes."""
        account.pending = step
        answer = ask(step)
        with self._changed:
            self.busy += answer.status == BUSY
            if fault := account.take(step, answer):
                self.broken.append(fault)
            self.acknowledged += bool(step.events)
            self._changed.notify_all()

    def wait_for(self, acknowledged: int, patience: float) -> bool:
        """Wait until so many writes are acknowledged; False where that takes too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self.acknowledged >= acknowledged, patience)
