"""A second factor of the tests' own: a code that everybody knows, for users who want one.

It stands for a feature such as TOTP. Nothing in the library knows it.

Endpoints: POST /factors, POST /login/second, POST /sessions/code, GET /vault.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import msgspec

from authapi import CredentialsChanged, Event, Failure, fresh, principal_of, strong
from authapi.cookies import Cookie
from authapi.features.limits import Limits
from authapi.features.sign_in import Proof, ProofRejected, SignIn
from authapi.features.users import UserRepository
from authapi.middleware import caller_of
from authapi.operations import operation

REQUIRES = ("limits", "sign_in", "users")

CODE = "123456"
LOGIN = Cookie("login", max_age=300)
OTP = frozenset({"otp"})


class SecondFactorRequired(Failure):
    """Raised when the first factor was right, and the user has a second one."""

    status, error, message = 401, "second_factor_required", "Give your second factor."


class InvalidCode(ProofRejected):
    """Raised when a code is wrong."""

    status, error, message = 401, "invalid_code", "The code is wrong."


@dataclass(frozen=True, slots=True)
class SecondFactorAsked(Event):
    """A first factor was right."""


@dataclass(frozen=True, slots=True)
class FactorAdded(Event):
    """A user has a second factor."""


class PendingClaims(msgspec.Struct, frozen=True):
    """The payload of the token of a login whose first factor was right."""

    sub: str
    ver: int
    methods: list[str]
    exp: int


class CodeBody(msgspec.Struct):
    """A code."""

    code: str


class SecondFactors:
    """Knows who has a second factor, asks for it, and checks it."""

    def __init__(self, core):
        self.users = set()
        self._core = core
        self._accounts = core.of(UserRepository)
        self._tokens = core.tokens.signed("login+jwt", PendingClaims)
        self._cookie = core.cookies.add(LOGIN)
        self.limit = core.of(Limits).declare("second-factor", "5/hour", in_a_row=20)

    def step(self, req, resp, proof):
        """Ask for the second factor of users who have one, unless the browser is trusted."""
        user = proof.credential.user
        if user.id not in self.users or proof.second_factor:
            return proof
        if req.get_header("X-Trusted"):
            return replace(proof, methods=proof.methods | {"dev"}, second_factor=False)
        self._core.events.emit(SecondFactorAsked(user.id, caller_of(req)))
        claims = PendingClaims(
            sub=str(user.id),
            ver=proof.credential.credentials_version,
            methods=sorted(proof.methods),
            exp=int(self._core.clock()) + LOGIN.max_age,
        )
        self._cookie.set(resp, self._tokens.issue(claims))
        return SecondFactorRequired()

    def pending(self, req):
        """The proof of the first factor. Raises SecondFactorRequired where there is none."""
        for token in self._cookie.values(req):
            claims = self._tokens.read(token, self._core.clock())
            credential = self._accounts.by_id(int(claims.sub))
            if credential and credential.credentials_version == claims.ver:
                return Proof(credential=credential, methods=frozenset(claims.methods))
        raise SecondFactorRequired

    def check(self, code, credential):
        """The proof of a code. Raises InvalidCode."""
        if code != CODE:
            raise InvalidCode("wrong_code")
        return Proof(credential=credential, methods=OTP, second_factor=True)


class SecondStepResource:
    """Logs in by the second factor."""

    public = True

    def __init__(self, core):
        self._core, self._sign_in = core, core.of(SignIn)
        self._factors = core.of(SecondFactors)

    @operation("Log in by a second factor.", body=CodeBody)
    def on_post(self, req, resp, body):
        first = self._factors.pending(req)
        user = first.credential.user
        budgets = [self._factors.limit.of(str(user.id))]
        with self._sign_in.attempt(budgets, caller_of(req), user.id):
            proof = self._factors.check(body.code, first.credential)
            both = replace(proof, methods=proof.methods | first.methods)
            self._sign_in.finish(req, resp, lambda: both, of=user.id)
        self._core.wire.answer_signed_in(resp, 200, "Logged in.", user)


class CodeResource:
    """Takes a code in a session; `add` makes it the user's second factor."""

    def __init__(self, core, *, add=False):
        self._core, self._sign_in = core, core.of(SignIn)
        self._factors, self._adds = core.of(SecondFactors), add
        self.needs = (fresh, strong) if add else ()

    @operation("Give a code.", body=CodeBody)
    def on_post(self, req, resp, body):
        session = principal_of(req).session
        check = partial(self._factors.check, body.code)
        budget = self._factors.limit.of(str(session.user.id))
        with self._sign_in.proven_again(session, caller_of(req), check, budget) as proof:
            if self._adds:
                add = partial(self._factors.users.add, session.user.id)
                events = (FactorAdded, CredentialsChanged)
                self._sign_in.refresh(req, resp, proof, change=add, events=events)
            else:
                self._sign_in.refresh(req, resp, proof)
        self._core.wire.answer_signed_in(resp, 200, "Thank you.", session.user)


class VaultResource:
    """A resource that asks for a second factor from users who have one."""

    needs = (strong,)

    def on_get(self, req, resp):
        session = principal_of(req).session
        resp.media = {"methods": sorted(session.methods), "aal": session.aal}


def setup(app, core):
    """Add the routes, and ask for second factors."""
    core.of(SignIn).require(core.of(SecondFactors).step)
    app.add_route("/login/second", SecondStepResource(core))
    app.add_route("/factors", CodeResource(core, add=True))
    app.add_route("/sessions/code", CodeResource(core))
    app.add_route("/vault", VaultResource())
