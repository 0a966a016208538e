"""Checks of the mail settings. Each raises SettingError with a sentence that says what to do."""

from __future__ import annotations

from pathlib import Path

from authapi.hosts import as_origin, host_of, is_address
from authapi.identifiers import email_fault
from authapi.mail.addresses import is_loopback, parts_of
from authapi.mail.relay import relay_of
from authapi.settings import SettingError, refused


def check_relay(url: str, password: str, *, https: bool) -> None:
    """Check the relay's URL. `https` is whether clients come over TLS."""
    try:
        relay = relay_of(url, password)
    except ValueError as error:
        raise refused("MAIL_URL", "", str(error), secret=True) from error
    if relay.scheme == "console" and https:
        raise SettingError(
            "AUTHAPI_MAIL_URL=console: writes links that change passwords to the log: name a "
            "relay, or file:///directory."
        )
    if relay.folder and not Path(relay.folder).is_dir():
        raise SettingError(
            f"AUTHAPI_MAIL_URL names {relay.folder}, which is no directory: make it."
        )


def default_sender(host: str) -> str:
    """Return the sender of mails of a host."""
    if is_address(host) or host == "localhost":
        raise SettingError(
            "Mails need a sender: set AUTHAPI_MAIL_FROM to an address that your relay accepts."
        )
    return f"noreply@{host}"


def check_address(variable: str, text: str) -> None:
    """Check an address that may have a name."""
    try:
        _, spec = parts_of(text)
    except ValueError:
        spec = ""
    if email_fault(spec):
        raise SettingError(f"{variable} must be an address, or Name <address>, not {text!r}.")


def base_url(url: str, *, https: bool) -> str:
    """Return the URL that links begin with, without a slash at its end.

    SECURITY: links carry secrets, so only pages on this machine may be without TLS.
    """
    if not url:
        raise SettingError(
            "Mails need pages to link to: set AUTHAPI_PAGES_URL to the application's URL, such as "
            "https://app.example.com."
        )
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    origin = as_origin(f"{scheme}://{host}")
    if origin is None or set(path) & set("?#\\ ") or not path.isascii():
        raise refused("PAGES_URL", url, "http:// or https://, a host and perhaps a path")
    if origin.startswith("http:") and (https or not is_loopback(host_of(origin))):
        raise refused("PAGES_URL", url, "an https:// URL, because links carry secrets")
    return f"{origin}{slash}{path}".rstrip("/")
