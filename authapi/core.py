"""The core: what every feature is given at its setup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from authapi.database import Database
from authapi.events import Events
from authapi.notices import Notices
from authapi.passwords import Passwords
from authapi.settings import Settings
from authapi.tokens import Tokens
from authapi.wire import Wire


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that features stand on; `clock` gives seconds since the epoch."""

    settings: Settings
    clock: Callable[[], float]
    database: Database
    events: Events
    notices: Notices
    passwords: Passwords
    tokens: Tokens
    wire: Wire
