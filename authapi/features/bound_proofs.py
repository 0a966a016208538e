"""Bound proofs: the link or the code of a mail, given in the browser that asked for the mail.

So an attacker cannot log a victim in to the attacker's account by a link, and a program that opens
all links of a mailbox uses none up.

Endpoints: none. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import falcon
import msgspec

from authapi.budgets import Budget
from authapi.cookies import Cookie
from authapi.core import Core
from authapi.errors import InvalidToken
from authapi.features.limits import Limits
from authapi.features.lockout import LoginBudgets, LoginLimits
from authapi.features.mailed_proofs import MailedProofBody, WrongCode
from authapi.features.one_time_tokens import Begun, InvalidLink, OneTimeTokens, Purpose, Token
from authapi.features.sign_in import ProofRejected, SignIn
from authapi.identifiers import name_key
from authapi.middleware import caller_of

REQUIRES = ("limits", "lockout", "mailed_proofs", "one_time_tokens", "sign_in")

ADVICE = "Open the link of the mail, or use a browser that you have logged in with before."


class OtherBrowser(ProofRejected):
    """Raised for a link that counts, or a code, in a browser that did not ask for it."""

    status, error = 409, "other_browser"
    message = "Use the browser that asked for it, or type the code there."

    def __init__(self) -> None:
        """Say the same of a link and of a code in the log."""
        super().__init__("other_browser")


class AskingClaims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of the cookie of a browser that waits for its mail.

    `token` is the cookie of the one-time token. `known` is the id of the user whose browser it was
    when it asked, or empty. `name` is a keyed digest of the address that was typed.

    SECURITY: it says all that an answer depends on before the code is compared, so that no answer
    tells whether the address is a user's.
    """

    token: str
    known: str
    name: str
    exp: int


class BoundProofs:
    """Binds the links and codes of one purpose to browsers, and checks them there."""

    def __init__(self, core: Core, purpose: Purpose, cookie: Cookie, *, limit: str) -> None:
        """Take the purpose, its cookie, and the name of the limit of its wrong codes."""
        self._core, self._purpose, self._max_age = core, purpose, cookie.max_age
        self._tokens, self._sign_in = core.of(OneTimeTokens), core.of(SignIn)
        self._limits, self._budgets = core.of(Limits), core.of(LoginBudgets)
        self._signed = core.tokens.signed(f"{cookie.name}+jwt", AskingClaims)
        self.cookie = core.cookies.add(cookie)
        rates = core.settings.of(LoginLimits)
        rate, in_a_row = rates.login_account_limit, rates.login_lockout
        self._code = self._limits.declare(limit, rate, in_a_row=in_a_row, advice=ADVICE)
        self._budgets.add(self._codes_of)

    def begin(self, req: falcon.Request, data: str = "{}") -> Begun:
        """Add a token with `data` that is bound to a request's browser, inside a transaction.

        If the browser waits for an older mail, the links of both count in it.
        """
        asking = self._asking(req)
        cookie = asking.token if asking else ""
        return self._tokens.begin(self._purpose, data=data, is_bound=True, cookie=cookie)

    def remember(self, resp: falcon.Response, begun: Begun, email: str, known: str | None) -> None:
        """Give the browser its cookie. `known` is the id of the user whose browser it is."""
        claims = AskingClaims(
            token=begun.cookie,
            known=known or "",
            name=self._digest_of(email),
            exp=int(self._core.clock()) + self._max_age,
        )
        self.cookie.set(resp, self._signed.issue(claims))

    @contextmanager
    def given(
        self, req: falcon.Request, body: MailedProofBody
    ) -> Iterator[tuple[Token, list[Budget]]]:
        """Check a link or a code; give the block its token, and the budgets that it clears.

        Nothing is used up, and only a code takes one of the token's tries. Not to be used inside a
        transaction. Raises InvalidLink, WrongCode, OtherBrowser or TooManyRequests.

        SECURITY: a link of an older mail clears no wrong codes. The mail may have gone to another
        address, and else whoever owns that one guesses codes without an end.
        """
        asking, code = self._asking(req), body.code
        linked = None if code is not None else self._tokens.find(self._purpose, body.token or "")
        budgets, tries = self._budgets_of(req, asking)
        if asking and code is not None:
            budgets = [*budgets, tries]
        with self._sign_in.attempt(budgets, caller_of(req), linked.user_id if linked else None):
            token = self._token(asking, linked, code)
            yield token, [tries] if asking and token.is_named_by(asking.token) else []

    def _token(self, asking: AskingClaims | None, linked: Token | None, code: str | None) -> Token:
        """Return the token of a link or a code. Raises InvalidLink, WrongCode or OtherBrowser."""
        if code is None and linked is None:
            raise InvalidLink
        if asking is None or (linked and not linked.is_bound_to(asking.token)):
            raise OtherBrowser
        token = linked or self._tokens.guess(self._purpose, code or "", cookie=asking.token)
        if token is None:
            raise WrongCode
        return token

    def _asking(self, req: falcon.Request) -> AskingClaims | None:
        """Return the claims of the one valid cookie that a request brings, or None."""
        found = []
        for token in dict.fromkeys(self.cookie.values(req)):
            with suppress(InvalidToken):
                found.append(self._signed.read(token, self._core.clock()))
        return found[0] if len(found) == 1 else None

    def _codes_of(self, name: str, user_id: int | None) -> list[Budget]:
        """Return the budgets of wrong codes for an address, and those in its user's browsers."""
        known = [] if user_id is None else [self._code.of(str(user_id))]
        return [self._code.of(self._digest_of(name)), *known]

    def _digest_of(self, name: str) -> str:
        root = self._core.root
        return root.derive(root.newest, "bound proof", name_key(name)[1]).hex()

    def _budgets_of(
        self, req: falcon.Request, asking: AskingClaims | None
    ) -> tuple[list[Budget], Budget]:
        """Return the budgets of the networks, and that of wrong codes for an address.

        In a known browser they are the user's own, which nobody else can use up.
        """
        address = caller_of(req).ip
        if asking and asking.known:
            networks = self._budgets.networks_of_known(address, int(asking.known))
            return networks, self._code.of(asking.known)
        return self._budgets.networks(address), self._code.of(asking.name if asking else "")


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: other features bind their proofs."""
