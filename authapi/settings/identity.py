"""Who users are to the applications behind the service."""

from __future__ import annotations

from dataclasses import dataclass

from authapi.setting import setting
from authapi.settings.limits import LimitSettings


@dataclass(frozen=True, kw_only=True)
class IdentitySettings(LimitSettings):
    """What applications are told of a user."""

    verify_email_header: str = setting(
        "confirmed",
        "Which email addresses GET /verify sends as X-Auth-Email: confirmed or always.",
        choices=("confirmed", "always"),
    )
