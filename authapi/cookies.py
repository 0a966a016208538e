"""Cookies: reading the Cookie field of a request, and setting and deleting this service's cookies.

The rules are those of RFC 6265bis, *Cookies: HTTP State Management Mechanism*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authapi.hosts import host_of, is_address
from authapi.settings import Settings


def values_of(field: str, name: str) -> list[str]:
    """Return the values that a Cookie field holds under a name, in its order.

    SECURITY: names are compared exactly, and only space and tab around them are no part of them
    (section 5.6). Names that merely look alike can be set without the rules of `__Host-`. Nothing
    is unquoted, so reading takes linear time.
    """
    values = []
    for pair in field.split(";"):
        key, equals, value = pair.partition("=")
        if equals and key.strip(" \t") == name:
            values.append(value.strip(" \t"))
    return values


@dataclass(frozen=True)
class Cookie:
    """A cookie of this service.

    It is sent to a `domain` and its subdomains, or, with an empty one, to this host alone. A
    browser may hold it for `other_domains` too, where an operator has changed the domain.
    """

    name: str
    secure: bool
    domain: str = ""
    other_domains: tuple[str, ...] = ()

    def values(self, environ: Mapping[str, Any]) -> list[str]:
        """Return the values that a request brings, of several domains or paths where several."""
        return values_of(environ.get("HTTP_COOKIE", ""), self.name)

    def lines(self, value: str, max_age: int, *, everywhere: bool) -> list[str]:
        """Return the values of `Set-Cookie`. An empty value and an age of 0 delete the cookie.

        They expire the cookie of this host alone where there is a domain, and `everywhere` those of
        all other domains. What expires comes first, for clients that know a cookie by its name.

        NOTE: Falcon's set_cookie drops a max_age of 0, its unset_cookie drops Secure, and without
        that a browser keeps a `__Host-` cookie.
        """
        expired = self.other_domains if everywhere else ("",) if self.domain else ()
        return [
            *(self._line("", 0, domain) for domain in expired),
            self._line(value, max_age, self.domain),
        ]

    def _line(self, value: str, max_age: int, domain: str) -> str:
        secure = "; Secure" if self.secure else ""
        scope = f"; Domain={domain}" if domain else ""
        return (
            f"{self.name}={value}; Max-Age={max_age}; Path=/; HttpOnly; SameSite=Lax{secure}{scope}"
        )


def host_cookie(name: str, settings: Settings) -> Cookie:
    """Return a cookie for this host alone, named with the prefix `__Host-` over https."""
    return Cookie(f"__Host-{name}" if settings.https else name, settings.https)


def session_cookie(settings: Settings) -> Cookie:
    """Return the cookie that holds the session's token."""
    name, domain = settings.cookie_name, settings.cookie_domain
    others = _domains_of(host_of(settings.public_url))
    if name.lower().startswith("__host-"):  # browsers take it for this host alone
        others = []
    kept = tuple(other for other in others if other != domain)
    return Cookie(name, settings.https, domain, ("", *kept) if domain else kept)


def _domains_of(host: str) -> list[str]:
    """Return the domains that a host may set cookies for, without top-level domains."""
    if is_address(host):
        return []
    labels = host.split(".")
    return [".".join(labels[first:]) for first in range(len(labels) - 1)]
