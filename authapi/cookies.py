"""Cookies: how they are declared, read from a request, and set and deleted in an answer.

The rules are those of RFC 6265bis, *Cookies: HTTP State Management Mechanism*.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from http.cookies import Morsel
from typing import Any

import falcon
import msgspec

from authapi.body_tokens import has_token
from authapi.errors import StartError
from authapi.headers import is_shared
from authapi.hosts import is_address
from authapi.settings import ServerSettings, SessionSettings, Settings

_VALUE = re.compile(r"[!#$%&'*+\-.^_`|~:0-9A-Za-z]*")  # what http.cookies writes without quotes


class _GMT(datetime):
    """A time that is always formatted in English. Falcon would format it by the locale."""

    def strftime(self, _format: str) -> str:
        return format_datetime(self, usegmt=True)


_PAST = _GMT(1970, 1, 1, tzinfo=UTC)


def values_of(field: str, name: str) -> list[str]:
    """Return the values that a Cookie field holds under a name, in its order.

    SECURITY: names are compared exactly, and only space and tab around them are no part of them
    (section 5.6). Names that merely look alike can be set without the rules of `__Host-`. Nothing
    is unquoted, so reading takes linear time (CVE-2024-7592).
    """
    values = []
    for pair in field.split(";"):
        key, equals, value = pair.partition("=")
        if equals and key.strip(" \t") == name:
            values.append(value.strip(" \t"))
    return values


def domains_of(host: str) -> list[str]:
    """Return the domains that a host may set cookies for, without top-level domains."""
    if is_address(host):
        return []
    labels = host.split(".")
    return [".".join(labels[first:]) for first in range(len(labels) - 1)]


class Cookie(msgspec.Struct, frozen=True):
    """A feature's cookie. It is for this host alone, and lives for `max_age` seconds.

    Over https its name has the prefix `__Host-`.
    """

    name: str
    max_age: int


class BoundCookie:
    """A cookie of one application, named and scoped as its settings say.

    It is sent to a `domain` and its subdomains, or, with an empty one, to this host alone. It
    always has `Path=/`, `HttpOnly` and `SameSite=Lax`.
    """

    def __init__(self, name: str, max_age: int, *, secure: bool, domain: str = "") -> None:
        """Take the name with its prefix. Raises StartError for the name of an attribute."""
        if Morsel().isReservedKey(name):
            raise StartError(f"A cookie cannot be named {name!r}: choose another name.")
        self.name = name
        self._max_age = max_age
        self._secure = secure
        self._domain = domain

    def values(self, req: falcon.Request) -> list[str]:
        """Return the values that a request brings; several where several domains or paths do."""
        return values_of(req.env.get("HTTP_COOKIE", ""), self.name)

    def values_in(self, headers: Mapping[str, str]) -> list[str]:
        """Return what `values` does, of the fields of a request by their names in capitals."""
        return values_of(headers.get("COOKIE", ""), self.name)

    def set(self, resp: falcon.Response, value: str, max_age: int | None = None) -> None:
        """Set the cookie in an answer, for so many seconds. The last call for a cookie counts.

        Raises ValueError for a value that would have to be quoted.
        """
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the value of the cookie {self.name} would have to be quoted")
        _asked_for(resp)[self] = value, self._max_age if max_age is None else max_age

    def delete(self, resp: falcon.Response) -> None:
        """Delete the cookie in an answer."""
        _asked_for(resp)[self] = "", 0

    def leave(self, resp: falcon.Response) -> None:
        """Neither set nor delete the cookie in an answer, whatever was asked for before."""
        _asked_for(resp).pop(self, None)

    def write(self, req: falcon.Request, resp: falcon.Response, value: str, max_age: int) -> None:
        """Write the cookie into a response, once. An age of 0 deletes it.

        The lines that expire it for other domains come first, because some clients identify a
        cookie by its name alone. NOTE: Falcon writes its one cookie of a name after appended lines.
        """
        for domain in self.expired_domains(req, max_age):
            resp.append_header("Set-Cookie", self._line("", 0, domain))
        resp.set_cookie(
            self.name,
            value,
            # NOTE: Falcon drops a max_age of 0, and its unset_cookie drops Secure, without which a
            # browser keeps a `__Host-` cookie.
            expires=None if max_age else _PAST,
            max_age=max_age,
            domain=self._domain,
            path="/",
            secure=self._secure,
            http_only=True,
            same_site="Lax",
        )

    def lines(self, req: falcon.Request, value: str, max_age: int) -> list[str]:
        """Return what `write` writes as values of `Set-Cookie`, where Falcon does not answer."""
        expired = [self._line("", 0, domain) for domain in self.expired_domains(req, max_age)]
        return [*expired, self._line(value, max_age, self._domain)]

    def expired_domains(self, _req: falcon.Request, _max_age: int) -> Iterable[str]:
        """Return the other domains for which the answer expires the cookie; "" is this host."""
        return ()

    def _line(self, value: str, max_age: int, domain: str) -> str:
        morsel: Morsel[str] = Morsel()
        morsel.set(self.name, value, value)
        attributes: dict[str, Any] = {
            "path": "/",
            "domain": domain,
            "max-age": str(max_age) if max_age else "",
            "expires": "" if max_age else _PAST.strftime(""),
            "secure": self._secure,
            "httponly": True,
            "samesite": "Lax",
        }
        morsel.update(attributes)
        return morsel.OutputString()


class Cookies:
    """The cookies of an application. Each has a name of its own."""

    def __init__(self, settings: Settings) -> None:
        """Take the session cookie's name, which an operator may have chosen."""
        self._https = settings.of(ServerSettings).https
        self._session = _caseless(settings.of(SessionSettings).cookie_name)
        self._names: set[str] = set()

    def add(self, cookie: Cookie) -> BoundCookie:
        """Bind a feature's cookie. Raises StartError where the session cookie has its name.

        Raises ValueError where another feature's cookie has it.
        """
        name = _caseless(cookie.name)
        if name == self._session:
            raise StartError(
                f"AUTHAPI_COOKIE_NAME cannot be {cookie.name!r}, which is another cookie's name: "
                "choose another."
            )
        if name in self._names:
            raise ValueError(f"a cookie named {cookie.name!r} is declared already")
        self._names.add(name)
        return BoundCookie(self.name_of(cookie), cookie.max_age, secure=self._https)

    def name_of(self, cookie: Cookie) -> str:
        """Return the name of a feature's cookie, with its prefix over https."""
        return f"__Host-{cookie.name}" if self._https else cookie.name

    @staticmethod
    def write(req: falcon.Request, resp: falcon.Response) -> None:
        """Write the cookies of an answer into its response, unless shared caches may keep it.

        An answer whose body has the token deletes cookies, and sets none.
        """
        asked_for = getattr(resp.context, "authapi_cookies", None)
        if asked_for and not is_shared(resp.get_header("Cache-Control")):
            for cookie, (value, max_age) in asked_for.items():
                if not (max_age and has_token(resp)):
                    cookie.write(req, resp, value, max_age)


def _asked_for(resp: falcon.Response) -> dict[BoundCookie, tuple[str, int]]:
    """Return the cookies that an answer sets or deletes: for each its value, and age in seconds."""
    try:
        asked_for: dict[BoundCookie, tuple[str, int]] = resp.context.authapi_cookies
    except AttributeError:
        asked_for = resp.context.authapi_cookies = {}
    return asked_for


def _caseless(name: str) -> str:
    return name.lower().removeprefix("__host-")
