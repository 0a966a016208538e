"""The token of a session: its type, its cookie, and the tokens that a request brings."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import falcon
import msgspec

from authapi.body_tokens import HEADER, offer, refuses_cookies
from authapi.cookies import BoundCookie, domains_of
from authapi.core import Core
from authapi.fields import bearer_token
from authapi.headers import Lines, is_private
from authapi.hosts import host_of
from authapi.middleware import asks_for_token
from authapi.principal import Claims, User
from authapi.settings import ServerSettings, SessionSettings, Settings

REMEMBERED = 1_024  # tokens
MOST_COOKIES = 256  # session cookies of a request that are read; a browser holds fewer for a site
NOT_STORED = ("Cache-Control", "no-store")
NOT_SHARED = ("Cache-Control", "private")


class Presented(msgspec.Struct):
    """The distinct tokens that a request brings, and the claims of those that are ours.

    The claims are those of good signatures. A token may have expired, and its session ended.
    """

    cookie_tokens: list[str]
    bearer: str | None
    of_cookies: list[Claims]
    of_bearer: Claims | None

    @property
    def claims(self) -> list[Claims]:
        """Return the claims of all tokens."""
        return [*self.of_cookies, self.of_bearer] if self.of_bearer else self.of_cookies


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token of a session, good for `max_age` seconds."""

    claims: Claims = field(repr=False)
    token: str = field(repr=False)
    max_age: int

    @property
    def session_id(self) -> str:
        """Return the session's public id."""
        return public_id(self.claims)


def new_secret() -> str:
    """Return a session's secret id, 256 random bits in base64url."""
    return secrets.token_urlsafe(32)


def public_id(claims: Claims) -> str:
    """Return the public id of a token's session."""
    return digest(claims.sid)


@lru_cache(maxsize=REMEMBERED)
def digest(secret: str) -> str:
    """Return the public id of the session with a secret id: its SHA-256, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


class SessionTokens:
    """Issues and reads the tokens of sessions. `cookie` is the session cookie."""

    def __init__(self, core: Core) -> None:
        """Declare the type of the tokens, and their cookie."""
        self._clock = core.clock
        self._signed = core.tokens.signed("session+jwt", Claims, remembered=REMEMBERED)
        self.issue = self._signed.issue
        self.read = self._signed.read
        self.names_our_key = self._signed.names_our_key
        self.cookie = SessionCookie(core.settings, self)

    def issue_for(self, user: User, secret: str, *, issued_at: int, expires_at: int) -> Issued:
        """Return the token of a user's session, named by its secret id."""
        claims = Claims(
            id=user.id,
            username=user.username,
            sub=str(user.id),
            iat=issued_at,
            exp=expires_at,
            sid=secret,
        )
        max_age = max(0, expires_at - int(self._clock()))
        return Issued(claims, self.issue(claims), max_age)

    def foreseen(self, headers: Mapping[str, str]) -> Claims | None:
        """Return the claims of the one token of ours that a request brings, in a cookie.

        Return None where it brings another number of them, or a bearer token. The names of the
        header fields are in capitals.
        """
        if "AUTHORIZATION" in headers:
            return None
        cookies = self.cookie.values_in(headers)
        return self._signed.verified(cookies[0]) if len(cookies) == 1 else None

    def presented(self, req: falcon.Request) -> Presented:
        """Return the tokens that a request brings. They are read once."""
        presented: Presented | None = getattr(req.context, "authapi_presented", None)
        if presented is None:
            presented = req.context.authapi_presented = self._presented(req)
        return presented

    def _presented(self, req: falcon.Request) -> Presented:
        cookies, verified = self.cookie.values(req), self._signed.verified
        if len(cookies) > 1:
            # SECURITY: a server may bound no header, and each forged token costs 30 us of a loop.
            cookies = list(dict.fromkeys(cookies[:MOST_COOKIES]))
        authorization = req.env.get("HTTP_AUTHORIZATION")
        bearer = bearer_token(authorization) if authorization else None
        of_cookies = list(filter(None, map(verified, cookies)))
        return Presented(cookies, bearer, of_cookies, None if bearer is None else verified(bearer))

    def hand_out(self, req: falcon.Request, resp: falcon.Response, issued: Issued) -> None:
        """Give a client the new token of its session, in the body if it asks for that.

        SECURITY: a session that came in a cookie stays in the cookie, which no script can read.
        """
        self.cookie.set(resp, issued.token, issued.max_age)
        is_bearer = self.came_as_bearer(req)
        if asks_for_token(req) and (is_bearer or not hasattr(req.context, "principal")):
            offer(resp, issued.token, issued.claims.exp)
            if is_bearer:
                resp.set_header(HEADER, issued.token)

    def came_as_bearer(self, req: falcon.Request) -> bool:
        """Return whether a good token of a request's session came as a bearer, beside a cookie too.

        SECURITY: an expired one beside a cookie does not count, so that it opens nothing again.
        """
        bearer = self.presented(req).of_bearer if hasattr(req.context, "principal") else None
        return bearer is not None and bearer.exp > self._clock()

    def delete_brought(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Delete the session cookie where the request brought one, and set none.

        SECURITY: a bearer token alone says nothing of the cookie that its sender may have.
        """
        self.cookie.leave(resp)
        if self.presented(req).cookie_tokens:
            self.cookie.delete(resp)


class SessionCookie(BoundCookie):
    """The cookie that holds a session's token, for this host or for a domain.

    A browser may hold it for other domains too, where an operator has changed the domain.
    """

    def __init__(self, settings: Settings, tokens: SessionTokens) -> None:
        """Take the name and the domain from the settings."""
        server, sessions = settings.of(ServerSettings), settings.of(SessionSettings)
        name, domain = sessions.cookie_name, sessions.cookie_domain
        super().__init__(name, sessions.session_lifetime, secure=server.https, domain=domain)
        self._tokens = tokens
        others = domains_of(host_of(server.public_url))
        if name.lower().startswith("__host-"):  # browsers take it for this host alone
            others = []
        kept = [other for other in others if other != domain]
        self._other_domains = ["", *kept] if domain else kept
        self._always_expired = [""] if domain else []

    def write(self, req: falcon.Request, resp: falcon.Response, value: str, max_age: int) -> None:
        """Write the token into a response: for a bearer in a header, and in the cookie.

        A client that keeps the token itself gets no cookie.

        SECURITY: a cache that kept the answer would give the token to others. Some refuse answers
        with Set-Cookie by themselves, and none refuses those with our header.
        """
        if max_age and self._tokens.came_as_bearer(req):
            resp.set_header(HEADER, value)
            resp.set_header(*NOT_STORED)
            if refuses_cookies(req):
                return
        elif max_age and not is_private(resp.get_header("Cache-Control")):
            resp.append_header(*NOT_SHARED)
        super().write(req, resp, value, max_age)

    def headers(self, req: falcon.Request, value: str, max_age: int) -> Lines:
        """Return what `write` writes as headers, where Falcon does not answer."""
        cookies = [("Set-Cookie", line) for line in self.lines(req, value, max_age)]
        if not max_age:
            return cookies
        if not self._tokens.came_as_bearer(req):
            return [NOT_SHARED, *cookies]
        return [(HEADER, value), NOT_STORED, *([] if refuses_cookies(req) else cookies)]

    def expired_domains(self, req: falcon.Request, max_age: int) -> list[str]:
        """Return the domains whose cookie the answer expires, "" for this host alone.

        A browser that brings several cookies has them for several domains. Those for other domains
        expire, and so does one whose domain is not known when the cookie is deleted. None expires
        where one of them holds no token of ours: it is another service's.
        """
        if not self._other_domains:
            return []
        presented = self._tokens.presented(req)
        brought = len(presented.cookie_tokens)
        strays = brought > 1 or (brought == 1 and not max_age)
        everywhere = strays and len(presented.of_cookies) == brought
        return self._other_domains if everywhere else self._always_expired
