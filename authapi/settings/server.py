"""The service's addresses, and the proxies and origins that it trusts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from authapi.hosts import as_origin, bracketed, host_of, is_host, is_name, plain_network
from authapi.settings.group import SettingsGroup, listed, refused, setting

if TYPE_CHECKING:
    from authapi.settings import Settings

LONGEST_NAME = 80  # characters
LOG_LEVELS = ("debug", "info", "warning", "error")

_A_URL = "http:// or https://, a host and no path, such as https://auth.example.com"
_ORIGINS = "origins such as https://app.example.com, with a space or comma between them"
_PROXIES = (
    "IP addresses, networks such as 172.16.0.0/12 and host names, "
    "with a space or comma between them"
)


@dataclass(frozen=True, kw_only=True)
class ServerSettings(SettingsGroup):
    """The address of the service, its public URL, and the proxies and origins it trusts."""

    host: str = setting("127.0.0.1", "The address to listen on.")
    port: int = setting(3001, "The port to listen on; 0 takes any free one.", low=0, high=65_535)
    public_url: str = setting(
        "",
        "The URL that clients see: scheme and host, no path. https turns on Secure cookies, the"
        " name __Host-jwt and HSTS. Default: http://HOST:PORT.",
    )
    app_name: str = setting(
        "",
        "The name of the service in mails and authenticators. Default: the host of "
        "AUTHAPI_PUBLIC_URL.",
    )
    allowed_origins: str = setting(
        "",
        "Origins of browser applications elsewhere that may call the service, separated by "
        "spaces or commas. Default: none.",
        items=True,
    )
    trusted_proxy: str = setting(
        "",
        "The proxies whose X-Forwarded-For, -Proto and -Host are trusted: addresses, networks "
        "and host names, separated by spaces or commas. Default: none.",
        items=True,
    )
    log_level: str = setting(
        "info",
        "The lowest level that is logged to standard error: debug, info, warning or error.",
        choices=LOG_LEVELS,
    )
    drain_seconds: int = setting(
        0,
        "How long a stop goes on answering requests while GET /readyz says draining. Default: 0.",
        low=0,
        high=600,
        unit="seconds",
    )

    def completed(self, settings: Settings) -> Self:
        """Return the group with hosts and origins in canonical form. Raises SettingError."""
        del settings
        if not is_host(self.host):
            raise refused("host", self.host, "an IP address or a host name")
        if not self.app_name.isprintable() or len(self.app_name) > LONGEST_NAME:
            wanted = f"at most {LONGEST_NAME} characters without line breaks"
            raise refused("app_name", self.app_name, wanted)
        public_url = _origin("public_url", self.public_url or self.address, _A_URL)
        return replace(
            self,
            public_url=public_url,
            app_name=self.app_name or host_of(public_url),
            allowed_origins=" ".join(
                _origin("allowed_origins", url, _ORIGINS) for url in listed(self.allowed_origins)
            ),
            trusted_proxy=" ".join(map(_proxy, listed(self.trusted_proxy))),
        )

    @property
    def address(self) -> str:
        """Return the URL at which the service itself listens."""
        return f"http://{bracketed(self.host)}:{self.port}"

    @property
    def https(self) -> bool:
        """Return whether clients come over TLS."""
        return self.public_url.startswith("https:")

    @property
    def origins(self) -> frozenset[str]:
        """Return the allowed origins, each as a browser writes it."""
        return frozenset(self.allowed_origins.split())


def _origin(name: str, url: str, wanted: str) -> str:
    origin = as_origin(url.removesuffix("/"))
    if origin is None:
        ascii_form = "" if url.isascii() else " (write its host in ASCII, as xn--…)"
        raise refused(name, url, wanted + ascii_form)
    return origin


def _proxy(text: str) -> str:
    try:
        return plain_network(text)
    except ValueError as error:
        if is_name(text.removesuffix(".")):
            return text.lower()
        raise refused("trusted_proxy", text, _PROXIES) from error
