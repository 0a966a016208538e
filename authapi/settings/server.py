"""Where the service listens, where clients see it, and whom it believes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from authapi.hosts import as_origin, bracketed, is_host, is_name, plain_network
from authapi.setting import SettingError, checked, listed, refused, setting

LOG_LEVELS = ("debug", "info", "warning", "error")

_A_URL = "http:// or https://, a host and no path, such as https://auth.example.com"
_ORIGINS = "origins such as https://app.example.com, with a space or comma between them"
_PROXIES = (
    "IP addresses, networks such as 172.16.0.0/12 and host names, "
    "with a space or comma between them"
)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The first group: it checks every value by its declaration, then its own."""

    host: str = setting("127.0.0.1", "The address to listen on.")
    port: int = setting(3001, "The port to listen on; 0 takes any free one.", low=0, high=65_535)
    database_url: str = setting(
        "sqlite:///authapi.db",
        "The database: sqlite:///relative.db or sqlite:////absolute.db.",
    )
    public_url: str = setting(
        "",
        "Where clients see the service: scheme and host, no path. "
        "https turns on Secure cookies, the name __Host-jwt and HSTS. Default: http://HOST:PORT.",
    )
    allowed_origins: str = setting(
        "",
        "Origins of browser applications elsewhere that may call the service, with a space or "
        "comma between them. Default: none.",
    )
    trusted_proxy: str = setting(
        "",
        "The proxies whose X-Forwarded-For, -Proto and -Host are believed: addresses, networks "
        "and host names, with a space or comma between them. Default: none.",
    )
    log_level: str = setting("info", "What is logged to standard error.", choices=LOG_LEVELS)

    def __post_init__(self) -> None:
        """Check every value, then what follows from several; each group goes on from here."""
        for declared in dataclasses.fields(self):
            self._fill(**{declared.name: checked(declared, getattr(self, declared.name))})
        if not is_host(self.host):
            raise refused("host", self.host, "an IP address or a host name")
        self._fill(
            public_url=_origin("public_url", self.public_url or self.address, _A_URL),
            allowed_origins=" ".join(
                _origin("allowed_origins", url, _ORIGINS) for url in listed(self.allowed_origins)
            ),
            trusted_proxy=" ".join(map(_proxy, listed(self.trusted_proxy))),
        )

    def _fill(self, **values: str | int) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def address(self) -> str:
        """Where the service itself listens."""
        return f"http://{bracketed(self.host)}:{self.port}"

    @property
    def https(self) -> bool:
        """Whether clients come over TLS."""
        return self.public_url.startswith("https:")

    @property
    def origins(self) -> frozenset[str]:
        """The allowed origins, each as a browser writes it."""
        return frozenset(self.allowed_origins.split())

    @property
    def database_path(self) -> Path:
        """The database file, absolute."""
        path = self.database_url.removeprefix("sqlite:///")
        if path == self.database_url or not path or path == ":memory:" or set(path) & set("?#\0"):
            # SECURITY: the value is not shown, for a URL of another database may hold a password.
            raise SettingError(
                "AUTHAPI_DATABASE_URL must be sqlite:///relative.db or sqlite:////absolute.db."
            )
        return Path(path).absolute()


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
