"""The channel of mails: what is sent of a job of the outbox, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from authapi.mail.kinds import Letter, Mail
from authapi.mail.relay import Relay
from authapi.outbox import OutboxJob
from authapi.outbox.delivery import ChannelDown, Refused

if TYPE_CHECKING:
    from authapi.core import Core
    from authapi.mail.messages import Templates
    from authapi.mail.transports import Transport

LONGEST_MESSAGE = 20_000  # bytes


class Sender(msgspec.Struct, frozen=True):
    """What every mail of the service has alike. Addresses are as the settings write them."""

    app: str
    sender: str
    reply_to: str
    hello: str  # the name by which this machine greets a relay
    ca_file: str


class MailChannel:
    """Sends mails. It imports what it needs when the first one is sent."""

    name = "mail"

    def __init__(
        self,
        core: Core,
        relay: Relay,
        sender: Sender,
        templates: Templates,
        failed: Callable[[OutboxJob], None],
    ) -> None:
        """Take the core, the relay and the templates, and what records a mail that is dead."""
        self._core, self._relay, self._sender = core, relay, sender
        self._templates = templates
        self.kinds: dict[str, Mail] = {}
        self.failed = failed
        self._transport: Transport | None = None

    def open(self) -> None:
        """Connect, unless there is a connection. Raises ChannelDown."""
        if self._transport is None:
            from authapi.mail.transports import transport_of  # noqa: PLC0415 - see the class

            self._transport = transport_of(
                self._relay, hello=self._sender.hello, ca_file=self._sender.ca_file
            )
        self._transport.open()

    @property
    def is_open(self) -> bool:
        """Return whether there is a connection."""
        return self._transport is not None and self._transport.is_open

    def prepare(self, job: OutboxJob) -> Letter | None:
        """Return the letter of a job.

        Raises Refused for a kind that no feature declares, because a setting has turned it off or
        a worker of a newer version has written it.
        """
        kind = self.kinds.get(job.kind)
        if kind is None:
            raise Refused("no feature that is on sends such mails", is_final=False)
        return kind.prepare(self._core, job)

    def send(self, job: OutboxJob, parcel: Letter) -> None:
        """Send a letter. Raises Refused, and ChannelDown."""
        from authapi.mail.composing import compose  # noqa: PLC0415 - see the class

        kind = self.kinds[job.kind]
        try:
            text = self._templates.render(
                parcel.template or kind.template_names[0],
                job.language,
                {**self._given(kind, parcel), "app": self._sender.app},
            )
            message = compose(text, self._sender, parcel.to, job.created_at, self._name_of(job))
        except ValueError as error:  # NOTE: it may quote an address
            raise Refused(f"it cannot be made ({type(error).__name__})", is_final=False) from error
        if len(message.content) > LONGEST_MESSAGE:
            raise Refused(f"it has more than {LONGEST_MESSAGE} bytes", is_final=True)
        if self._transport is None:
            raise ChannelDown("there is no connection")
        self._transport.send(message)

    def close(self) -> None:
        """Disconnect."""
        if self._transport is not None:
            self._transport.close()

    def forget(self) -> None:
        """Drop the connection without a word."""
        if self._transport is not None:
            self._transport.forget()
        self._transport = None

    def abort(self) -> None:
        """Let a `send` in another thread fail at once."""
        if self._transport is not None:
            self._transport.abort()

    def _name_of(self, job: OutboxJob) -> str:
        """Return the first part of a Message-ID: the same for each try, and no other job's.

        NOTE: the time is in it because ids are given again after a restore.
        """
        root = self._core.root
        tag = root.derive(root.newest, "message id", job.id, job.created_at, length=8)
        return f"{job.created_at}.{job.id}.{tag.hex()}"

    @staticmethod
    def _given(kind: Mail, letter: Letter) -> Mapping[str, str | datetime]:
        from authapi.mail.messages import unlinked  # noqa: PLC0415 - see the class

        missing = set(kind.values) - set(letter.values)
        if missing:
            raise ValueError(f"{kind.name} lacks {sorted(missing)}")
        return {name: unlinked(value) for name, value in letter.values.items()}
