"""Login and logout.

Endpoints: POST /login, POST /logout. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated

import falcon
import msgspec
from msgspec import Meta

from authapi.answers import NobodyAnswer, SignedInAnswer
from authapi.authentication import Authentication
from authapi.bodies import has_json
from authapi.body_fields import Password, UsernameOrEmail
from authapi.body_tokens import refuses_cookies
from authapi.budgets import Budget, TooManyFailures, TooManyRequests
from authapi.core import Core
from authapi.errors import Failure, InvalidToken, NotAuthenticated, Overloaded
from authapi.events import Caller
from authapi.features.devices import COOKIE as DEVICE
from authapi.features.devices import Devices
from authapi.features.limits import Limits
from authapi.features.lockout import LoginBudgets
from authapi.features.replaced_sessions import ReplacedSessions
from authapi.features.sessions import LoggedOut, Sessions
from authapi.features.sign_in import PASSWORD, InvalidCredentials, Proof, SignIn
from authapi.features.users import Credential, UserRepository
from authapi.metrics import Counter
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.passwords import Verdict
from authapi.principal import Claims
from authapi.session_tokens import SessionTokens, public_id

REQUIRES = ("devices", "limits", "lockout", "replaced_sessions", "sessions", "sign_in", "users")

LOGIN = "/login"


class LoginBody(msgspec.Struct, rename="camel"):
    """A username or email, and the password."""

    username_or_email: UsernameOrEmail
    password: Password


class LoginResource:
    """Opens sessions by password."""

    public = True
    hashes = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._users = core.of(UserRepository)
        self._limits = core.of(Limits)
        self._budgets = core.of(LoginBudgets)
        self._devices = core.of(Devices)
        self._sign_in = core.of(SignIn)
        self._succeeded = _counted(core)

    def known_users(self, req: falcon.Request) -> list[str]:
        """Return the ids of the users whose browser this is, by its device cookies."""
        return self._devices.owners(req)

    def admit(self, req: falcon.Request, users: Iterable[str]) -> None:
        """Raise TooManyRequests where neither the network nor a known user has a try left."""
        budgets, address = self._budgets, caller_of(req).ip
        known = [budgets.networks_of_known(address, int(user)) for user in users]
        if not any(self._limits.have_tries(*each) for each in known):
            self._limits.require(*(known[0] if known else budgets.networks(address)))

    @operation(
        "Log in.",
        name="logIn",
        answers=SignedInAnswer,
        body=LoginBody,
        raises=(InvalidCredentials, TooManyRequests, TooManyFailures),
        headers={"Set-Cookie": "The session cookie, and the device cookie."},
        request_cookies=(DEVICE,),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: LoginBody) -> None:
        """Check the password, open a session, set the cookies."""
        core = self._core
        credential = self._users.by_identifier(body.username_or_email)
        user_id = credential.user.id if credential else None
        budgets = self._budgets_of(req, body.username_or_email, user_id)
        with self._sign_in.attempt(budgets, caller_of(req), user_id):
            prove = self._verified(credential, body.password)
            user = self._sign_in.finish(req, resp, prove, of=user_id)
        self._succeeded.add()
        core.wire.answer_signed_in(resp, 200, "Logged in.", user)

    def _budgets_of(
        self, req: falcon.Request, identifier: str, user_id: int | None
    ) -> list[Budget]:
        """Return the budgets of the networks and the name, or a known browser's until it is spent.

        A known browser has its user's own budget where a network has no try left.
        """
        budgets, address = self._budgets, caller_of(req).ip
        claims = self._devices.recognize(req, identifier)
        if claims is None or self._limits.is_spent(budgets.device(claims.jti)):
            return [*budgets.networks(address), budgets.account(identifier, user_id)]
        return [
            *budgets.networks_of_known(address, int(claims.sub)),
            budgets.device(claims.jti),
        ]

    def _verified(self, credential: Credential | None, password: str) -> Callable[[], Proof]:
        """Check a password, and return the function that `SignIn.finish` takes.

        Raises InvalidCredentials, after the same time for each reason.
        """
        stored = credential.password_hash if credential else None
        enabled = credential is not None and not credential.disabled
        verdict = self._core.passwords.verify(stored, password, rehash=enabled)
        if credential is None or not enabled or not verdict.correct:
            raise InvalidCredentials(_reason(credential, verdict))
        return partial(self._proof, credential, verdict.new_hash)

    def _proof(self, credential: Credential, new_hash: str | None) -> Proof:
        """Return the proof; replace the hash, inside a transaction, where that is due."""
        if new_hash:
            self._users.rehash(credential, new_hash)
        return Proof(credential=credential, methods=PASSWORD)


def _counted(core: Core) -> Counter:
    """Count logins that fail, by what became of them; return the counter of those that succeed."""

    def counter(outcome: str) -> Counter:
        text = "Logins with a password, by outcome."
        return core.metrics.counter("authapi_logins_total", text, outcome=outcome)

    succeeded = counter("ok")
    failed: dict[type[Failure], Counter] = {
        InvalidCredentials: counter("refused"),
        TooManyFailures: counter("locked"),
        TooManyRequests: counter("limited"),
        Overloaded: counter("overloaded"),
    }
    core.metrics.count_failures(LOGIN, failed)
    return succeeded


def _reason(credential: Credential | None, verdict: Verdict) -> str:
    """Return why a login is refused, as one of the words of `LoginFailed.detail`."""
    if credential is None:
        return "unknown_name"
    if credential.disabled:
        return "disabled"
    return verdict.reason


class LogoutBody(msgspec.Struct):
    """The sessions to end: this one, or all of the user."""

    everywhere: Annotated[bool, Meta(description="End all sessions of the user.")] = False


class LogoutResource:
    """Ends sessions."""

    public = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._sessions, self._users = core.of(Sessions), core.of(UserRepository)
        self._authentication = Authentication(
            core, self._sessions.authenticate, core.of(ReplacedSessions).include
        )

    @operation(
        "Log out.",
        name="logOut",
        answers=NobodyAnswer,
        body=LogoutBody,
        body_if=has_json,
        raises=(NotAuthenticated, InvalidToken),
        headers={"Set-Cookie": "Deletes the session cookie."},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: LogoutBody | None) -> None:
        """End the session that the request carries, if it carries one, and delete the cookie.

        All of the user's where that is asked for: then it must carry one. Raises NotAuthenticated
        or InvalidToken.
        """
        core = self._core
        if body and body.everywhere:
            self._log_out_everywhere(req)
        else:
            self._log_out(req)
        tokens = core.of(SessionTokens)
        if refuses_cookies(req):
            tokens.delete_brought(req, resp)
        else:
            tokens.cookie.delete(resp)
        core.wire.answer(resp, NobodyAnswer(message="Logged Out."))

    def _log_out(self, req: falcon.Request) -> None:
        """End the session of each token, where a client sends more than one too.

        SECURITY: also where a token has expired, by a clock that may be ahead.
        """
        claims = self._core.of(SessionTokens).presented(req).claims
        if claims:
            with self._core.database.transaction(of={each.id for each in claims}):
                for each in claims:
                    self._end(each, caller_of(req))

    def _log_out_everywhere(self, req: falcon.Request) -> None:
        """End all sessions of the user, and what may become one: logins and links that wait."""
        claims, caller = self._authentication.principal(req).claims, caller_of(req)
        with self._core.database.transaction(of=claims.id):
            if not self._end(claims, caller):
                raise InvalidToken
            self._sessions.end_others(claims.id, caller, kept=None)
            self._users.outdate(claims.id)

    def _end(self, claims: Claims, caller: Caller) -> bool:
        session_id = public_id(claims)
        ended = self._sessions.end(session_id, claims.id)
        if ended:
            self._core.events.emit(LoggedOut(claims.id, caller, session_id))
        return ended


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes."""
    app.add_route(LOGIN, LoginResource(core))
    app.add_route("/logout", LogoutResource(core))
