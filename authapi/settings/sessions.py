"""Sessions and their cookie."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from authapi.hosts import host_of, is_name
from authapi.settings.group import SettingError, SettingsGroup, refused, setting
from authapi.settings.server import ServerSettings

if TYPE_CHECKING:
    from authapi.settings import Settings

LONGEST_SESSION = 3_650 * 86_400  # seconds
LONGEST_COOKIE_LIFETIME = 400 * 86_400  # seconds; browsers cut longer ones (RFC 6265bis, 5.5)

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")


@dataclass(frozen=True, kw_only=True)
class SessionSettings(SettingsGroup):
    """The lifetimes of sessions, their number for each user, and their cookie."""

    cookie_name: str = setting(
        "", "The session cookie's name. Default: jwt, or __Host-jwt if the public URL is https."
    )
    cookie_domain: str = setting(
        "", "The cookie's Domain, to share it with subdomains. Default: none, this host only."
    )
    session_lifetime: int = setting(
        259_200,
        "Seconds that a session may be idle; its cookie lives as long.",
        low=60,
        high=LONGEST_COOKIE_LIFETIME,
        unit="seconds",
    )
    session_max_lifetime: int = setting(
        2_592_000,
        "Seconds after which a session ends even if it is in use.",
        low=60,
        high=LONGEST_SESSION,
        unit="seconds",
    )
    session_renew_after: int = setting(
        0,
        "Seconds after which a session's cookie is renewed. Default: 3600, or half of "
        "AUTHAPI_SESSION_LIFETIME if that is less.",
        low=0,
        high=LONGEST_COOKIE_LIFETIME,
        unit="seconds",
    )
    max_sessions: int = setting(
        100,
        "Sessions of one user. A further login ends the longest unused one.",
        low=1,
        high=10_000,
    )

    def completed(self, settings: Settings) -> Self:
        """Return the group with its defaults filled in. Raises SettingError.

        The lifetimes are checked against each other, and the cookie against the public URL.
        """
        server = settings.of(ServerSettings)
        name = self.cookie_name or ("__Host-jwt" if server.https else "jwt")
        _check_cookie_name(name, https=server.https)
        return replace(
            self,
            cookie_name=name,
            cookie_domain=_checked_domain(self.cookie_domain, name, host_of(server.public_url)),
            session_renew_after=self._renewal(),
        )

    def _renewal(self) -> int:
        if self.session_max_lifetime < self.session_lifetime:
            raise SettingError(
                "AUTHAPI_SESSION_MAX_LIFETIME must be at least AUTHAPI_SESSION_LIFETIME: "
                f"set it to {self.session_lifetime} or more, or shorten the lifetime."
            )
        renew_after = self.session_renew_after or min(3_600, self.session_lifetime // 2)
        if renew_after >= self.session_lifetime:
            raise SettingError(
                "AUTHAPI_SESSION_RENEW_AFTER must be less than AUTHAPI_SESSION_LIFETIME "
                f"({self.session_lifetime}), or sessions would end before their renewal."
            )
        return renew_after


def _check_cookie_name(name: str, *, https: bool) -> None:
    if not _TOKEN.fullmatch(name):
        raise refused("cookie_name", name, "a cookie name (RFC 6265: letters, digits, - and _)")
    if name.lower().startswith(("__host-", "__secure-")) and not https:
        raise SettingError(
            f"AUTHAPI_COOKIE_NAME {name!r} needs an https AUTHAPI_PUBLIC_URL, "
            "or browsers drop the cookie: set one, or choose a name without the prefix."
        )


def _checked_domain(given: str, name: str, host: str) -> str:
    """Return the cookie's domain in lower case, without a dot before it. Raises SettingError."""
    if not given:
        return ""
    if name.lower().startswith("__host-"):
        raise SettingError(
            "AUTHAPI_COOKIE_DOMAIN cannot go with a __Host- cookie: "
            "set AUTHAPI_COOKIE_NAME=__Secure-jwt, or leave the domain unset."
        )
    domain = given.lower().removeprefix(".")
    named = given.isascii() and _HOST_NAME.fullmatch(domain) and is_name(host)
    if not named or not f".{host}".endswith(f".{domain}"):
        raise refused(
            "cookie_domain",
            given,
            f"the host of AUTHAPI_PUBLIC_URL ({host}) or a parent domain of it",
        )
    return domain
