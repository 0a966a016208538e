"""The policy for passwords, and what a hash costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from authapi.settings.group import SettingError, SettingsGroup, setting

if TYPE_CHECKING:
    from authapi.settings import Settings


@dataclass(frozen=True, kw_only=True)
class PasswordSettings(SettingsGroup):
    """The rules for new passwords, and the cost of argon2id."""

    password_min_length: int = setting(
        8, "The minimum length of a new password, in characters.", low=8, high=64
    )
    own_name_passwords: str = setting(
        "allowed",
        "Whether a password may be the user's or the service's name, followed by digits and "
        "signs: allowed or refused.",
        choices=("allowed", "refused"),
    )
    blocked_passwords: str = setting(
        "",
        "A file of further passwords to refuse: one word a line, or the sorted SHA-1 digests of"
        " breached passwords. Default: none.",
    )
    imported_pepper: str = setting(
        "",
        "The secret that another system mixed into the passwords of imported users, such as "
        "SECURITY_PASSWORD_SALT of Flask-Security. Default: none.",
        secret=True,
    )
    argon2_memory_kib: int = setting(
        47_104, "Memory of one password hash, in KiB.", low=8, high=4_194_304, unit="KiB"
    )
    argon2_time_cost: int = setting(1, "Passes of one password hash.", low=1, high=1_000)
    argon2_lanes: int = setting(1, "Lanes of one password hash.", low=1, high=255)

    def completed(self, settings: Settings) -> Self:
        """Return the group. Raises SettingError for less memory than argon2 works with."""
        if self.argon2_memory_kib < 8 * self.argon2_lanes:
            raise SettingError(
                "AUTHAPI_ARGON2_MEMORY_KIB must be at least 8 for each of AUTHAPI_ARGON2_LANES "
                f"(RFC 9106, 3.1): set it to {8 * self.argon2_lanes} or more."
            )
        return super().completed(settings)
