"""Devices: browsers in which their user has signed in before (OWASP Device Cookies).

Such a browser has a budget of its own, which nobody else can use up, as they can that of a name.

Endpoints: none. Table: none.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import falcon
import msgspec

from authapi.cookies import Cookie
from authapi.core import Core
from authapi.errors import InvalidToken
from authapi.features.sign_in import Proof, SignIn
from authapi.features.users import Credential, UserRepository
from authapi.identifiers import name_key

REQUIRES = ("sign_in", "users")

LIFETIME = 365 * 86_400  # seconds
COOKIE = Cookie("device", max_age=LIFETIME)
MOST_OWNERS = 4  # whose cookies are looked at before a login has a place


class DeviceClaims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of a device token: whose browser it is, which one, and until when.

    `ver` is the version of the password that was given there.
    """

    sub: str
    jti: str
    ver: int
    exp: int


class Devices:
    """Recognizes browsers in which a user has signed in before, by a signed cookie."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._users = core.of(UserRepository)
        self.tokens = core.tokens.signed("device+jwt", DeviceClaims)
        self._cookie = core.cookies.add(COOKIE)

    def recognize(self, req: falcon.Request, identifier: str) -> DeviceClaims | None:
        """Return the claims of the device cookie of the user with this name, or None.

        Only a cookie for the user's current password counts. Another host of the domain may plant
        cookies of its own beside it.

        SECURITY: it looks up the cookie's user and not the identifier's, so that its time does not
        tell whether there is such a user.
        """
        for claims in self._claims(req):
            owner = self._users.by_id(int(claims.sub))
            if owner is not None and owner.password_version == claims.ver:
                names = {name_key(owner.user.username), name_key(owner.user.email)}
                if name_key(identifier) in names:
                    return claims
        return None

    def know(self, req: falcon.Request, credential: Credential) -> bool:
        """Return whether a user has signed in with the browser, with the current password."""
        user = str(credential.user.id), credential.password_version
        return any((claims.sub, claims.ver) == user for claims in self._claims(req))

    def owners(self, req: falcon.Request) -> list[str]:
        """Return the ids of users who have signed in with the browser, by its cookies alone.

        They may have another password now, or be gone. There are several where another host of the
        domain planted cookies of its own.
        """
        return [claims.sub for claims in islice(self._claims(req), MOST_OWNERS)]

    def remember(self, _req: falcon.Request, resp: falcon.Response, proof: Proof) -> None:
        """Make the browser known to the user of a proof from now on.

        SECURITY: each proof gives the browser another token, so that a copy of an older cookie has
        a budget of its own.
        """
        token = self.tokens.issue(
            DeviceClaims(
                sub=str(proof.credential.user.id),
                jti=secrets.token_urlsafe(16),
                ver=proof.credential.password_version,
                exp=int(self._core.clock()) + LIFETIME,
            )
        )
        self._cookie.set(resp, token)

    def _claims(self, req: falcon.Request) -> Iterator[DeviceClaims]:
        """Yield the claims of each valid device token that a request brings."""
        for token in dict.fromkeys(self._cookie.values(req)):
            with suppress(InvalidToken):
                yield self.tokens.read(token, self._core.clock())


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Make the browser of each sign-in known."""
    core.of(SignIn).follow(core.of(Devices).remember)
