"""Mail limits: how many mails clients may ask for.

A request that asks for a mail does not look up whether the name is a user's, so the limits are the
same for every name. Those of a user are counted in the thread that sends, where a mail too many is
dropped in silence.

Endpoints: none. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import falcon

from authapi.budgets import Budget, TooManyRequests
from authapi.core import Core
from authapi.features.devices import Devices
from authapi.features.limits import Limits
from authapi.identifiers import name_key
from authapi.middleware import caller_of
from authapi.outbox import OutboxJob
from authapi.settings import SettingsGroup, setting

REQUIRES = ("devices", "limits", "mail")


@dataclass(frozen=True, kw_only=True)
class MailLimits(SettingsGroup):
    """The limits of mails that clients ask for."""

    mail_address_limit: str = setting(
        "5/hour", "Mails asked for with one name, or by one known browser's user.", rate=True
    )
    mail_network_limit: str = setting(
        "30/hour",
        "Mails asked for from one network: an IPv4 address or an IPv6 /64; a /56 has twice as "
        "many, a /48 four times.",
        rate=True,
    )
    mail_user_limit: str = setting(
        "10/day", "Mails of one kind that one user gets; more are dropped.", rate=True
    )


class MailBudgets:
    """The budgets of mails."""

    def __init__(self, core: Core) -> None:
        """Declare the limits."""
        self._core = core
        self._devices = core.of(Devices)
        self._limits = limits = core.of(Limits)
        settings = core.settings.of(MailLimits)
        self._address = limits.declare("mail-address", settings.mail_address_limit)
        self._known = limits.declare("mail-known", settings.mail_address_limit)
        self._network = limits.declare_by_network("mail-network", settings.mail_network_limit)
        self._user = limits.declare("mail-user", settings.mail_user_limit)

    def _of_request(self, req: falcon.Request, identifier: str) -> tuple[list[Budget], str | None]:
        """Return the budgets of a mail that a client asks for with a name, and a known user's id.

        In a browser in which its user has logged in before, it is the user's own budget for such
        browsers, so that nobody can keep the owner from a reset.

        SECURITY: the name's key is a keyed digest of what was typed, whether or not it is a user's.
        """
        known = self._devices.recognize(req, identifier)
        if known:
            return [self._known.of(known.sub)], known.sub
        digest = self.digest_of(identifier)
        return [*self._network.of(caller_of(req).ip), self._address.of(digest)], None

    def digest_of(self, identifier: str) -> str:
        """Return the keyed digest of a name by which its mails are counted."""
        (kind, key), root = name_key(identifier), self._core.root
        return root.derive(root.newest, "mail limit", kind, key).hex()

    @contextmanager
    def asking(
        self, req: falcon.Request, identifier: str, *, of: int | None = None
    ) -> Iterator[str | None]:
        """Run the block in a transaction of a user, which takes the tries of a mail asked for.

        In a browser in which the name's user has logged in before, the block gets the user's id,
        else None. It belongs into the job's data, as `known`. Raises TooManyRequests.
        """
        budgets, known = self._of_request(req, identifier)
        self._limits.require(*budgets)  # SECURITY: it only reads, so a flood begins no change
        with self._core.database.transaction(of=of):
            self._limits.take(*budgets)
            yield known

    def take(self, req: falcon.Request, identifier: str) -> None:
        """Take the tries of a mail, inside a transaction. Raises TooManyRequests."""
        self._limits.take(*self._of_request(req, identifier)[0])

    def has_place(self, job: OutboxJob, recipient: int | str) -> bool:
        """Return whether one more mail of a job's kind may be sent, inside a transaction.

        `recipient` is a user's id, or the digest of an address that is no user's.

        A job is counted once, however often it is tried. Those asked for in known browsers are
        counted apart, so that nobody else can use them up.
        """
        if job.claims > 1:
            return True
        try:
            known = ":known" if job.data.get("known") else ""
            self._limits.take(self._user.of(f"{recipient}:{job.kind}{known}"))
        except TooManyRequests:
            return False
        return True


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Declare the limits; other features take tries from them."""
    core.of(MailBudgets)
