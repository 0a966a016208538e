"""The relay: where mails go, as the URL of the settings says."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from authapi.hosts import is_host
from authapi.mail.addresses import is_loopback

PORTS = {"smtps": 465, "smtp": 587, "smtp+plain": 25}

_SECRET = re.compile(r"(?<=://)([^:@/?#]*):[^/?#]*@")


@dataclass(frozen=True, slots=True)
class Relay:
    """A place that takes mails. `scheme` is smtps, smtp, smtp+plain, file or console."""

    scheme: str
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    folder: str = ""

    @property
    def shown(self) -> str:
        """Return the relay for the log, without the user and the password."""
        if self.scheme == "file":
            return f"file://{self.folder}"
        return f"{self.scheme}://{self.host}:{self.port}" if self.host else self.scheme


def without_password(url: str) -> str:
    """Return a URL with `***` in the place of its password."""
    return _SECRET.sub(r"\1:***@", url)


def relay_of(url: str, password: str = "") -> Relay:
    """Return the relay of a URL. Raises ValueError with a phrase that says what a URL must be.

    SECURITY: the phrase holds nothing of the URL.
    """
    scheme, separator, rest = url.partition(":")
    if scheme == "console" and not rest:
        return Relay("console")
    if scheme == "file" and rest.startswith("///") and not set(rest) & set("?#%"):
        return Relay("file", folder=str(Path(rest[2:])))
    if scheme not in PORTS or not separator:
        raise ValueError(
            "smtps://user:password@host, smtp://user:password@host:587, smtp+plain://127.0.0.1:25, "
            "file:///directory or console:"
        )
    return _smtp_relay(scheme, url, password)


def _smtp_relay(scheme: str, url: str, password: str) -> Relay:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS[scheme]
        user, own = unquote(parts.username or "", errors="strict"), parts.password
        own = unquote(own or "", errors="strict")
    except ValueError as error:
        raise ValueError(f"{scheme}://user:password@host:port") from error
    if parts.path.strip("/") or parts.query or parts.fragment or not is_host(host):
        raise ValueError(
            f"{scheme}://user:password@host:port, with each of :/?#@% in a user or a password "
            "written as % and two digits, as in %40"
        )
    if own and password:
        raise ValueError("a URL without a password where AUTHAPI_MAIL_PASSWORD is set")
    secret = own or password
    if bool(user) != bool(secret):
        raise ValueError(
            "a URL with both a user and a password, or AUTHAPI_MAIL_PASSWORD beside it"
        )
    if any(ord(character) < 32 for character in user + secret):
        raise ValueError("a URL whose user and password have no control characters")
    if scheme == "smtp+plain" and (user or not is_loopback(host)):
        raise ValueError("smtps:// or smtp://: smtp+plain:// is for this machine, without a user")
    return Relay(scheme, host, port, user, secret)
