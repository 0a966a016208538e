"""Who users are to the applications behind the service, and what they may be called."""

from __future__ import annotations

from dataclasses import dataclass

from authapi.setting import refused, setting
from authapi.settings.limits import LimitSettings
from authapi.usernames import fault

# Mailboxes that stand for an organisation (RFC 2142; CA/Browser Forum, Baseline Requirements,
# 3.2.2.4.4), accounts of systems, and what readers take for the operator or for nobody.
RESERVED = (
    "abuse admin administrator anonymous authapi billing daemon devnull ftp guest helpdesk "
    "hostmaster info mailer-daemon marketing moderator news no-reply nobody noc null official "
    "operator owner postmaster root sales security ssl-admin ssl-administrator ssl-webmaster "
    "staff superuser support sysadmin sysop system undefined usenet uucp webmaster www"
)


@dataclass(frozen=True, kw_only=True)
class IdentitySettings(LimitSettings):
    """What users may be called, and what applications are told of them."""

    reserved_usernames: str = setting(
        RESERVED,
        "Usernames that nobody may take, with a space between them; none reserves none.",
    )
    verify_email_header: str = setting(
        "confirmed",
        "Which email addresses GET /verify sends as X-Auth-Email: confirmed or always.",
        choices=("confirmed", "always"),
    )

    def __post_init__(self) -> None:
        """Check the reserved names."""
        super().__post_init__()
        for name in self.reserved:
            if fault(name):
                raise refused("reserved_usernames", name, "usernames with a space between them")

    @property
    def reserved(self) -> list[str]:
        """The reserved usernames."""
        names = self.reserved_usernames.split()
        return [] if names == ["none"] else names
