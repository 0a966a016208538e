"""The settings: one frozen dataclass, which refuses to be made of what makes no sense.

Each file here declares one group and its rules. A group builds on the one before it, so that its
rules can use those values.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authapi.hosts import as_origin
from authapi.setting import parse, unknown
from authapi.settings.environment import read_environment
from authapi.settings.identity import IdentitySettings
from authapi.settings.keys import weak_key

__all__ = ["Settings", "require_settings", "weak_key"]


@dataclass(frozen=True, kw_only=True)
class Settings(IdentitySettings):
    """Everything that can be set, with the defaults; `docs/settings.md` is the same for people.

    Raises SettingError, whether it is made by hand or by `from_env`.
    """

    def on_port(self, port: int) -> Settings:
        """The settings for the port that was found where any free one was asked for."""
        public_url = "" if self.public_url == as_origin(self.address) else self.public_url
        return dataclasses.replace(self, port=port, public_url=public_url)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, **overrides: str | None
    ) -> Settings:
        """Read every `AUTHAPI_…` variable of the process's environment, or of another mapping.

        An override wins over its variable. An empty text is as good as none. Raises SettingError,
        for an unknown `AUTHAPI_…` name too.
        """
        known = {declared.name.upper(): declared for declared in dataclasses.fields(cls)}
        texts = read_environment(os.environ if environ is None else environ)
        for name in texts:
            if name not in known:
                raise unknown(name, list(known))
        texts |= {name.upper(): text for name, text in overrides.items() if text}
        values: dict[str, Any] = {
            known[name].name: parse(known[name], text) for name, text in texts.items()
        }
        return cls(**values)


def require_settings(settings: object) -> None:
    """Raise TypeError for what an application passes in the place of settings."""
    if isinstance(settings, Settings):
        return
    advice = "make them by Settings(name=value)"
    if callable(settings):
        advice = "call it, as in Settings.from_env()"
    elif isinstance(settings, Mapping):
        advice = "write Settings(**values), or Settings.from_env(environ) for AUTHAPI_… names"
    raise TypeError(f"authapi takes Settings, not {type(settings).__name__}: {advice}")
