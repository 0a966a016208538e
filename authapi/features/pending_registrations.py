"""Pending registrations: what a registration gave is kept until its address is proved.

Endpoints: none. Table: none of its own; they are one-time tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import falcon

from authapi.budgets import Budget, TooManyRequests
from authapi.cookies import Cookie
from authapi.core import Core
from authapi.events import Caller, Event
from authapi.features.bound_proofs import BoundProofs
from authapi.features.email_verification import EmailVerified
from authapi.features.limits import Limits
from authapi.features.mail import Mails
from authapi.features.mail_limits import MailBudgets
from authapi.features.mailed_proofs import MailedProofBody, MailedProofs
from authapi.features.one_time_tokens import OneTimeTokens, Purpose, Token
from authapi.features.registration import RegistrationBody
from authapi.features.sign_in import WrongPassword
from authapi.features.users import Credential, EmailTaken, UserRepository
from authapi.mail.kinds import Letter, Mail
from authapi.middleware import caller_of
from authapi.outbox import OutboxJob

REQUIRES = (
    *("bound_proofs", "email_verification", "limits", "mail", "mail_limits"),
    *("mailed_proofs", "one_time_tokens", "registration", "sign_in", "users"),
)

LIFETIME = 86_400  # seconds
PENDING = Purpose("register", LIFETIME)
COOKIE = Cookie("registration", max_age=2 * LIFETIME)  # a mail may wait as long as its link counts
PAGE = "confirm-registration"


class RegistrationRequested(Event):
    """Somebody registered with an address that is not proved yet. There is no user so far."""

    __slots__ = ()


class RegistrationProofBody(MailedProofBody):
    """The token of a mailed link, or the mailed code.

    `password` is the one that was chosen. It goes with a link in another browser, and with
    `username`, which is another username, if somebody has taken the first one meanwhile.
    """

    password: str | None = None
    username: str | None = None


class PendingRegistrations:
    """Keeps what a registration gave until its address is proved, and adds the user then."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core, self._users = core, core.of(UserRepository)
        self._tokens, self._mails = core.of(OneTimeTokens), core.of(Mails)
        self._budgets, self._limits = core.of(MailBudgets), core.of(Limits)
        self._proofs = core.of(MailedProofs)
        self._told = self._limits.declare("registration-told", "1/day")
        self._bound = BoundProofs(core, PENDING, COOKIE, limit="registration-code")
        self.cookie = self._bound.cookie

    def begin(
        self, req: falcon.Request, resp: falcon.Response, body: RegistrationBody, new_hash: str
    ) -> None:
        """Write a mail to the address, whose link and code are bound to the browser.

        Raises TooManyRequests and TooManyMails, for every address alike.

        SECURITY: the thread that sends looks up whether a user has the address. So neither the
        answer nor its time can tell.
        """
        kept = {"username": body.username, "email": body.email, "password_hash": new_hash}
        with self._budgets.asking(req, body.email) as known:
            begun = self._bound.begin(req, data=json.dumps(kept))
            data = {"token": begun.id, "username": body.username}
            language = self._mails.language_of(req)
            self._mails.write(MAIL, address=body.email, data=data, language=language)
            self._core.events.emit(RegistrationRequested(None, caller_of(req)))
        self._bound.remember(resp, begun, body.email, known)

    def letter(self, job: OutboxJob) -> Letter | None:
        """Return the mail of a job; for an address that a user has, write another one to them."""
        owner = self._users.by_identifier(job.address)
        if owner is not None:
            with suppress(TooManyRequests):
                self._limits.take(self._told.of(str(owner.user.id)))
                self._mails.write(TOLD, user_id=owner.user.id, language=job.language)
            return None
        if not self._budgets.has_place(job, self._budgets.digest_of(job.address)):
            return None
        secrets = self._tokens.send(PENDING, job.data["token"])
        if secrets is None:
            return None
        values = {
            "username": job.data["username"],
            "link": self._mails.link(PAGE, secrets.link),
            "code": secrets.code,
            "hours": str(LIFETIME // 3_600),
        }
        return Letter(to=job.address, values=values)

    @contextmanager
    def given(
        self, req: falcon.Request, body: RegistrationProofBody
    ) -> Iterator[tuple[Token, list[Budget]]]:
        """Check a proof of an address; give the block its token, and the budgets that it clears.

        Nothing is used up. Not to be used inside a transaction. Raises InvalidLink, WrongCode,
        WrongPassword, OtherBrowser or TooManyRequests.

        SECURITY: a link counts in the browser that registered, or with the password that was chosen
        there. So a stranger who registers with somebody's address cannot complete the registration,
        and neither can the owner of the address who opens the link.
        """
        if body.token is not None and body.password is not None:
            with self._proofs.opened(PENDING, body.token, caller_of(req)) as token:
                self._require_chosen(token, body.password)
                yield token, []
        else:
            with self._bound.given(req, body) as (token, tries):
                self._require_chosen(token, body.password)
                yield token, tries

    def _require_chosen(self, token: Token, password: str | None) -> None:
        """Raise WrongPassword for another password than the registration's, if there is one."""
        if password is not None:
            stored = json.loads(token.data)["password_hash"]
            if not self._core.passwords.verify(stored, password, rehash=False).correct:
                raise WrongPassword("wrong_password")

    def add(
        self, token: Token, tries: list[Budget], username: str | None, caller: Caller
    ) -> Credential:
        """Use up a token and add its user, inside a transaction.

        Raises InvalidLink, or UsernameTaken or EmailTaken if somebody took the name meanwhile. Only
        the owner of the address gets that answer.
        """
        self._tokens.consume(token)
        self._limits.clear(*tries)
        kept = json.loads(token.data)
        if self._users.by_identifier(kept["email"]):
            raise EmailTaken
        name, now = username or kept["username"], int(self._core.clock())
        added = self._users.insert(name, kept["email"], kept["password_hash"], now)
        self._core.events.emit(EmailVerified(added.user.id, caller))
        return added


def _letter(core: Core, job: OutboxJob) -> Letter | None:
    return core.of(PendingRegistrations).letter(job)


def _told(core: Core, job: OutboxJob) -> Letter | None:
    owner = core.of(UserRepository).by_id(job.user_id or 0)
    if owner is None or owner.disabled:
        return None
    return Letter(to=owner.user.email, values={"username": owner.user.username})


MAIL = Mail(
    "registration",
    lifetime=LIFETIME,
    prepare=_letter,
    values=("username", "link", "code", "hours"),
)
TOLD = Mail(
    "registration_taken", lifetime=LIFETIME, prepare=_told, values=("username",), is_notice=True
)


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: registration by mail keeps registrations."""
