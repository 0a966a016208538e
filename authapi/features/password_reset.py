"""Password reset: a new password by a link that is mailed.

Endpoints: POST /password/reset/request, POST /password/reset. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

import falcon
import msgspec

from authapi.answers import Answer, NobodyAnswer
from authapi.body_fields import MailedToken, NewPassword, UsernameOrEmail
from authapi.budgets import TooManyRequests
from authapi.core import Core
from authapi.events import Caller, Event
from authapi.features.claims import Claims
from authapi.features.limits import Limits
from authapi.features.lockout import LoginBudgets
from authapi.features.mail import Mails, TooManyMails
from authapi.features.mail_limits import MailBudgets
from authapi.features.mailed_proofs import MailedProofs
from authapi.features.one_time_tokens import InvalidLink, OneTimeTokens, Purpose, Token
from authapi.features.users import CredentialsChanged, PasswordChanged, UserRepository
from authapi.identifiers import name_key
from authapi.mail.kinds import Letter, Mail
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.outbox import OutboxJob
from authapi.principal import User
from authapi.validation import Fields, broken

REQUIRES = (
    *("claims", "limits", "lockout", "mail", "mail_limits", "mailed_proofs"),
    *("one_time_tokens", "users"),
)

LIFETIME = 1_800  # seconds
RESET = Purpose("reset", LIFETIME)
PAGE = "reset"


class PasswordResetRequested(Event):
    """Somebody asked for a reset link. `user_id` is None: the address is looked up later."""

    __slots__ = ()


class PasswordResets:
    """Asks for mails with a link that resets a password, and resets passwords by it."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._users = core.of(UserRepository)
        self._tokens = core.of(OneTimeTokens)
        self._proofs = core.of(MailedProofs)
        self._mails = core.of(Mails)
        self._budgets = core.of(MailBudgets)

    def request(self, req: falcon.Request, identifier: str) -> None:
        """Write a mail for whoever has this username or email.

        Raises TooManyRequests and TooManyMails, for every name alike.

        SECURITY: whose name it is, and whether it is anybody's, is looked up by the thread that
        sends. So neither the answer nor its time can tell.
        """
        with self._budgets.asking(req, identifier) as known:
            language = self._mails.language_of(req)
            self.write(address=_storable(identifier), language=language, known=known)
            self._core.events.emit(PasswordResetRequested(None, caller_of(req)))

    def write(
        self,
        *,
        user_id: int | None = None,
        address: str = "",
        language: str = "",
        known: str | None = None,
    ) -> None:
        """Write a mail for a user, or for whoever has an address, inside a transaction.

        The mails of a user are not limited: others cannot ask for them.
        """
        begun = self._tokens.begin(RESET)
        data = {"token": begun.id, "known": known}
        self._mails.write(MAIL, user_id=user_id, address=address, data=data, language=language)

    def user_of(self, link: str) -> User | None:
        """Return the user of a link that counts. Nothing is used up."""
        token = self._tokens.find(RESET, link)
        credential = token and self._users.by_id(token.user_id or 0)
        return credential.user if credential else None

    def letter(self, job: OutboxJob) -> Letter | None:
        """Return the mail of a job, or None where nobody is to get one."""
        found = self._users.by_id(job.user_id) if job.user_id else None
        credential = found or self._users.by_identifier(job.address)
        if credential is None:
            return None
        if not job.user_id and not self._budgets.has_place(job, credential.user.id):
            return None
        to, minutes = credential.user.email, str(LIFETIME // 60)
        return self._proofs.letter(RESET, job, credential, PAGE, to=to, minutes=minutes)


def _letter(core: Core, job: OutboxJob) -> Letter | None:
    return core.of(PasswordResets).letter(job)


MAIL = Mail(
    "password_reset", lifetime=LIFETIME, prepare=_letter, values=("username", "link", "minutes")
)


def _storable(identifier: str) -> str:
    """Return a name as it is typed, or nothing for one that can be no user's."""
    kind, _ = name_key(identifier)
    return "" if kind == "nobody's" or not _is_unicode(identifier) else identifier


def _is_unicode(text: str) -> bool:
    """Return whether a text can be stored: a lone surrogate cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


class ResetRequestBody(msgspec.Struct, rename="camel"):
    """A username or email."""

    username_or_email: UsernameOrEmail


class ResetBody(msgspec.Struct):
    """The token of the link, and the new password."""

    token: MailedToken
    new_password: NewPassword


class ResetRequestResource:
    """Mails links that reset passwords."""

    public = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._wire, self._resets = core.wire, core.of(PasswordResets)

    @operation(
        "Ask for a mail with a link that resets the password.",
        name="requestPasswordReset",
        status=202,
        body=ResetRequestBody,
        raises=(TooManyRequests, TooManyMails),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: ResetRequestBody) -> None:
        """Write the mail. The answer is the same for every name."""
        self._resets.request(req, body.username_or_email)
        message = "If there is such an account, a mail is on its way."
        self._wire.answer(resp, Answer(code=202, message=message))


class ResetResource:
    """Resets passwords."""

    public = True
    hashes = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._users, self._tokens = core.of(UserRepository), core.of(OneTimeTokens)
        self._limits, self._budgets = core.of(Limits), core.of(LoginBudgets)
        self._resets, self._claims = core.of(PasswordResets), core.of(Claims)
        self._proofs = core.of(MailedProofs)

    def known_users(self, _req: falcon.Request) -> tuple[str, ...]:
        """Return nobody: the link is in no cookie."""
        return ()

    def admit(self, req: falcon.Request, _users: Iterable[str]) -> None:
        """Raise TooManyRequests where the network has no try left."""
        self._limits.require(*self._budgets.networks(caller_of(req).ip))

    def _faults(self, _req: falcon.Request, fields: Fields) -> dict[str, str]:
        """Check the new password, which must not be made of the user's names.

        The link is not used up. The password of a link that does not count is not checked.
        """
        user = self._resets.user_of(fields.get("token", ""))
        return broken({"new_password": self._core.passwords.rule_for(user)}, fields) if user else {}

    @operation(
        "Set a new password by a mailed link.",
        name="resetPassword",
        answers=NobodyAnswer,
        body=ResetBody,
        rules=_faults,
        raises=(InvalidLink, TooManyRequests),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: ResetBody) -> None:
        """Set it, and end all that the old credentials opened. Nobody is logged in."""
        core, caller = self._core, caller_of(req)
        with self._proofs.opened(RESET, body.token, caller) as token:
            new_hash = core.passwords.hash(body.new_password)
            with core.database.transaction(of=token.owner_id):
                self._reset(token, token.owner_id, new_hash, caller)
        core.wire.answer(resp, NobodyAnswer(message="Password changed."))

    def _reset(self, token: Token, user_id: int, new_hash: str, caller: Caller) -> None:
        """Use up the link and set the password, inside a transaction. Raises InvalidLink.

        The owner of the mailbox can log in at once: failed logins of others are cleared.
        """
        self._tokens.consume(token)
        self._claims.prove(user_id, caller)
        credential = self._users.by_id(user_id)
        if credential is None or not self._users.change_password(credential, new_hash):
            raise InvalidLink
        events = self._core.events
        events.emit(PasswordChanged(user_id, caller, detail="reset"))
        events.emit(CredentialsChanged(user_id, caller, detail="reset"))
        self._limits.clear(*self._budgets.accounts(user_id))


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes and the mail."""
    core.of(Mails).add(MAIL)
    app.add_route("/password/reset/request", ResetRequestResource(core))
    app.add_route("/password/reset", ResetResource(core))
