"""Forward authentication: a proxy asks for the user of a request.

Endpoint: GET /verify. Table: none of its own.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import quote

import falcon

from authapi.answers import UserAnswer
from authapi.core import Core
from authapi.errors import CrossSiteRequest, Failure
from authapi.hosts import as_origin, host_of
from authapi.middleware import CrossSite
from authapi.operations import operation
from authapi.principal import principal_of
from authapi.settings import (
    ServerSettings,
    SessionSettings,
    Settings,
    SettingsGroup,
    refused,
    setting,
)

REQUIRES: tuple[str, ...] = ()

LONGEST_WAY_BACK = 2_048  # characters, encoded; proxies bound the headers of an answer

IDENTITY = {
    "X-Auth-User-Id": "The user's id.",
    "X-Auth-Username": "The username, percent-encoded.",
    "X-Auth-Email": "The email, percent-encoded, if it is verified. A setting.",
}

_PLAIN = string.punctuation.replace("%", "")  # what a header may hold as it is, but for the escape
_TARGET = re.compile(r"/[!-~]*")  # a path and a query, as a client sends them
_PAGE = re.compile(r"(?:[/?][!-~]*)?")
_LOGIN_URL = "http:// or https://, a host and perhaps a path, such as https://example.com/login"
_MAY_NAVIGATE = frozenset({"GET", "HEAD", "POST"})


class LoginRequired(Failure):
    """Raised when a browser opens a page without a session and there is a login page."""

    status, error, message = 302, "login_required", "Log in first."
    header_names = ("Location",)

    def __init__(self, location: str, notice: str = "") -> None:
        """Take the URL of the login page, with the way back, and the notice of the refusal."""
        super().__init__()
        self._location, self.notice = location, notice

    @property
    def headers(self) -> dict[str, str]:
        """Return the login page's URL as `Location`."""
        return {**super().headers, "Location": self._location}


class LoginRequiredUnderNginx(LoginRequired):
    """Raised in place of the redirect for `?status=401`: nginx passes no redirect on."""

    status, challenge = 401, "Bearer"


@dataclass(frozen=True, kw_only=True)
class ForwardAuthSettings(SettingsGroup):
    """The headers that tell applications behind a proxy about a user."""

    verify_email_header: str = setting(
        "confirmed",
        "Which email addresses GET /verify sends as X-Auth-Email: confirmed or always.",
        choices=("confirmed", "always"),
    )
    login_url: str = setting(
        "",
        "The login page to which GET /verify redirects browsers without a session. "
        "Default: none, they get 401.",
    )

    def completed(self, settings: Settings) -> Self:
        """Return the group with the login page's URL in canonical form. Raises SettingError."""
        https = settings.of(ServerSettings).https
        return replace(self, login_url=self.login_url and _page(self.login_url, https=https))


def _page(url: str, *, https: bool) -> str:
    scheme, _, rest = url.partition("://")
    host = re.split("[/?]", rest, maxsplit=1)[0]
    origin, page = as_origin(f"{scheme}://{host}"), rest.removeprefix(host)
    if origin is None or not _PAGE.fullmatch(page) or set(page) & set("#\\"):
        raise refused("login_url", url, _LOGIN_URL)
    if https and origin.startswith("http:"):
        raise refused("login_url", url, "an https:// URL, because users type passwords there")
    return f"{origin}{page if page.startswith('/') else '/' + page}"


class LoginPage:
    """Knows where a browser without a session logs in, and the way back from there."""

    def __init__(self, settings: Settings) -> None:
        """Take the page, and the origins to which it may lead back."""
        server = settings.of(ServerSettings)
        self._url = settings.of(ForwardAuthSettings).login_url
        self._scheme = server.public_url.partition(":")[0]
        self._origins = {server.public_url, *server.origins}
        self._domain = settings.of(SessionSettings).cookie_domain

    def location(self, req: falcon.Request, target: str) -> str | None:
        """Return where to send a request for a path and query of an application; None for no one.

        A program is not redirected, and neither is a request for the login page itself.
        """
        if not self._url or not _is_navigation(req):
            return None
        origin = as_origin(f"{self._scheme}://{req.env.get('HTTP_HOST', '')}")
        if f"{origin}{target}".partition("?")[0] == self._url.partition("?")[0]:
            return None
        if origin is None or not self._leads_to(origin) or not _TARGET.fullmatch(target):
            return self._url
        way_back = quote(f"{origin}{target}", safe="/:?=@,;")
        if len(way_back) > LONGEST_WAY_BACK:
            return self._url
        return f"{self._url}{'&' if '?' in self._url else '?'}return_to={way_back}"

    def _leads_to(self, origin: str) -> bool:
        """Return whether the way back may lead to an origin.

        SECURITY: these are the origins that get the session's cookie or may read our answers. Any
        other would make the login page an open redirect (CWE-601).
        """
        if origin in self._origins:
            return True
        return bool(self._domain) and f".{host_of(origin)}".endswith(f".{self._domain}")


def _is_navigation(req: falcon.Request) -> bool:
    """Return whether a browser opens a page (Fetch Metadata), or an older one seems to.

    A script's request is none, whatever it accepts: it would follow a redirect and take the login
    page for its data.
    """
    if req.method not in _MAY_NAVIGATE:
        return False
    mode = req.get_header("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    is_script = req.get_header("X-Requested-With") or req.get_header("HX-Request")
    return not is_script and "text/html" in req.get_header("Accept", default="").lower()


def _forwarded_target(req: falcon.Request) -> str:
    """Return the path and query for which a trusted proxy asks, or an empty text.

    SECURITY: our server removes X-Forwarded-Host from the request of anybody else, so the target
    beside it is the proxy's.
    """
    if req.get_header("X-Forwarded-Host") is None:
        return ""
    return req.get_header("X-Forwarded-Uri", default="")


class Verification:
    """Tells a proxy the user of a session, in headers that it can pass on."""

    quick = True
    renews = False  # proxies drop the cookie of the answer

    def __init__(self, core: Core) -> None:
        """Take the wire, the login page, and which email addresses may be sent."""
        self._wire = core.wire
        self._cross_site = CrossSite(core.settings, core.notices)
        self._page = LoginPage(core.settings)
        settings = core.settings.of(ForwardAuthSettings)
        self._sends_every_email = settings.verify_email_header == "always"

    def answer(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the user, in the headers too. Raises CrossSiteRequest.

        SECURITY: applications take X-Auth-Email for proof of the address. So the operator must ask
        for addresses that nobody has proved. And anybody may name a method for which the proxy
        asks: the worst is that the request is refused.
        """
        asked_for = req.env.get("HTTP_X_FORWARDED_METHOD")
        if asked_for:
            self._cross_site.check(req, asked_for)
        user = principal_of(req).user
        resp.set_header("X-Auth-User-Id", str(user.id))
        resp.set_header("X-Auth-Username", _encoded(user.username))
        is_proved = user.email_verified and self._wire.shows_email_verified
        if self._sends_every_email or is_proved:
            resp.set_header("X-Auth-Email", _encoded(user.email))
        self._wire.answer_user(resp, 200, "User.", user)

    def redirect(
        self,
        req: falcon.Request,
        target: str,
        failure: Failure,
        kind: type[LoginRequired] = LoginRequired,
    ) -> None:
        """Raise LoginRequired in place of a failure, for a browser and where there is a page."""
        location = self._page.location(req, target)
        if location:
            raise kind(location, failure.notice) from None


class VerificationResource(Verification):
    """Answers a proxy that asks with GET, whatever the method of the request."""

    @operation(
        "Show whose session it is, to a proxy.",
        name="verify",
        answers=UserAnswer,
        headers=IDENTITY,
        raises=(CrossSiteRequest, LoginRequired, LoginRequiredUnderNginx),
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the user."""
        self.answer(req, resp)

    def refuse(self, req: falcon.Request, failure: Failure) -> None:
        """Raise LoginRequired in place of a failure, for a browser and where there is a page."""
        stays = req.get_param("status") == "401"
        kind = LoginRequiredUnderNginx if stays else LoginRequired
        self.redirect(req, _forwarded_target(req), failure, kind)


def _encoded(text: str) -> str:
    """Percent-encode what is not visible ASCII, and the percent sign (RFC 3986, 2.1)."""
    return quote(text, safe=_PLAIN)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route."""
    app.add_route("/verify", VerificationResource(core))
