"""Transports: what takes a message. Those that need no relay are here, for development."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from authapi.mail.relay import Relay
from authapi.outbox.delivery import ChannelDown


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is sent. `name` is one of a file, `text` the part for people."""

    sender: str
    recipient: str
    content: bytes
    text: str
    name: str


class Transport(Protocol):
    """Takes messages, one at a time."""

    @property
    def is_open(self) -> bool:
        """Return whether it is connected."""

    def open(self) -> None:
        """Connect, unless it is connected. Raises ChannelDown."""

    def send(self, message: Message) -> None:
        """Send a message. Raises Refused, and ChannelDown."""

    def close(self) -> None:
        """Disconnect."""

    def forget(self) -> None:
        """Drop the connection without a word."""

    def abort(self) -> None:
        """Let a `send` in another thread fail at once."""


class LocalTransport:
    """A transport without a connection."""

    is_open = True

    def open(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def forget(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


class FileTransport(LocalTransport):
    """Writes each message to a file of a directory, which only the service's user can read."""

    def __init__(self, folder: str) -> None:
        """Take the directory."""
        self._folder = Path(folder)

    def send(self, message: Message) -> None:
        """Write a file, whole or not at all. The same message is the same file."""
        try:
            handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
            with os.fdopen(handle, "wb") as file:
                file.write(message.content)
            Path(name).replace(self._folder / f"{message.name}.eml")
        except OSError as error:
            raise ChannelDown(f"{self._folder} cannot be written ({error.strerror})") from error


class ConsoleTransport(LocalTransport):
    """Writes each message to standard error."""

    def send(self, message: Message) -> None:
        """Write the recipient and the text."""
        try:
            print(f"Mail to {message.recipient}\n{message.text}", file=sys.stderr, flush=True)  # noqa: T201 - for development
        except OSError as error:
            raise ChannelDown(f"standard error cannot be written ({error.strerror})") from error


def transport_of(relay: Relay, *, hello: str, ca_file: str) -> Transport:
    """Return the transport of a relay. `hello` is the name by which this machine greets it."""
    if relay.scheme == "file":
        return FileTransport(relay.folder)
    if relay.scheme == "console":
        return ConsoleTransport()
    from authapi.mail.smtp import SMTPTransport  # noqa: PLC0415 - smtplib takes 7 MiB

    return SMTPTransport(relay, hello=hello, ca_file=ca_file)
