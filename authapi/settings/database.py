"""The database's URL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from authapi.settings.group import SettingError, SettingsGroup, setting

if TYPE_CHECKING:
    from authapi.settings import Settings


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings(SettingsGroup):
    """The URL of the database."""

    database_url: str = setting(
        "sqlite:///authapi.db",
        "The database: sqlite:///relative.db or sqlite:////absolute.db.",
    )

    def completed(self, settings: Settings) -> Self:
        """Return the group. Raises SettingError for a URL that names no SQLite file."""
        _ = self.database_path
        return super().completed(settings)

    @property
    def database_path(self) -> Path:
        """Return the absolute path of the database file. Raises SettingError."""
        path = self.database_url.removeprefix("sqlite:///")
        if path == self.database_url or not path or path == ":memory:" or set(path) & set("?#\0"):
            # SECURITY: the value is not shown, for a URL of another database may hold a password.
            raise SettingError(
                "AUTHAPI_DATABASE_URL must be sqlite:///relative.db or sqlite:////absolute.db."
            )
        return Path(path).absolute()
