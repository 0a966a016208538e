"""Forward authentication: a proxy asks for the user of a request.

Endpoint: GET /verify. Table: none of its own.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from urllib.parse import quote

import falcon

from authapi.answers import UserAnswer
from authapi.core import Core
from authapi.operations import operation
from authapi.principal import principal_of
from authapi.settings import SettingsGroup, setting

REQUIRES: tuple[str, ...] = ()

_PLAIN = string.punctuation.replace("%", "")  # what a header may hold as it is, but for the escape


@dataclass(frozen=True, kw_only=True)
class ForwardAuthSettings(SettingsGroup):
    """The headers that tell applications behind a proxy about a user."""

    verify_email_header: str = setting(
        "confirmed",
        "Which email addresses GET /verify sends as X-Auth-Email: confirmed or always.",
        choices=("confirmed", "always"),
    )


class VerificationResource:
    """Tells a proxy the user of a session, in headers that it can pass on."""

    quick = True
    renews = False  # proxies drop the cookie of the answer

    def __init__(self, core: Core) -> None:
        """Take the wire, and which email addresses may be sent."""
        self._wire = core.wire
        settings = core.settings.of(ForwardAuthSettings)
        self._sends_every_email = settings.verify_email_header == "always"

    @operation(
        "Show whose session it is, to a proxy.",
        name="verify",
        answers=UserAnswer,
        headers={
            "X-Auth-User-Id": "The user's id.",
            "X-Auth-Username": "The username, percent-encoded.",
            "X-Auth-Email": "The email, percent-encoded, if it is verified. A setting.",
        },
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the user, in the headers too.

        SECURITY: applications take X-Auth-Email for proof of the address. So the operator must ask
        for addresses that nobody has proved.
        """
        user = principal_of(req).user
        resp.set_header("X-Auth-User-Id", str(user.id))
        resp.set_header("X-Auth-Username", _encoded(user.username))
        is_proved = user.email_verified and self._wire.shows_email_verified
        if self._sends_every_email or is_proved:
            resp.set_header("X-Auth-Email", _encoded(user.email))
        self._wire.answer_user(resp, 200, "User.", user)


def _encoded(text: str) -> str:
    """Percent-encode what is not visible ASCII, and the percent sign (RFC 3986, 2.1)."""
    return quote(text, safe=_PLAIN)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the route."""
    app.add_route("/verify", VerificationResource(core))
