"""The database's URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote_to_bytes

from authapi.settings.group import SettingError, SettingsGroup, setting

if TYPE_CHECKING:
    from authapi.settings import Settings

_SERVER = re.compile(r"postgres(ql)?://")
# libpq's URLs. SECURITY: its messages quote parts of a URL that it cannot read, so what would be
# read in another way than it was meant, such as a password with an @, is refused here.
_HEX = r"%(?!00)[0-9a-fA-F]{2}"
_HOST = rf"(?:(?:{_HEX}|[^\s%@/?#:,\[\]])*|\[(?:{_HEX}|[0-9a-zA-Z:.])+\])(?::[0-9]*)?"
_USER = rf"(?:{_HEX}|[^\s%@/?#])*"
_NAME = rf"(?:{_HEX}|[^\s%@?#])*"
_PARAMETER = rf"(?:{_HEX}|[^\s%@#&=])+=(?:{_HEX}|[^\s%@#&=])*"
_SERVER_URL = re.compile(
    rf"postgres(?:ql)?://(?:{_USER}@)?{_HOST}(?:,{_HOST})*(?:/{_NAME})?"
    rf"(?:\?(?:{_PARAMETER}(?:&{_PARAMETER})*)?)?"
)


def without_password(url: str) -> str:
    """Return a database's URL with `***` in the place of its password."""
    hidden = re.sub(r"(?<=://)([^:@/?#]*):[^/?#]*@", r"\1:***@", url)
    return re.sub(r"([?&](?:ssl)?password=)[^&]*", r"\1***", hidden)


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings(SettingsGroup):
    """The URL of the database, and how many connections to a server there may be."""

    database_url: str = setting(
        "sqlite:///authapi.db",
        "The database: sqlite:///relative.db or sqlite:////absolute.db, or a PostgreSQL server, "
        "postgresql://user@host/name.",
        secret=True,
        masked=without_password,
    )
    database_connections: int = setting(
        4,
        "Connections of each worker to a PostgreSQL server, at most.",
        low=1,
        high=1_000,
    )

    def completed(self, settings: Settings) -> Self:
        """Return the group. Raises SettingError for a URL that names no database."""
        if not self.is_postgresql:
            _ = self.database_path
        elif not _SERVER_URL.fullmatch(self.database_url) or not _is_utf8(self.database_url):
            raise SettingError(
                "AUTHAPI_DATABASE_URL must be postgresql://user:password@host:port/name, with each "
                "of :/?#@%&= in a name or a password written as % and two digits, as in %40."
            )
        return super().completed(settings)

    @property
    def is_postgresql(self) -> bool:
        """Return whether the database is a PostgreSQL server, which other machines may share."""
        return bool(_SERVER.match(self.database_url))

    @property
    def owners(self) -> list[int]:
        """Return the user ids that may own secret files beside root's and this process's.

        They are the owner of the database file: root may run a command for that user.
        """
        if self.is_postgresql:
            return []
        try:
            return [self.database_path.stat().st_uid]
        except OSError:  # there is none yet
            return []

    @property
    def database_path(self) -> Path:
        """Return the absolute path of the database file. Raises SettingError."""
        path = self.database_url.removeprefix("sqlite:///")
        if path == self.database_url or not path or path == ":memory:" or set(path) & set("?#\0"):
            # SECURITY: the value is not shown, for a URL of another database may hold a password.
            raise SettingError(
                "AUTHAPI_DATABASE_URL must be sqlite:///relative.db or sqlite:////absolute.db, or "
                "postgresql://user@host/name."
            )
        return Path(path).absolute()


def _is_utf8(url: str) -> bool:
    """Return whether what is written with % in a URL is text."""
    try:
        unquote_to_bytes(url).decode()
    except UnicodeError:
        return False
    return True
