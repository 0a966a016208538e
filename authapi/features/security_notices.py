"""Security notices: mails that tell a user what happened to the account, and undo it by a link.

Endpoint: POST /user/not-me. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import falcon

from authapi.answers import NobodyAnswer
from authapi.budgets import TooManyRequests
from authapi.core import Core
from authapi.events import Caller, Event
from authapi.features.devices import Devices
from authapi.features.lockout import LockedOut
from authapi.features.mail import Mails
from authapi.features.mail_limits import MailBudgets
from authapi.features.mailed_proofs import MailedProofs, TokenBody
from authapi.features.one_time_tokens import InvalidLink, OneTimeTokens, Purpose
from authapi.features.password_reset import PasswordResets
from authapi.features.sessions import LoggedIn
from authapi.features.sign_in import Proof, SignIn
from authapi.features.users import (
    CredentialsChanged,
    PasswordChanged,
    UserDeleted,
    UserRenamed,
    UserRepository,
)
from authapi.mail.kinds import Letter, Mail
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.outbox import OutboxJob
from authapi.settings import SettingsGroup, setting
from authapi.user_agents import browser_of

REQUIRES = (
    *("devices", "lockout", "mail", "mail_limits", "mailed_proofs", "one_time_tokens"),
    *("password_reset", "sessions", "sign_in", "users"),
)

DAY = 86_400  # seconds
NOT_ME = Purpose("not_me", 7 * DAY, outlives_changes=True, keeps_older=True)
PAGE = "not-me"
NEW_BROWSER = "new_browser"


@dataclass(frozen=True, kw_only=True)
class NoticeSettings(SettingsGroup):
    """Which notices are mailed."""

    security_notices: str = setting(
        "all",
        "Which notices users get by mail: all, security (none of logins from new browsers) or off.",
        choices=("all", "security", "off"),
    )


class AccountLocked(CredentialsChanged):
    """A user reported a change that was not theirs: the password no longer works."""

    __slots__ = ()


def described(username: str, caller: Caller) -> dict[str, object]:
    """Return what the job of a notice keeps of an event."""
    return {"username": username, "ip": caller.ip, "browser": browser_of(caller.user_agent)}


def shown(job: OutboxJob) -> dict[str, str | datetime]:
    """Return the values that every notice has, named in SHOWN."""
    return {
        "username": job.data["username"],
        "time": datetime.fromtimestamp(job.created_at, UTC),
        "ip": job.data["ip"] or "-",
        "browser": job.data["browser"] or "-",
    }


class SecurityNotices:
    """Writes a notice in the transaction of what happened, and makes its mail."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._users, self._devices = core.of(UserRepository), core.of(Devices)
        self._tokens, self._mails = core.of(OneTimeTokens), core.of(Mails)
        self._proofs, self._budgets = core.of(MailedProofs), core.of(MailBudgets)

    def write(self, kind: Mail, event: Event) -> None:
        """Write the notice of an event of a user, inside its transaction."""
        credential = self._users.by_id(event.user_id or 0)
        if credential is None or credential.disabled:
            return
        data = described(credential.user.username, event.caller)
        if "link" in kind.values:
            data["token"] = self._tokens.begin(NOT_ME, user_id=event.user_id).id
        address = credential.user.email
        self._mails.write(kind, user_id=event.user_id, address=address, data=data)

    def letter(self, job: OutboxJob) -> Letter | None:
        """Return the mail of a notice, or None for one too many.

        NOTE: it goes to the address that the user had when it happened.
        """
        if not self._budgets.has_place(job, job.user_id or 0):
            return None
        if "token" not in job.data:
            return Letter(job.address, shown(job))
        return self.letter_with(job, NOT_ME, PAGE)

    def letter_with(
        self, job: OutboxJob, purpose: Purpose, page: str, **values: str
    ) -> Letter | None:
        """Return the mail of a notice that has a link, or None where the link counts no more."""
        credential = self._users.by_id(job.user_id or 0)
        if credential is None:
            return None
        told = {**shown(job), **values}
        return self._proofs.letter(purpose, job, credential, page, to=job.address, **told)

    def mark(self, req: falcon.Request, _resp: falcon.Response, proof: Proof) -> Proof:
        """Note in a proof that its user has not signed in with this browser before."""
        if self._devices.know(req, proof.credential):
            return proof
        return replace(proof, detail=NEW_BROWSER)


def _letter(core: Core, job: OutboxJob) -> Letter | None:
    return core.of(SecurityNotices).letter(job)


SHOWN = ("username", "time", "ip", "browser")
notice = partial(Mail, lifetime=3 * DAY, prepare=_letter, is_notice=True)
PASSWORD_CHANGED = notice("notice_password_changed", values=(*SHOWN, "link"))
PASSWORD_RESET = notice("notice_password_reset", values=(*SHOWN, "link"))
USERNAME_CHANGED = notice("notice_username_changed", values=(*SHOWN, "link"))
NEW_LOGIN = notice("notice_new_login", values=(*SHOWN, "link"))
LOCKED_OUT = notice("notice_locked_out", values=SHOWN)
USER_DELETED = notice("notice_user_deleted", values=SHOWN)
KINDS = (
    *(PASSWORD_CHANGED, PASSWORD_RESET, USERNAME_CHANGED),
    *(NEW_LOGIN, LOCKED_OUT, USER_DELETED),
)


class AccountLocks:
    """Locks accounts whose owners say that something was not them."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core, self._resets = core, core.of(PasswordResets)
        self._statements = core.database.statements("users")

    def lock(self, user_id: int, caller: Caller) -> None:
        """End a user's password and all that it has opened, inside a transaction.

        A link that sets another password is mailed to the address that the user then has.
        """
        self._statements.forget_password(id=user_id)
        self._core.events.emit(AccountLocked(user_id, caller))
        self._resets.write(user_id=user_id)


class NotMeResource:
    """Locks an account whose owner says that what a notice tells was not them."""

    public = True

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._tokens, self._locks = core.of(OneTimeTokens), core.of(AccountLocks)
        self._proofs = core.of(MailedProofs)

    @operation(
        "Lock the account, by the link of a notice.",
        name="lockAccount",
        answers=NobodyAnswer,
        body=TokenBody,
        raises=(InvalidLink, TooManyRequests),
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: TokenBody) -> None:
        """End the password and all that it has opened, and mail a link that sets another one."""
        core, caller = self._core, caller_of(req)
        with (
            self._proofs.opened(NOT_ME, body.token, caller) as token,
            core.database.transaction(of=token.owner_id),
        ):
            self._tokens.consume(token)
            self._locks.lock(token.owner_id, caller)
        message = "Locked. Set a new password by the mail that we sent."
        core.wire.answer(resp, NobodyAnswer(message=message))


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route and the mails, and write a notice of what happens."""
    notices, wanted = core.of(SecurityNotices), core.settings.of(NoticeSettings).security_notices
    core.of(Mails).add(*KINDS)
    app.add_route("/user/not-me", NotMeResource(core))
    if wanted == "off":
        return

    def tell(kind: Mail, of: type[Event], when: Callable[[Event], bool] = lambda _: True) -> None:
        def subscriber(event: Event) -> None:
            if when(event):
                notices.write(kind, event)

        core.events.subscribe(subscriber, of)

    tell(PASSWORD_CHANGED, PasswordChanged, lambda event: event.detail != "reset")
    tell(PASSWORD_RESET, PasswordChanged, lambda event: event.detail == "reset")
    tell(USERNAME_CHANGED, UserRenamed)
    tell(LOCKED_OUT, LockedOut)
    tell(USER_DELETED, UserDeleted)
    if wanted == "all":
        core.of(SignIn).require(notices.mark)
        tell(NEW_LOGIN, LoggedIn, lambda event: event.detail == NEW_BROWSER)
