"""What an operator sees of the service: the form of the log, and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from authapi.hosts import LARGEST_PORT, is_host
from authapi.settings.group import SettingsGroup, refused, setting

if TYPE_CHECKING:
    from authapi.settings import Settings

_AN_ADDRESS = "a host and a port, such as 127.0.0.1:9464 or [::1]:9464"


@dataclass(frozen=True, kw_only=True)
class ObservationSettings(SettingsGroup):
    """The form of the log, and where metrics are shown."""

    log_format: str = setting(
        "text",
        "The form of the log's lines: text, json, or auto, which is text on a terminal and json "
        "elsewhere.",
        choices=("text", "json", "auto"),
    )
    access_log: str = setting(
        "off", "Whether the log has a line for each request: on or off.", choices=("on", "off")
    )
    metrics_address: str = setting(
        "",
        "The address and port at which Prometheus finds metrics, such as 127.0.0.1:9464."
        " Default: none.",
    )

    def completed(self, settings: Settings) -> Self:
        """Return the group. Raises SettingError for an address without a host or a port."""
        del settings
        host, port = self.metrics_endpoint
        if self.metrics_address and (not is_host(host) or not 0 <= port <= LARGEST_PORT):
            raise refused("metrics_address", self.metrics_address, _AN_ADDRESS)
        return self

    @property
    def metrics_endpoint(self) -> tuple[str, int]:
        """Return the host and the port of the metrics; -1 for none, and 0 for any that is free."""
        host, _, port = self.metrics_address.rpartition(":")
        is_bare = host.startswith("[") == (":" in host) and host.endswith("]") == (":" in host)
        digits = port.isascii() and port.isdigit() and len(port) <= len(str(LARGEST_PORT))
        return (host.strip("[]") if is_bare else ""), int(port) if digits else -1
