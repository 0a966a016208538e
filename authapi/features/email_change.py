"""Email change: another address, once its owner has proved it.

Endpoints: POST /user/email, POST /user/email/confirm, DELETE /user/email/pending. Table: none of
its own.
"""

from __future__ import annotations

import json
from functools import partial

import falcon
import msgspec

from authapi.answers import Answer, SignedInAnswer
from authapi.body_fields import Email
from authapi.budgets import TooManyFailures, TooManyRequests
from authapi.core import Core
from authapi.errors import InvalidToken
from authapi.events import Caller, Event
from authapi.features.email_undo import EmailUndo
from authapi.features.mail import Mails, TooManyMails
from authapi.features.mail_limits import MailBudgets
from authapi.features.mailed_proofs import (
    MailedProofBody,
    MailedProofs,
    WrongCode,
    faults_of_proof,
)
from authapi.features.one_time_tokens import InvalidLink, OneTimeTokens, Purpose, Token
from authapi.features.security_notices import SHOWN, NoticeSettings, SecurityNotices, notice
from authapi.features.sign_in import SignIn
from authapi.features.users import CredentialsChanged, EmailTaken, UserRepository
from authapi.identifiers import email_fault
from authapi.mail.kinds import Letter, Mail
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.outbox import OutboxJob
from authapi.principal import User, fresh, principal_of, strong
from authapi.validation import Fields, broken

REQUIRES = (
    *("email_undo", "mail", "mail_limits", "mailed_proofs", "one_time_tokens"),
    *("security_notices", "sign_in", "users"),
)

LIFETIME = 1_800  # seconds
CHANGE = Purpose("email_change", LIFETIME)
PAGE = "confirm-email"


class EmailChangeRequested(Event):
    """A user asked for another email, which is not proved yet."""

    __slots__ = ()


class EmailChanged(Event):
    """A user's email changed, to an address that is proved."""

    __slots__ = ()


class EmailChanges:
    """Asks for mails to new addresses, and changes emails."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core, self._users = core, core.of(UserRepository)
        self._tokens, self._mails = core.of(OneTimeTokens), core.of(Mails)
        self._proofs, self._budgets = core.of(MailedProofs), core.of(MailBudgets)
        self._undo = core.of(EmailUndo)

    def request(self, req: falcon.Request, email: str) -> None:
        """Write a mail to the new address. Raises InvalidToken, TooManyRequests, TooManyMails.

        SECURITY: nothing looks up whether another user has the address. Only its owner is told.
        """
        session = principal_of(req).session
        with self._budgets.asking(req, email, of=session.user.id):
            if self._users.by_session(session.id) is None:
                raise InvalidToken
            data = json.dumps({"email": email})
            begun = self._tokens.begin(CHANGE, user_id=session.user.id, data=data)
            self._mails.write(
                MAIL,
                user_id=session.user.id,
                address=email,
                data={"token": begun.id},
                language=self._mails.language_of(req),
            )
            event = EmailChangeRequested(session.user.id, caller_of(req), session.id)
            self._core.events.emit(event)

    def letter(self, job: OutboxJob) -> Letter | None:
        """Return the mail of a job, or None where the change has ended."""
        credential = self._users.by_id(job.user_id or 0)
        if credential is None or not self._budgets.has_place(job, credential.user.id):
            return None
        minutes = str(LIFETIME // 60)
        return self._proofs.letter(CHANGE, job, credential, PAGE, to=job.address, minutes=minutes)

    def change(self, token: Token, user: User, caller: Caller) -> None:
        """Use up a token and change the email, inside a transaction.

        The old address gets a mail with which its owner can undo it. Raises InvalidLink, or
        EmailTaken, which only the owner of the new address is told.
        """
        self._tokens.consume(token)
        now = int(self._core.clock())
        self._undo.change(user.id, json.loads(token.data)["email"], verified_at=now)
        self._undo.offer(user, caller)

    def end(self, user_id: int) -> None:
        """End the changes of a user that are not confirmed yet, inside a transaction."""
        self._tokens.end(user_id, CHANGE)


def _letter(core: Core, job: OutboxJob) -> Letter | None:
    return core.of(EmailChanges).letter(job)


MAIL = Mail(
    "email_change",
    lifetime=LIFETIME,
    prepare=_letter,
    values=("username", "link", "code", "minutes"),
)

NOTICE = notice("notice_email_change", values=(*SHOWN, "link"))


class EmailBody(msgspec.Struct):
    """The email to take."""

    email: Email


class EmailResource:
    """The email of the current user."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._wire, self._changes = core.wire, core.of(EmailChanges)

    def _faults(self, req: falcon.Request, fields: Fields) -> dict[str, str]:
        """Check the email, which must be another one."""
        if fields.get("email") == principal_of(req).user.email:
            return {"email": "Is your email already."}
        return broken({"email": email_fault}, fields)

    @operation(
        "Ask for a mail with which the current user takes another email.",
        name="requestEmailChange",
        status=202,
        body=EmailBody,
        rules=_faults,
        needs=(fresh, strong),
        raises=(TooManyRequests, TooManyMails),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: EmailBody) -> None:
        """Write the mail. The answer is the same for an address that another user has."""
        self._changes.request(req, body.email)
        self._wire.answer(resp, Answer(code=202, message="A mail is on its way."))


class EmailConfirmationResource:
    """Confirms another email of the current user."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._wire, self._changes = core.wire, core.of(EmailChanges)
        self._proofs, self._sign_in = core.of(MailedProofs), core.of(SignIn)

    @operation(
        "Take another email, by the link or the code that was mailed to it.",
        name="confirmEmailChange",
        answers=SignedInAnswer,
        body=MailedProofBody,
        rules=faults_of_proof,
        raises=(InvalidLink, WrongCode, EmailTaken, TooManyRequests, TooManyFailures),
        headers={"Set-Cookie": "Another token for the session."},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: MailedProofBody) -> None:
        """Change the email, end every other session, and give this one a new token."""
        user = principal_of(req).user
        with self._proofs.given(req, CHANGE, body) as (proof, token):
            changed = self._sign_in.refresh(
                req,
                resp,
                proof,
                change=partial(self._changes.change, token, user, caller_of(req)),
                events=(EmailChanged, CredentialsChanged),
            )
        self._wire.answer_signed_in(resp, 200, "Email changed.", changed)


class PendingEmailResource:
    """The email that the current user has asked for and not confirmed."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core, self._changes = core, core.of(EmailChanges)

    @operation("Give up a change of the email that is not confirmed.", name="endEmailChange")
    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """End the links and codes."""
        user_id = principal_of(req).user.id
        with self._core.database.transaction(of=user_id):
            self._changes.end(user_id)
        self._core.wire.answer(resp, Answer(message="Email change ended."))


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes and the mails, and tell the old address what was asked for."""
    core.of(Mails).add(MAIL, NOTICE)
    app.add_route("/user/email", EmailResource(core))
    app.add_route("/user/email/confirm", EmailConfirmationResource(core))
    app.add_route("/user/email/pending", PendingEmailResource(core))
    if core.settings.of(NoticeSettings).security_notices != "off":
        notices = core.of(SecurityNotices)
        core.events.subscribe(partial(notices.write, NOTICE), EmailChangeRequested)
