"""Addresses: those of mails, `Name <local@domain>`, and the name by which a host greets."""

from __future__ import annotations

import re

from authapi.hosts import is_address, parse_address

_NAMED = re.compile(r"(?:\"?([^<>\"]*?)\"?\s*<([^<>]*)>|([^<>]*))")
_SPEC = re.compile(
    r"[^\s\x00-\x1f\x7f-\x9f<>()\[\]\\,;:\"@]{1,64}@[^\s\x00-\x1f\x7f-\x9f<>()\\,;:\"@]+"
)
LONGEST = 254  # characters; RFC 5321, 4.5.3.1.3, less the angle brackets


def parts_of(text: str) -> tuple[str, str]:
    """Return the name, which may be empty, and the address of a text. Raises ValueError."""
    match = _NAMED.fullmatch(text.strip())
    if not match or any(ord(character) < 32 for character in text):
        raise ValueError("no address")
    name, named, alone = match.groups()
    return (name or "").strip(), (named if named is not None else alone or "").strip()


def spec_fault(spec: str) -> str | None:
    """Return why a mail cannot go to an address, or None.

    SECURITY: what would end a command of SMTP, or begin another, is refused.
    """
    if len(spec) > LONGEST or not _SPEC.fullmatch(spec):
        return "an address that no mail can go to"
    return None


def greeting(host: str) -> str:
    """Return the name by which a host greets a relay (RFC 5321, 4.1.3)."""
    if not is_address(host):
        return host
    return f"[IPv6:{host}]" if ":" in host else f"[{host}]"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    return host == "localhost" or (is_address(host) and parse_address(host).is_loopback)
