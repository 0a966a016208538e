"""Authentication: which session a request belongs to, and the middleware that requires one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import falcon

from authapi.core import Core
from authapi.errors import Failure, InvalidToken, NotAuthenticated, Unavailable
from authapi.inline import IN_LOOP, leave_loop
from authapi.principal import Claims, Principal, Session
from authapi.routing import takes_any_method
from authapi.session_tokens import Issued, Presented, SessionTokens

MOST_RESOURCES = 256  # whose methods are remembered


Find = Callable[[Claims, float], Session | None]
LookUp = Callable[[dict[str, Any], Claims, float], Session | None]
WasReplaced = Callable[[Claims, float], bool]
Renew = Callable[[falcon.Request], Issued | None]


def _issued_at(live: tuple[Claims, object]) -> int:
    return live[0].iat


def _require_unambiguous(found: list[tuple[Claims, Session]], bearer: Claims | None) -> None:
    """Raise InvalidToken for two sessions, or for a bearer token of ours that opens none.

    SECURITY: a client that sends a token of ours as a bearer means its user. No cookie stands in
    for it when it is dead. A bearer token that is not ours is another service's business.
    """
    sids = {claims.sid for claims, _ in found}
    if bearer:
        sids.add(bearer.sid)
    if len(sids) > 1:
        raise InvalidToken


class Authentication:
    """Finds the principal of a request by its tokens.

    `look_up` finds a live session where a server's loop runs the request and must not wait for the
    database; it is None where the loop may ask the database itself.
    """

    look_up: LookUp | None = None

    def __init__(self, core: Core, find: Find, was_replaced: WasReplaced) -> None:
        """Take the core, what finds a live session, and what knows those that were replaced."""
        self._tokens = core.of(SessionTokens)
        self._clock = core.clock
        self.find = find
        self._was_replaced = was_replaced

    def principal(self, req: falcon.Request) -> Principal:
        """Return the principal of the one live session that the tokens of a request open.

        Raises NotAuthenticated without a token, InvalidToken where each is bad or it is not clear
        which counts.
        """
        now, presented = self._clock(), self._tokens.presented(req)
        find = self.find
        if self.look_up is not None and req.env.get(IN_LOOP):
            find = partial(self.look_up, req.env)
        found = [
            (claims, session)
            for claims in presented.claims
            if claims.exp > now and (session := find(claims, now))
        ]
        if not found:
            raise self._refusal(presented)
        if len(found) > 1 or presented.of_bearer:
            _require_unambiguous(found, presented.of_bearer)
        claims, session = max(found, key=_issued_at) if len(found) > 1 else found[0]
        req.context.principal = principal = Principal(session.user, session, claims)
        req.context.session, req.context.user = session, session.user
        return principal

    def _refusal(self, presented: Presented) -> Failure:
        """Return the failure of a request without a live session.

        It is forged where a token came as one of ours, and none of our keys signed it. A bearer
        token that names none of our keys is another service's.
        """
        if not presented.cookie_tokens and presented.bearer is None:
            return NotAuthenticated()
        filled = [token for token in presented.cookie_tokens if token.strip('"')]
        unsigned = len(presented.of_cookies) < len(filled)
        bearer = presented.bearer if presented.of_bearer is None else None
        return InvalidToken(forged=unsigned or self._tokens.names_our_key(bearer or ""))

    def has_bad_cookies(self, req: falcon.Request) -> bool:
        """Return whether a request brought session cookies, and all are known to be bad.

        SECURITY: a cookie is deleted only then. So another's token, or a database that fails, logs
        nobody out.
        """
        presented = self._tokens.presented(req)
        if self.look_up is not None and presented.of_cookies:
            leave_loop(req.env)
        try:
            return bool(presented.cookie_tokens) and not any(
                map(self._may_be_good, presented.of_cookies)
            )
        except Unavailable:
            return False

    def _may_be_good(self, claims: Claims) -> bool:
        """Return whether a browser that sent this token may hold a good one, the same or a newer.

        NOTE: a request may be on its way while another one's answer sets a newer cookie, which
        has the same name. So the session counts, whatever the token's own expiry, and the one that
        took its place.
        """
        now = self._clock()
        alive = self.find(claims, now) is not None
        return alive or self._was_replaced(claims, now)


class Authenticate(Authentication):
    """Lets only a live session reach a resource, unless the resource says `public = True`.

    The principal must meet each of the resource's `needs`, such as `fresh`. `principal_of` gives
    the principal to the resource, and `req.context.user` and `req.context.session` give its parts.
    A session that is in use is renewed, unless the resource says `renews = False`. Where a request
    is refused, the resource's `refuse(req, failure)`, if it has one, may raise another failure.
    """

    def __init__(self, core: Core, find: Find, was_replaced: WasReplaced, renewed: Renew) -> None:
        """Take what Authentication takes, and what renews the session of a request."""
        super().__init__(core, find, was_replaced)
        self.renewed = renewed
        self._methods = _Methods()

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Raise NotAuthenticated, InvalidToken, or the failure of a need that is not met."""
        is_open = req.method == "OPTIONS" and not takes_any_method(resource)
        if is_open or getattr(resource, "public", False) is True:
            return
        try:
            principal = self.principal(req)
            for need in getattr(resource, "needs", ()):
                need(principal, self._clock())
        except Failure as failure:
            methods = self._methods.of(resource)
            if req.method in methods or takes_any_method(resource):
                if refuse := getattr(resource, "refuse", None):
                    refuse(req, failure)
                raise
            raise falcon.HTTPMethodNotAllowed([*methods, "OPTIONS"]) from None
        if getattr(resource, "renews", True) is True:
            renewed = self.renewed(req)
            if renewed:
                self._tokens.cookie.set(resp, renewed.token, renewed.max_age)


class _Methods:
    """The methods that each resource answers, found once for each resource.

    NOTE: by identity, because a resource need not be hashable, and two may be equal. It is kept
    beside its methods, so that its id stays its own.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, list[str]]] = {}

    def of(self, resource: object) -> list[str]:
        known = self._known.get(id(resource))
        if known is None:
            if len(self._known) >= MOST_RESOURCES:
                self._known.clear()
            known = self._known[id(resource)] = resource, _methods(resource)
        return known[1]


def _methods(resource: object) -> list[str]:
    """Return the methods that a resource answers, under any suffix of a route.

    SECURITY: whatever this says, nothing passes that is not authenticated: it only decides between
    401 and 405.
    """
    responders = {name for name in dir(resource) if name.startswith("on_")}
    found = {
        method
        for method in falcon.COMBINED_METHODS
        if callable(getattr(resource, f"on_{method.lower()}", None))
        or any(name.startswith((f"on_{method.lower()}_", "on_request")) for name in responders)
    }
    if "GET" in found:
        found.add("HEAD")
    return sorted(found - {"OPTIONS"})
