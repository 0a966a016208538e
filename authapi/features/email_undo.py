"""Email undo: the owner of a user's old address takes the account back by a mailed link.

Endpoint: POST /user/email/undo. Table: none of its own.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import falcon
import msgspec

from authapi.answers import NobodyAnswer
from authapi.budgets import TooManyRequests
from authapi.core import Core
from authapi.database import UniqueViolation
from authapi.events import Caller, Event
from authapi.features.claims import Claims
from authapi.features.lockout import LoginBudgets
from authapi.features.mail import Mails
from authapi.features.one_time_tokens import InvalidLink, OneTimeTokens, Purpose, Token
from authapi.features.security_notices import AccountLocks
from authapi.features.sign_in import SignIn
from authapi.features.users import EmailTaken, UserDeleted, UserRepository
from authapi.identifiers import email_key
from authapi.mail.kinds import Letter, Mail
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.outbox import OutboxJob
from authapi.principal import User
from authapi.user_agents import browser_of

REQUIRES = (
    *("claims", "lockout", "mail", "one_time_tokens", "security_notices"),
    *("sign_in", "users"),
)

HOURS = 72
LIFETIME = HOURS * 3_600  # seconds
UNDO = Purpose("undo", LIFETIME, outlives_changes=True, keeps_older=True)
PAGE = "undo-email"


class EmailRestored(Event):
    """The owner of the old address undid a change of the email."""

    __slots__ = ()


class EmailUndo:
    """Offers the owner of an old address to undo a change, and undoes it."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core, self._users = core, core.of(UserRepository)
        self._claims = core.of(Claims)
        self._tokens, self._mails = core.of(OneTimeTokens), core.of(Mails)
        self._statements = core.database.statements("users")

    def offer(self, user: User, caller: Caller) -> None:
        """Write the mail to the address that `user` had, inside the transaction of the change."""
        old = {
            "email": user.email,
            "verified": user.email_verified,
            "changed_at": int(self._core.clock()),
        }
        data = {
            "token": self._tokens.begin(UNDO, user_id=user.id, data=json.dumps(old)).id,
            "username": user.username,
            "ip": caller.ip,
            "browser": browser_of(caller.user_agent),
        }
        self._mails.write(MAIL, user_id=user.id, address=user.email, data=data)

    def letter(self, job: OutboxJob) -> Letter | None:
        """Return the mail of a job, or None where there is nothing to undo any more."""
        credential, data = self._users.by_id(job.user_id or 0), job.data
        secrets = credential and self._tokens.send(UNDO, data["token"], credential)
        if not secrets:
            return None
        return Letter(
            to=job.address,
            values={
                "username": data["username"],
                "time": datetime.fromtimestamp(job.created_at, UTC),
                "ip": data["ip"] or "-",
                "browser": data["browser"] or "-",
                "link": self._mails.link(PAGE, secrets.link),
                "hours": str(HOURS),
            },
        )

    def restore(self, token: Token, user_id: int, caller: Caller) -> None:
        """Use up a token and restore its address, inside a transaction.

        Raises InvalidLink, or EmailTaken where another user has proved the address meanwhile.

        SECURITY: links of later changes end, which went to addresses of whoever made the first one.
        Links of earlier changes stay: with them, the owner takes the account back from a thief who
        has changed the email twice and undone the second change.
        """
        if not self._tokens.consume(token):
            raise InvalidLink
        self._tokens.end_newer(token)
        old = json.loads(token.data)
        self._free(old["email"], user_id, old["changed_at"], caller)
        verified_at = int(self._core.clock()) if old["verified"] else None
        key = email_key(old["email"])
        try:
            self._statements.change_email(
                id=user_id, email=old["email"], email_key=key, verified_at=verified_at
            )
        except UniqueViolation as violation:  # an account of this moment: the link stays good
            raise EmailTaken from violation
        self._claims.prove(user_id, caller)

    def _free(self, email: str, user_id: int, changed_at: int, caller: Caller) -> None:
        """Delete an account that took the address after the change, and has not proved it.

        SECURITY: else whoever changed the email could register with the old one, and nothing could
        be undone.
        """
        other = self._users.by_identifier(email)
        if other is None or other.user.id == user_id:
            return
        if other.user.email_verified or other.user.created_at < changed_at:
            raise EmailTaken
        self._core.events.emit(UserDeleted(other.user.id, caller, detail="email_undo"))
        self._users.delete(other)


def _letter(core: Core, job: OutboxJob) -> Letter | None:
    return core.of(EmailUndo).letter(job)


MAIL = Mail(
    "email_changed",
    lifetime=LIFETIME,
    prepare=_letter,
    values=("username", "time", "ip", "browser", "link", "hours"),
    is_notice=True,
)


class EmailUndoBody(msgspec.Struct):
    """The token of the link that was mailed to the old address."""

    token: str


class EmailUndoResource:
    """Restores the email that an account had before a change."""

    public = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core, self._tokens = core, core.of(OneTimeTokens)
        self._sign_in, self._budgets = core.of(SignIn), core.of(LoginBudgets)
        self._undo, self._locks = core.of(EmailUndo), core.of(AccountLocks)

    @operation(
        "Undo a change of the email, by the link that was mailed to the old address.",
        answers=NobodyAnswer,
        body=EmailUndoBody,
        raises=(InvalidLink, EmailTaken, TooManyRequests),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: EmailUndoBody) -> None:
        """Restore the email, lock the account, and mail a link that sets another password."""
        core, caller = self._core, caller_of(req)
        token = self._tokens.find(UNDO, body.token)
        user_id = token.user_id if token else None
        with self._sign_in.attempt(self._budgets.networks(caller.ip), caller, user_id):
            if token is None or user_id is None:
                raise InvalidLink
            with core.database.transaction(of=user_id):
                self._undo.restore(token, user_id, caller)
                core.events.emit(EmailRestored(user_id, caller))
                self._locks.lock(user_id, caller)
        message = "Email restored. Set a new password by the mail that we sent."
        core.wire.answer(resp, NobodyAnswer(message=message))


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route and the mail."""
    core.of(Mails).add(MAIL)
    app.add_route("/user/email/undo", EmailUndoResource(core))
