"""What a feature declares of a kind of mail, and what it says of one mail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from authapi.outbox import OutboxJob

if TYPE_CHECKING:
    from authapi.core import Core


class Letter(msgspec.Struct, frozen=True):
    """One mail: where it goes, and the values of its template.

    `to` is an address as it is stored, never what a client typed. A datetime (in UTC) is written as
    the language does. `template` is one of the kind's, the first one if it is empty.
    """

    to: str
    values: Mapping[str, str | datetime] = msgspec.field(default_factory=dict)
    template: str = ""


class Mail(msgspec.Struct, frozen=True):
    """A kind of mail. A feature adds its own with `Mails.add`.

    `name` is in the outbox and in the events. After `lifetime` seconds a mail is of no use.
    `values` are the names that its templates may use, beside `app`; each letter gives all of them.
    `templates` are the names of its templates; by default it has one, of its own name.

    `prepare(core, job)` runs in the thread that sends, inside a transaction, and again for each try
    to send. It looks up whom the job is about, derives what is secret, and returns the letter; or
    None where there is nothing to send any more, and the job ends. It may write rows of its own,
    and must not change rows of users.

    A notice is written even while too many mails wait.
    """

    name: str
    lifetime: int
    prepare: Callable[[Core, OutboxJob], Letter | None]
    values: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    is_notice: bool = False

    @property
    def template_names(self) -> tuple[str, ...]:
        """Return the names of the templates, the default one first."""
        return self.templates or (self.name,)
