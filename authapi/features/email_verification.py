"""Email verification: users prove that they receive the mail of their address.

Endpoints: POST /user/email/verify/request, POST /user/email/verify. Table: none of its own.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import falcon

from authapi.answers import Answer, UserAnswer
from authapi.budgets import TooManyFailures, TooManyRequests
from authapi.core import Core
from authapi.errors import EmailNotVerified, Failure, InvalidToken
from authapi.events import Event
from authapi.features.lockout import LoginFailed
from authapi.features.mail import Mails, TooManyMails
from authapi.features.mail_limits import MailBudgets
from authapi.features.mailed_proofs import (
    MailedProofBody,
    MailedProofs,
    WrongCode,
    faults_of_proof,
)
from authapi.features.one_time_tokens import InvalidLink, OneTimeTokens, Purpose, Token
from authapi.features.registration import NewUsers
from authapi.features.sign_in import Proof, SignIn
from authapi.features.users import Credential, UserRepository
from authapi.mail.kinds import Letter, Mail
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.outbox import OutboxJob
from authapi.principal import User, principal_of
from authapi.settings import SettingsGroup, setting

REQUIRES = (
    *("lockout", "mail", "mail_limits", "mailed_proofs", "one_time_tokens", "registration"),
    *("sign_in", "users"),
)

LIFETIME = 86_400  # seconds
VERIFY = Purpose("verify", LIFETIME)
PAGE = "verify-email"


class AlreadyVerified(Failure):
    """Raised for a mail that is asked for although the address is proved."""

    status, error, message = 409, "already_verified", "The email is verified already."


class EmailVerified(Event):
    """A user proved that they receive the mail of their address."""

    __slots__ = ()


@dataclass(frozen=True, kw_only=True)
class EmailVerificationSettings(SettingsGroup):
    """Which users must prove their address."""

    email_verification: str = setting(
        "optional",
        "Whether users prove their address: off, optional (a mail follows each registration), or "
        "required (a mail completes each registration).",
        choices=("off", "optional", "required"),
    )


class EmailVerifications:
    """Asks for mails with a link and a code, and records addresses that are proved by them."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._users = core.of(UserRepository)
        self._statements = core.database.statements("users")
        self._tokens, self._mails = core.of(OneTimeTokens), core.of(Mails)
        self._proofs, self._budgets = core.of(MailedProofs), core.of(MailBudgets)

    def request(self, req: falcon.Request) -> None:
        """Write a mail for the user of a session.

        Raises AlreadyVerified, InvalidToken, TooManyRequests and TooManyMails.
        """
        session, user = principal_of(req).session, principal_of(req).user
        if user.email_verified:
            raise AlreadyVerified
        with self._budgets.asking(req, user.email, of=user.id):
            if self._users.by_session(session.id) is None:
                raise InvalidToken
            self._write(req, user)

    def welcome(self, req: falcon.Request, credential: Credential) -> None:
        """Write a mail for a user who registers, in the same transaction.

        An address that gets too many mails is sent none. The user may ask for it later.
        """
        with suppress(TooManyRequests, TooManyMails):
            self._budgets.take(req, credential.user.email)
            self._write(req, credential.user)

    def verify(self, token: Token, user_id: int) -> bool:
        """Use up a token and record the address, inside a transaction.

        Return whether the address was not proved before. Raises InvalidLink.
        """
        self._tokens.consume(token)
        return bool(self._statements.verify_email(id=user_id, now=int(self._core.clock())))

    def require(
        self, req: falcon.Request, _resp: falcon.Response, proof: Proof
    ) -> Proof | EmailNotVerified:
        """Refuse the proof of a user who has not proved the address, inside a transaction."""
        user = proof.credential.user
        if user.email_verified:
            return proof
        failed = LoginFailed(user.id, caller_of(req), detail="email_not_verified")
        self._core.events.emit(failed)
        return EmailNotVerified()

    def letter(self, job: OutboxJob) -> Letter | None:
        """Return the mail of a job, or None where the user is to get none."""
        credential = self._users.by_id(job.user_id or 0)
        if credential is None or credential.user.email_verified:
            return None
        if not self._budgets.has_place(job, credential.user.id):
            return None
        to, hours = credential.user.email, str(LIFETIME // 3_600)
        return self._proofs.letter(VERIFY, job, credential, PAGE, to=to, hours=hours)

    def _write(self, req: falcon.Request, user: User) -> None:
        begun = self._tokens.begin(VERIFY, user_id=user.id)
        language = self._mails.language_of(req)
        self._mails.write(MAIL, user_id=user.id, data={"token": begun.id}, language=language)


def _letter(core: Core, job: OutboxJob) -> Letter | None:
    return core.of(EmailVerifications).letter(job)


MAIL = Mail(
    "email_verification",
    lifetime=LIFETIME,
    prepare=_letter,
    values=("username", "link", "code", "hours"),
)


class VerificationRequestResource:
    """Mails links and codes that prove an address."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._wire, self._verifications = core.wire, core.of(EmailVerifications)

    @operation(
        "Ask for a mail with a link and a code that verify the email of the current user.",
        name="requestEmailVerification",
        status=202,
        raises=(AlreadyVerified, TooManyRequests, TooManyMails),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Write the mail."""
        self._verifications.request(req)
        self._wire.answer(resp, Answer(code=202, message="A mail is on its way."))


class EmailVerificationResource:
    """Verifies the email of the current user."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core, self._proofs = core, core.of(MailedProofs)
        self._users, self._verifications = core.of(UserRepository), core.of(EmailVerifications)

    @operation(
        "Verify the email of the current user, by a mailed link or code.",
        name="verifyEmail",
        answers=UserAnswer,
        body=MailedProofBody,
        rules=faults_of_proof,
        raises=(InvalidLink, WrongCode, TooManyRequests, TooManyFailures),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: MailedProofBody) -> None:
        """Use up the link or the code, and record that the address is proved."""
        core, session = self._core, principal_of(req).session
        with (
            self._proofs.given(req, VERIFY, body) as (_, token),
            core.database.transaction(of=session.user.id),
        ):
            if self._verifications.verify(token, session.user.id):
                core.events.emit(EmailVerified(session.user.id, caller_of(req), session.id))
            current = self._users.by_session(session.id)
            if current is None:
                raise InvalidToken
        core.wire.answer_user(resp, 200, "Email verified.", current.user)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes and the mail, and show whether emails are verified, unless it is off.

    Where it is required, it is a condition of each login.
    """
    mode = core.settings.of(EmailVerificationSettings).email_verification
    if mode == "off":
        return
    core.wire.shows_email_verified = True
    core.of(Mails).add(MAIL)
    if mode == "required":
        core.of(SignIn).require(core.of(EmailVerifications).require)
    else:
        core.of(NewUsers).follow(core.of(EmailVerifications).welcome)
    app.add_route("/user/email/verify/request", VerificationRequestResource(core))
    app.add_route("/user/email/verify", EmailVerificationResource(core))
