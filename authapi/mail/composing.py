"""Composing: the message of a text, as a relay takes it (RFC 5322)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from authapi.mail.addresses import parts_of, spec_fault
from authapi.mail.transports import Message

if TYPE_CHECKING:
    from authapi.mail.channel import Sender
    from authapi.mail.messages import Text


class _Policy(EmailPolicy):
    """The standard library's policy, which folds the texts of headers as RFC 2047 says.

    NOTE: the standard library's own folding loses or adds spaces, in a way of each version.
    """

    def fold_binary(self, name: str, value: Any) -> bytes:  # noqa: ANN401 - as in the base class
        """Return the lines of a header."""
        if name == "Subject":
            return self._lines(name, str(value))
        for each in getattr(value, "addresses", ()):
            if not each.display_name.isascii():
                return self._lines(name, each.display_name, f"\n <{each.addr_spec}>")
        return super().fold_binary(name, value)

    def _lines(self, name: str, text: str, rest: str = "") -> bytes:
        words = text if text.isascii() else Header(text, "utf-8", header_name=name).encode()
        return f"{name}: {words}{rest}\n".replace("\n", self.linesep).encode()


def compose(text: Text, sender: Sender, recipient: str, written_at: int, name: str) -> Message:
    """Return the message to a recipient. Raises ValueError for an address that cannot be written.

    `name` is the first part of its Message-ID. SECURITY: the policy refuses a header with a line
    break; an address is taken apart here and not by the parser of headers.
    """
    _, spec = parts_of(sender.sender)
    for each in (spec, recipient):
        if fault := spec_fault(each):
            raise ValueError(fault)
    is_ascii = recipient.isascii() and spec.isascii()
    message = EmailMessage(_Policy(linesep="\r\n", utf8=not is_ascii))
    message["From"] = _address(sender.sender)
    message["To"] = _address(recipient)
    if sender.reply_to:
        message["Reply-To"] = _address(sender.reply_to)
    message["Subject"] = text.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(written_at, UTC))
    message["Message-ID"] = f"<{name}@{spec.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834, 5
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(text.text)
    message.add_alternative(text.html, subtype="html")
    message["Content-Language"] = text.language
    shown = f"Subject: {text.subject}\n\n{text.text}"
    return Message(spec, recipient, message.as_bytes(), shown, name)


def _address(text: str) -> Address:
    name, spec = parts_of(text)
    local, _, domain = spec.rpartition("@")
    return Address(display_name=name, username=local, domain=domain)
