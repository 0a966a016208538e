"""The core: what every feature is given at its setup."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from authapi.background import Background
from authapi.cookies import Cookies
from authapi.database import Database
from authapi.events import Events
from authapi.keys.root import Root
from authapi.keys.signing_keys import SigningKeys
from authapi.metrics import Metrics
from authapi.notices import Notices
from authapi.passwords import Passwords
from authapi.readiness import Readiness
from authapi.settings import Settings
from authapi.tokens import Tokens
from authapi.wire import Wire

Service = TypeVar("Service")


@dataclass(frozen=True, slots=True)
class Core:
    """The parts that features stand on. `clock` returns seconds since the epoch."""

    settings: Settings
    clock: Callable[[], float]
    database: Database
    events: Events
    notices: Notices
    passwords: Passwords
    keys: SigningKeys
    root: Root
    tokens: Tokens
    wire: Wire
    cookies: Cookies
    metrics: Metrics
    background: Background = field(default_factory=Background)
    readiness: Readiness = field(default_factory=Readiness)
    _services: dict[object, object] = field(default_factory=dict, init=False, repr=False)

    def of(self, kind: Callable[[Core], Service]) -> Service:
        """Return this application's one instance of a service, such as `Sessions`.

        A service is a class that is made with the core. It is made at the first call.
        """
        if kind not in self._services:
            self._services[kind] = kind(self)
        return cast("Service", self._services[kind])
