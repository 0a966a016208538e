"""Registration by mail: an account exists once its address is proved.

No answer tells whether an address has an account.

Endpoints: POST /register, in place of registration's, and POST /register/verify. Table: none of its
own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import falcon

from authapi.answers import NobodyAnswer, SignedInAnswer
from authapi.budgets import TooManyFailures, TooManyRequests
from authapi.core import Core
from authapi.errors import Overloaded
from authapi.features.bound_proofs import OtherBrowser
from authapi.features.email_verification import EmailVerificationSettings
from authapi.features.limits import Limits
from authapi.features.mail import Mails, TooManyMails
from authapi.features.mailed_proofs import WrongCode, faults_of_proof
from authapi.features.one_time_tokens import InvalidLink
from authapi.features.pending_registrations import (
    COOKIE,
    MAIL,
    TOLD,
    PendingRegistrations,
    RegistrationProofBody,
)
from authapi.features.registration import (
    REGISTER,
    NewNames,
    NewUsers,
    RegistrationBody,
    RegistrationClosed,
    RegistrationResource,
)
from authapi.features.sign_in import WrongPassword
from authapi.features.users import EmailTaken, UsernameTaken
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.validation import Fields, broken

if TYPE_CHECKING:
    from authapi.app import AuthAPI

REQUIRES = (
    *("bound_proofs", "email_verification", "limits", "mail", "mailed_proofs"),
    *("one_time_tokens", "pending_registrations", "registration", "sign_in", "users"),
)


class RegistrationByMailResource(RegistrationResource):
    """Takes registrations, and mails a link and a code that complete them."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        super().__init__(core)
        self._pending = core.of(PendingRegistrations)

    @operation(
        "Ask for a mail that completes a registration.",
        name="requestRegistration",
        answers=NobodyAnswer,
        status=202,
        body=RegistrationBody,
        rules=RegistrationResource.faults,
        raises=(RegistrationClosed, UsernameTaken, TooManyRequests, TooManyMails),
        headers={"Set-Cookie": "The registration cookie, which binds the mail to the browser."},
    )
    def on_post(self, req: falcon.Request, resp: falcon.Response, body: RegistrationBody) -> None:
        """Keep the names and the password's hash. The answer is the same for every address."""
        with self._limits.trying(*self._names.budgets(caller_of(req).ip)):
            self._users.require_free(body.username)
            new_hash = self._core.passwords.hash(body.password)
            self._pending.begin(req, resp, body, new_hash)
        self._core.wire.answer(resp, NobodyAnswer(code=202, message="Check your mail."))


class RegistrationProofResource:
    """Adds users whose address is proved."""

    public = True

    def __init__(self, app: AuthAPI) -> None:
        """Take the application."""
        core = app.core
        self._core, self._pending = core, core.of(PendingRegistrations)
        self._limits, self._admission = core.of(Limits), app.admission
        self._names, self._new_users = core.of(NewNames), core.of(NewUsers)

    def _faults(self, req: falcon.Request, fields: Fields) -> dict[str, str]:
        """Check that there is one proof, and the username if there is one.

        SECURITY: only a hash of the password is kept, so it is given again with another username.
        The password stands, so the username is at fault if the password is made of it.
        """
        faults = faults_of_proof(self, req, fields)
        username, password = fields.get("username"), fields.get("password")
        if username is None:
            return faults
        if password is None:
            faults |= {"password": "Is required with another username."}
        elif self._core.passwords.is_made_of(password, [username]):
            faults |= {"username": "Must not be what your password is made of."}
        return faults | broken({"username": self._names.username_fault}, fields)

    @operation(
        "Complete a registration by a mailed link or code, and log in.",
        name="completeRegistration",
        answers=SignedInAnswer,
        status=201,
        body=RegistrationProofBody,
        rules=_faults,
        raises=(
            *(InvalidLink, WrongCode, WrongPassword, OtherBrowser, RegistrationClosed),
            *(UsernameTaken, EmailTaken, TooManyRequests, TooManyFailures, Overloaded),
        ),
        headers={"Set-Cookie": "The session cookie, and the device cookie."},
        request_cookies=(COOKIE,),
    )
    def on_post(
        self, req: falcon.Request, resp: falcon.Response, body: RegistrationProofBody
    ) -> None:
        """Use up the link or the code, add the user, open a session, set the cookies.

        Only a password needs a place to hash. Another username takes a try, as at a registration:
        the answer tells whether it is taken.
        """
        self._names.require_open()
        if body.password is not None:
            self._admission.hold(req)
        names = self._names.budgets(caller_of(req).ip) if body.username is not None else []
        with self._pending.given(req, body) as (token, tries), self._limits.trying(*names):
            add = partial(self._pending.add, token, tries, body.username, caller_of(req))
            user = self._new_users.log_in(req, resp, add)
        self._pending.cookie.delete(resp)
        self._core.wire.answer_signed_in(resp, 201, "User created.", user)


def setup(app: AuthAPI, core: Core) -> None:
    """Replace the route of registration and add the mails, where addresses must be proved.

    While registration is closed, waiting mails are treated as those of a feature that is off.
    """
    if core.settings.of(EmailVerificationSettings).email_verification == "required":
        if core.of(NewNames).are_open:
            core.of(Mails).add(MAIL, TOLD)
        app.add_route(REGISTER, RegistrationByMailResource(core), replaces=True)
        app.add_route(f"{REGISTER}/verify", RegistrationProofResource(app))
