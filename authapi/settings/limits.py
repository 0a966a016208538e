"""Who may register, and how often what may be tried."""

from __future__ import annotations

from dataclasses import dataclass

from authapi.setting import setting
from authapi.settings.passwords import PasswordSettings


@dataclass(frozen=True, kw_only=True)
class LimitSettings(PasswordSettings):
    """The budgets of tries."""

    registration: str = setting(
        "open", "Who may register: open (anyone) or closed (nobody).", choices=("open", "closed")
    )
    rate_limits: str = setting(
        "on", "Whether tries are limited at all: on or off.", choices=("on", "off")
    )
    login_account_limit: str = setting(
        "10/hour", "Failed logins in a row with one name.", rate=True
    )
    login_network_limit: str = setting(
        "300/hour",
        "Logins from one network: an IPv4 address or an IPv6 /64; a /56 has twice as many, "
        "a /48 four times.",
        rate=True,
    )
    login_lockout: int = setting(
        100,
        "Failed logins in a row after which a name is locked out, but for browsers that it has "
        "logged in with before.",
        low=1,
        high=1_000_000,
    )
    registration_limit: str = setting("20/hour", "Registrations from one network.", rate=True)
    password_limit: str = setting(
        "10/hour", "Wrong passwords in a row in the sessions of one user.", rate=True
    )
