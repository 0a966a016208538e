"""Signing in: SignIn opens a session for a proof of any kind. Nothing else opens one.

Endpoints: none. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import falcon

from authapi.budgets import Budget
from authapi.core import Core
from authapi.errors import Failure, InvalidToken
from authapi.events import Caller, Event
from authapi.features.limits import Limits
from authapi.features.lockout import LockedOut, LoginBudgets, LoginFailed
from authapi.features.replaced_sessions import ReplacedSessions
from authapi.features.sessions import LoggedIn, Reauthenticated, Sessions
from authapi.features.users import Credential, UserRepository
from authapi.middleware import caller_of
from authapi.passwords import Passwords
from authapi.principal import Assurance, Session, User, principal_of
from authapi.session_tokens import Issued, SessionTokens

REQUIRES = ("limits", "lockout", "replaced_sessions", "sessions", "users")

PASSWORD = frozenset({"pwd"})


class ProofRejected(Failure):
    """Raised for a proof that proves nothing, such as a wrong password: a failed login."""

    def __init__(self, reason: str) -> None:
        """Take the reason, one word for the log alone: `wrong_password`, `unknown_name`, …."""
        super().__init__()
        self.reason = reason


class InvalidCredentials(ProofRejected):
    """Raised when a login fails. The answer does not say why."""

    status, error, message = 401, "invalid_credentials", "Invalid credentials."
    challenge = "Bearer"
    field_types = (("user", type(None)),)

    @property
    def fields(self) -> dict[str, object]:
        """Return `user: null`, as documented."""
        return {"user": None}


class WrongPassword(ProofRejected):
    """Raised when a password given in a session is not that of the session's user."""

    status, error, message = 403, "wrong_password", "The password is wrong."


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof(Assurance):
    """The user that a client has proved to be, and the methods of the proof.

    `detail` is a word that a step leaves for the event: `new_browser`.
    """

    credential: Credential
    detail: str | None = None


Check = Callable[[Credential], Proof]
Step = Callable[[falcon.Request, falcon.Response, Proof], Proof | Failure]
Action = Callable[[falcon.Request, falcon.Response, Proof], None]


class SignIn:
    """Opens a session for a proof, unless a step refuses it. Nothing else opens sessions."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._limits = core.of(Limits)
        self._budgets = core.of(LoginBudgets)
        self._sessions = core.of(Sessions)
        self._replaced = core.of(ReplacedSessions)
        self._users = core.of(UserRepository)
        self._tokens = core.of(SessionTokens)
        self._steps: list[Step] = []
        self._actions: list[Action] = []

    def require(self, step: Step) -> None:
        """Ask `step` before each session is opened: a second factor, a verified address.

        It returns the proof to let it pass, another one in its place, or the failure to answer
        with. It runs in the transaction that would open the session, so it must not begin one. What
        it writes is kept, with or without a session. A failure that it raises undoes everything.
        """
        self._steps.append(step)

    def follow(self, action: Action) -> None:
        """Call `action` after each proof that was accepted, before the answer: to set a cookie."""
        self._actions.append(action)

    @contextmanager
    def attempt(
        self,
        budgets: Iterable[Budget],
        caller: Caller,
        user_id: int | None,
        session_id: str | None = None,
    ) -> Iterator[None]:
        """Take a try from each budget for the block, and record a ProofRejected that it raises.

        Not to be used inside a transaction: the failure is recorded in one of its own. Raises
        TooManyRequests. No try counts where the block raises Overloaded or Unavailable.
        """
        with self._limits.trying(*budgets) as last:
            try:
                yield
            except ProofRejected as rejected:
                with self._core.database.transaction():
                    failed = LoginFailed(user_id, caller, session_id, detail=rejected.reason)
                    self._core.events.emit(failed)
                    if last:
                        self._core.events.emit(LockedOut(user_id, caller, session_id))
                raise

    @contextmanager
    def proven_again(
        self, session: Session, caller: Caller, check: Check, budget: Budget | None = None
    ) -> Iterator[Proof]:
        """Check a proof of a session's user, and give it to the block.

        `budget` is the user's for such proofs, else that of passwords in sessions. Raises what
        `check` raises, TooManyRequests, or InvalidToken for a user who is gone. Not to be used
        inside a transaction.
        """
        credential, user_id = self._users.by_id(session.user.id), session.user.id
        if credential is None:
            raise InvalidToken
        networks = self._budgets.networks_of_known(caller.ip, user_id)
        budgets = [*networks, budget or self._budgets.password(user_id)]
        with self.attempt(budgets, caller, user_id, session.id):
            yield check(credential)

    def password(self, password: str) -> Check:
        """Return the check of a password in a session, which raises WrongPassword or Overloaded."""
        return partial(_check_password, self._core.passwords, password)

    def finish(  # noqa: PLR0913 - what ways to sign in differ in
        self,
        req: falcon.Request,
        resp: falcon.Response,
        prove: Callable[[], Proof],
        *,
        of: int | None = None,
        event: type[Event] = LoggedIn,
        always: bool = False,
    ) -> User:
        """Open a session, end those that the request brought, and hand out its token.

        `prove` returns the proof. It is called in the transaction that opens the session, so what
        it writes (a new user, a used-up code) is kept with it. `of` is the user's id, unless
        `prove` adds the user. `event` is emitted with the session, or, with `always`, also without
        one where a step refuses it. Raises the failure of that step, and InvalidCredentials where
        the user was deleted or disabled, or a credential changed, after the proof's was read.
        """
        core, caller = self._core, caller_of(req)
        with core.database.transaction(of=self._replaced.owners(req, of)):
            proof = prove()
            user = proof.credential.user
            passed = _passed(self._steps, req, resp, proof)
            if not isinstance(passed, Failure):
                issued = self._open(req, passed, caller)
                core.events.emit(event(user.id, caller, issued.session_id, passed.detail))
            elif always:
                core.events.emit(event(user.id, caller))
        if isinstance(passed, Failure):
            raise passed  # NOTE: after the commit, which keeps what the steps have written
        self._admit(req, resp, passed, issued)
        return user

    def refresh(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        proof: Proof,
        *,
        events: Iterable[type[Event]] = (Reauthenticated,),
        change: Callable[[], None] | None = None,
    ) -> User:
        """Give the session of a request a new token and make it fresh, after a proof in it.

        `change` changes the credential in the same transaction, before `events` are emitted, in
        this order. Raises what `change` raises, and InvalidToken where the session has ended
        meanwhile. The steps are not asked: the session is open.
        """
        core, caller, session = self._core, caller_of(req), principal_of(req).session
        with core.database.transaction(of=session.user.id):
            issued = self._sessions.rotate(session, proof)
            self._replaced.remember([session.id], by=issued.session_id)
            if change:
                change()
            for event in events:
                core.events.emit(event(session.user.id, caller, issued.session_id))
            credential = self._users.by_id(session.user.id) or proof.credential
        proof = replace(proof, credential=credential)
        self._admit(req, resp, proof, issued)
        return proof.credential.user

    def _open(self, req: falcon.Request, proof: Proof, caller: Caller) -> Issued:
        """Open a session, and end those that the request brought."""
        replaced = self._replaced.end_brought(req, caller)
        issued = self._sessions.open(proof.credential, proof, caller)
        if issued is None:
            raise InvalidCredentials("outdated_credential")
        self._replaced.remember(replaced, by=issued.session_id)
        return issued

    def _admit(
        self, req: falcon.Request, resp: falcon.Response, proof: Proof, issued: Issued
    ) -> None:
        self._tokens.hand_out(req, resp, issued)
        for action in self._actions:
            action(req, resp, proof)


def _check_password(passwords: Passwords, password: str, credential: Credential) -> Proof:
    verdict = passwords.verify(credential.password_hash, password, rehash=False)
    if not verdict.correct:
        raise WrongPassword(verdict.reason)
    return Proof(credential=credential, methods=PASSWORD)


def _passed(
    steps: Iterable[Step], req: falcon.Request, resp: falcon.Response, proof: Proof
) -> Proof | Failure:
    """Return what the steps make of a proof: the failure of the first that refuses it."""
    for step in steps:
        passed = step(req, resp, proof)
        if isinstance(passed, Failure):
            return passed
        proof = passed
    return proof


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: other features use SignIn."""
