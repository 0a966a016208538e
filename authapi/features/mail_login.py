"""Mail login: a session by a link or a code that is mailed, in the browser that asked for it.

Endpoints: POST /login/mail, POST /login/mail/verify. Table: none of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import falcon
import msgspec

from authapi.answers import Answer, SignedInAnswer
from authapi.body_fields import Email
from authapi.budgets import Budget, TooManyFailures, TooManyRequests
from authapi.cookies import Cookie
from authapi.core import Core
from authapi.events import Caller, Event
from authapi.features.bound_proofs import BoundProofs, OtherBrowser
from authapi.features.claims import Claims
from authapi.features.limits import Limits
from authapi.features.mail import Mails, TooManyMails
from authapi.features.mail_limits import MailBudgets
from authapi.features.mailed_proofs import (
    MailedProofBody,
    MailedProofs,
    WrongCode,
    faults_of_proof,
)
from authapi.features.one_time_tokens import InvalidLink, OneTimeTokens, Purpose, Token
from authapi.features.sign_in import InvalidCredentials, Proof, SignIn
from authapi.features.users import UserRepository
from authapi.identifiers import name_key
from authapi.mail.kinds import Letter, Mail
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.outbox import OutboxJob
from authapi.settings import SettingsGroup, setting
from authapi.user_agents import browser_of
from authapi.validation import Fields

REQUIRES = (
    *("bound_proofs", "claims", "limits", "mail", "mail_limits", "mailed_proofs"),
    *("one_time_tokens", "sign_in", "users"),
)

LIFETIME = 600  # seconds
# SECURITY: newer tokens leave older ones, so that nobody ends the login of another by asking too.
LOGIN = Purpose("login", LIFETIME, keeps_older=True)
COOKIE = Cookie("mail_login", max_age=2 * LIFETIME)  # a mail may wait as long as its link counts
PAGE = "mail-login"
MAILBOX = frozenset({"mail"})


class MailLoginRequested(Event):
    """Somebody asked for a login mail. `user_id` is None: the address is looked up later."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class MailLoginSettings(SettingsGroup):
    """The switch of mail login."""

    mail_login: str = setting(
        "off",
        "Whether users can log in by a link or a code that is mailed: on or off.",
        choices=("on", "off"),
    )


class MailLogins:
    """Asks for mails to log in by, and checks their links and codes."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core, self._users = core, core.of(UserRepository)
        self._tokens, self._claims = core.of(OneTimeTokens), core.of(Claims)
        self._mails, self._proofs = core.of(Mails), core.of(MailedProofs)
        self._budgets, self._limits = core.of(MailBudgets), core.of(Limits)
        self.bound = BoundProofs(core, LOGIN, COOKIE, limit="mail-code")

    def request(self, req: falcon.Request, resp: falcon.Response, email: str) -> None:
        """Write a mail to the user of an address, and bind its link and code to the browser.

        Raises TooManyRequests and TooManyMails, for every address alike.

        SECURITY: the thread that sends looks up whether a user has the address. So neither the
        answer nor its time can tell.
        """
        caller, language = caller_of(req), self._mails.language_of(req)
        with self._budgets.asking(req, email) as known:
            begun = self.bound.begin(req)
            browser = browser_of(caller.user_agent)
            data = {"token": begun.id, "known": known, "ip": caller.ip, "browser": browser}
            self._mails.write(MAIL, address=email, data=data, language=language)
            self._core.events.emit(MailLoginRequested(None, caller))
        self.bound.remember(resp, begun, email, known)

    def letter(self, job: OutboxJob) -> Letter | None:
        """Return the mail of a job, or None where nobody is to get one."""
        credential, data = self._users.by_identifier(job.address), job.data
        if credential is None or not self._budgets.has_place(job, credential.user.id):
            return None
        values = {
            "minutes": str(LIFETIME // 60),
            "ip": data["ip"] or "-",
            "browser": data["browser"] or "-",
        }
        return self._proofs.letter(LOGIN, job, credential, PAGE, to=credential.user.email, **values)

    def prove(self, token: Token, tries: list[Budget], caller: Caller) -> Proof:
        """Use up a token and return the proof of its user, inside a transaction.

        The first proof of an address claims the account. Raises InvalidLink.
        """
        self._tokens.consume(token)
        self._limits.clear(*tries)
        self._claims.prove(token.owner_id, caller)
        credential = self._users.by_id(token.owner_id)
        if credential is None:
            raise InvalidLink
        return Proof(credential=credential, methods=MAILBOX)


def _letter(core: Core, job: OutboxJob) -> Letter | None:
    return core.of(MailLogins).letter(job)


MAIL = Mail(
    "mail_login",
    lifetime=LIFETIME,
    prepare=_letter,
    values=("username", "link", "code", "minutes", "ip", "browser"),
)


class MailLoginRequestBody(msgspec.Struct):
    """The email of the account to log in to."""

    email: Email


class MailLoginRequestResource:
    """Mails links and codes to log in by."""

    public = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._wire, self._logins = core.wire, core.of(MailLogins)

    def _faults(self, _req: falcon.Request, fields: Fields) -> dict[str, str]:
        """Return a fault for a text without an @. Users may have emails that new rules refuse."""
        is_email = name_key(fields.get("email", "@"))[0] == "email"
        return {} if is_email else {"email": "Is not an email address."}

    @operation(
        "Ask for a mail with a link and a code to log in by.",
        name="requestMailLogin",
        status=202,
        body=MailLoginRequestBody,
        rules=_faults,
        raises=(TooManyRequests, TooManyMails),
        headers={"Set-Cookie": "The mail_login cookie, which binds the login to the browser."},
        request_cookies=(COOKIE,),
    )
    def on_post(
        self, req: falcon.Request, resp: falcon.Response, body: MailLoginRequestBody
    ) -> None:
        """Write the mail. The answer is the same for every address."""
        self._logins.request(req, resp, body.email)
        message = "If there is such an account, a mail is on its way."
        self._wire.answer(resp, Answer(code=202, message=message))


class MailLoginResource:
    """Opens sessions by mailed links and codes."""

    public = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._wire, self._logins = core.wire, core.of(MailLogins)
        self._sign_in = core.of(SignIn)

    @operation(
        "Log in by a mailed link or code, in the browser that asked for it.",
        name="logInByMail",
        answers=SignedInAnswer,
        body=MailedProofBody,
        rules=faults_of_proof,
        raises=(
            *(InvalidLink, WrongCode, OtherBrowser, InvalidCredentials),
            *(TooManyRequests, TooManyFailures),
        ),
        headers={"Set-Cookie": "The session cookie, and the device cookie."},
        request_cookies=(COOKIE,),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: MailedProofBody) -> None:
        """Use up the link or the code, open a session, set the cookies."""
        with self._logins.bound.given(req, body) as (token, tries):
            prove = partial(self._logins.prove, token, tries, caller_of(req))
            user = self._sign_in.finish(req, resp, prove, of=token.user_id)
        self._logins.bound.cookie.delete(resp)
        self._wire.answer_signed_in(resp, 200, "Logged in.", user)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes and the mail, if it is on."""
    if core.settings.of(MailLoginSettings).mail_login == "on":
        core.of(Mails).add(MAIL)
        app.add_route("/login/mail", MailLoginRequestResource(core))
        app.add_route("/login/mail/verify", MailLoginResource(core))
