"""Composing: the message of a text, as a relay takes it (RFC 5322)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from typing import TYPE_CHECKING

from authapi.mail.addresses import parts_of, spec_fault
from authapi.mail.transports import Message

if TYPE_CHECKING:
    from authapi.mail.channel import Sender
    from authapi.mail.messages import Text


def compose(text: Text, sender: Sender, recipient: str, written_at: int, name: str) -> Message:
    """Return the message to a recipient. Raises ValueError for an address that cannot be written.

    `name` is the first part of its Message-ID. SECURITY: the policy refuses a header with a line
    break; an address is taken apart here and not by the parser of headers.
    """
    _, spec = parts_of(sender.sender)
    for each in (spec, recipient):
        if fault := spec_fault(each):
            raise ValueError(fault)
    message = EmailMessage(SMTP if recipient.isascii() and spec.isascii() else SMTPUTF8)
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
