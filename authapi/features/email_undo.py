"""Email undo: the owner of a user's old address takes the account back by a mailed link.

Endpoint: POST /user/email/undo. Table: none of its own.
"""

from __future__ import annotations

import json
import secrets

import falcon

from authapi.answers import NobodyAnswer
from authapi.budgets import TooManyRequests
from authapi.core import Core
from authapi.database import UniqueViolation
from authapi.events import Caller, Event
from authapi.features.claims import Claims
from authapi.features.mail import Mails
from authapi.features.mailed_proofs import MailedProofs, TokenBody
from authapi.features.one_time_tokens import InvalidLink, OneTimeTokens, Purpose, Token
from authapi.features.security_notices import SHOWN, AccountLocks, SecurityNotices, described
from authapi.features.users import CredentialsChanged, EmailTaken, UserRepository
from authapi.identifiers import email_key
from authapi.mail.kinds import Letter, Mail
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.outbox import OutboxJob
from authapi.principal import User

REQUIRES = ("claims", "mail", "mailed_proofs", "one_time_tokens", "security_notices", "users")

HOURS = 72
LIFETIME = HOURS * 3_600  # seconds
UNDO = Purpose("undo", LIFETIME, outlives_changes=True, keeps_older=True)
PAGE = "undo-email"
NOWHERE = "email.invalid"  # RFC 2606: no mail is delivered to it


class EmailRestored(Event):
    """The owner of the old address undid a change of the email."""

    __slots__ = ()


class EmailWithdrawn(CredentialsChanged):
    """A user lost an address without a proof, because its owner undid a change of the email."""

    __slots__ = ()


class EmailUndo:
    """Changes emails, offers the owner of the old address to undo a change, and undoes it."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core, self._users = core, core.of(UserRepository)
        self._claims, self._locks = core.of(Claims), core.of(AccountLocks)
        self._tokens, self._mails = core.of(OneTimeTokens), core.of(Mails)
        self._statements = core.database.statements("users")

    def change(self, user_id: int, email: str, *, verified_at: int | None) -> None:
        """Give a user another email, inside a transaction. Raises EmailTaken."""
        key = email_key(email)
        try:
            self._statements.change_email(
                id=user_id, email=email, email_key=key, verified_at=verified_at
            )
        except UniqueViolation as violation:
            raise EmailTaken from violation

    def offer(self, user: User, caller: Caller) -> None:
        """Write the mail to the address that `user` had, inside the transaction of the change."""
        old = json.dumps({"email": user.email, "verified": user.email_verified})
        token = self._tokens.begin(UNDO, user_id=user.id, data=old).id
        data = {**described(user.username, caller), "token": token}
        self._mails.write(MAIL, user_id=user.id, address=user.email, data=data)

    def restore(self, token: Token, user_id: int, caller: Caller) -> None:
        """Use up a token, restore its address, and lock the account.

        Raises InvalidLink, or EmailTaken where another user has proved the address meanwhile.

        SECURITY: all links that were sent after the change end, because they went to addresses of
        whoever made it. Links of earlier changes stay: with them, the owner takes the account back
        from a thief who has changed the email twice and undone the second change.
        """
        old, now = json.loads(token.data), int(self._core.clock())
        other = self._users.by_identifier(old["email"])
        other_id = other.user.id if other else user_id
        with self._core.database.transaction(of={user_id, other_id}):
            self._tokens.consume(token)
            self._tokens.end_newer(token)
            if other_id != user_id:
                self._withdraw(other_id, old["email"], caller)
            # NOTE: an account that took the address at this moment is a 409. The link stays good.
            self.change(user_id, old["email"], verified_at=now if old["verified"] else None)
            self._claims.prove(user_id, caller)
            self._core.events.emit(EmailRestored(user_id, caller))
            self._locks.lock(user_id, caller)

    def _withdraw(self, other_id: int, email: str, caller: Caller) -> None:
        """Take an address from another user who has not proved it, inside a transaction.

        Raises EmailTaken where the user has proved it.

        SECURITY: else whoever changed the email could register with the old one, and nothing could
        be undone. The account stays, because it may be an honest user's. Its links went to the
        address, so they end.
        """
        other = self._users.by_id(other_id)
        if other is None or email_key(other.user.email) != email_key(email):
            return
        if other.user.email_verified:
            raise EmailTaken
        self.change(other_id, f"{secrets.token_hex(8)}@{NOWHERE}", verified_at=None)
        event = EmailWithdrawn(other_id, caller)
        self._tokens.end_of_user(event)
        self._core.events.emit(event)


def _letter(core: Core, job: OutboxJob) -> Letter | None:
    return core.of(SecurityNotices).letter_with(job, UNDO, PAGE, hours=str(HOURS))


MAIL = Mail(
    "email_changed",
    lifetime=LIFETIME,
    prepare=_letter,
    values=(*SHOWN, "link", "hours"),
    is_notice=True,
)


class EmailUndoResource:
    """Restores the email that an account had before a change."""

    public = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._wire = core.wire
        self._proofs, self._undo = core.of(MailedProofs), core.of(EmailUndo)

    @operation(
        "Undo a change of the email, by the link that was mailed to the old address.",
        name="undoEmailChange",
        answers=NobodyAnswer,
        body=TokenBody,
        raises=(InvalidLink, EmailTaken, TooManyRequests),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: TokenBody) -> None:
        """Restore the email, lock the account, and mail a link that sets another password."""
        caller = caller_of(req)
        with self._proofs.opened(UNDO, body.token, caller) as token:
            self._undo.restore(token, token.owner_id, caller)
        message = "Email restored. Set a new password by the mail that we sent."
        self._wire.answer(resp, NobodyAnswer(message=message))


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route and the mail."""
    core.of(Mails).add(MAIL)
    app.add_route("/user/email/undo", EmailUndoResource(core))
