"""Mailed proofs: the mails that have a link and a code, and what clients give of them.

A proof of an address is given in a session of the user who got the mail. So the owner of an address
does not verify an account that somebody else has made with it by opening a link. Other links, such
as that of a password reset, need no session.

Endpoints: none. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

import falcon
import msgspec
from msgspec import Meta

from authapi.body_fields import MailedToken
from authapi.core import Core
from authapi.events import Caller
from authapi.features.lockout import LoginBudgets
from authapi.features.mail import Mails
from authapi.features.one_time_tokens import InvalidLink, OneTimeTokens, Purpose, Token
from authapi.features.sign_in import Proof, ProofRejected, SignIn
from authapi.features.users import Credential
from authapi.mail.kinds import Letter
from authapi.middleware import caller_of
from authapi.outbox import OutboxJob
from authapi.principal import principal_of
from authapi.validation import Fields

REQUIRES = ("lockout", "mail", "one_time_tokens", "sign_in", "users")


class WrongCode(ProofRejected):
    """Raised for a code that is wrong, or does not count any more."""

    status, error, message = 403, "wrong_code", "The code is wrong."

    def __init__(self) -> None:
        """Say the same of every such code in the log."""
        super().__init__("wrong_code")


class TokenBody(msgspec.Struct):
    """The token of a mailed link."""

    token: MailedToken


class MailedProofBody(msgspec.Struct):
    """The token of a mailed link, or the mailed code."""

    token: Annotated[str | None, Meta(description="That of the link. Or else the code.")] = None
    code: Annotated[str | None, Meta(description="The code of the mail.")] = None


def faults_of_proof(_resource: object, _req: falcon.Request, fields: Fields) -> dict[str, str]:
    """Return the fault of a body that has neither a token nor a code, or both."""
    given = [name for name in ("token", "code") if fields.get(name) is not None]
    return {} if len(given) == 1 else {"token": "Give either the token or the code."}


class MailedProofs:
    """Makes the links and codes of mails, and checks those that are given."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._sign_in, self._logins = core.of(SignIn), core.of(LoginBudgets)
        self._tokens, self._mails = core.of(OneTimeTokens), core.of(Mails)

    def letter(
        self,
        purpose: Purpose,
        job: OutboxJob,
        credential: Credential,
        page: str,
        *,
        to: str,
        **values: str | datetime,
    ) -> Letter | None:
        """Return a mail with `username`, `link`, `code` and more values, inside a transaction.

        Return None where the user is disabled, or the token of the job is not to be sent.
        """
        if credential.disabled:
            return None
        secrets = self._tokens.send(purpose, job.data["token"], credential)
        if secrets is None:
            return None
        link = self._mails.link(page, secrets.link)
        given = {"username": credential.user.username, "link": link, "code": secrets.code}
        return Letter(to=to, values={**given, **values})

    @contextmanager
    def opened(self, purpose: Purpose, link: str, caller: Caller) -> Iterator[Token]:
        """Check a link that needs no session, and give the block its token.

        Nothing is used up. Not to be used inside a transaction. Raises InvalidLink, which is a
        failed login and takes a try of the network, or TooManyRequests.
        """
        token = self._tokens.find(purpose, link)
        user_id = token.user_id if token else None
        with self._sign_in.attempt(self._logins.networks(caller.ip), caller, user_id):
            if token is None:
                raise InvalidLink
            yield token

    @contextmanager
    def given(
        self, req: falcon.Request, purpose: Purpose, body: MailedProofBody
    ) -> Iterator[tuple[Proof, Token]]:
        """Check a proof of a session's user; give the block a proof and the token.

        Nothing is used up. Not to be used inside a transaction. Raises InvalidLink, WrongCode,
        TooManyRequests, or InvalidToken for a user who is gone. A wrong proof takes a try of the
        network, and of the passwords that are given in the user's sessions.
        """
        session, caller = principal_of(req).session, caller_of(req)
        with self._sign_in.proven_again(session, caller, _unchanged) as proof:
            yield proof, self._token(purpose, body, session.user.id)

    def _token(self, purpose: Purpose, body: MailedProofBody, user_id: int) -> Token:
        """Return the token of a user's link or code. Raises InvalidLink or WrongCode."""
        if body.code is not None:
            guessed = self._tokens.guess(purpose, body.code, user_id=user_id)
            if guessed is None:
                raise WrongCode
            return guessed
        found = self._tokens.find(purpose, body.token or "")
        if found is None or found.user_id != user_id:
            raise InvalidLink
        return found


def _unchanged(credential: Credential) -> Proof:
    """Return a proof that adds no method: a mailbox is no factor of a login."""
    return Proof(credential=credential, methods=frozenset())


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: other features ask for proofs."""
