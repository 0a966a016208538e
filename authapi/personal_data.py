"""Personal data: what a feature declares of the data that it keeps of a user."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from authapi.core import Core
    from authapi.principal import User


class PersonalData(msgspec.Struct, frozen=True):
    """What a feature keeps of a user: a name, the tables, and what reads it all as JSON takes it.

    A feature declares its own in `PERSONAL_DATA`. `authapi user export` shows it to the user, so it
    holds no secret.
    """

    name: str
    tables: tuple[str, ...]
    read: Callable[[Core, User], object]
