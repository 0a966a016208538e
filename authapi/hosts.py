"""Hosts, addresses and web origins, as settings name them."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

_ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]_-]+/?", re.IGNORECASE)
_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([0-9.]+))(?::[0-9]+)?")
_LABELS = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", re.IGNORECASE)


def is_host(host: str) -> bool:
    """Whether this is an IP address or a host name."""
    return is_address(host) or bool(_LABELS.fullmatch(host))


def is_address(host: str) -> bool:
    """Whether this is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def plain_address(text: str) -> str:
    """An IP address in its usual form, without brackets and port. Raises ValueError.

    IPv4 in IPv6 (RFC 4291, 2.5.5.2) is IPv4; an address with a zone is refused.
    """
    match = _WITH_PORT.fullmatch(text)
    address = ipaddress.ip_address((match[1] or match[2]) if match else text)
    if "%" in text:
        raise ValueError("an address with a zone")
    return str(getattr(address, "ipv4_mapped", None) or address)


def network_of(address: str) -> str:
    """The network that one client has to itself: an IPv4 address, or an IPv6 /64 (RFC 6177).

    A zone, which says by which interface a link-local address was reached, is left out.
    """
    try:
        known = ipaddress.ip_address(plain_address(address.partition("%")[0]))
    except ValueError:  # none, as on a Unix socket
        return address
    return (
        str(known) if known.version == 4 else str(ipaddress.ip_network((known, 64), strict=False))
    )


@lru_cache(maxsize=1_024)
def networks_of(address: str) -> tuple[str, ...]:
    """The networks that one client may have to itself, narrowest first.

    An IPv4 address alone. Of an IPv6 address the /64, the /56 and the /48: providers give a client
    one of these (RIPE-690, 4.2).
    """
    narrowest = network_of(address)
    try:
        network = ipaddress.IPv6Network(narrowest)
    except ValueError:
        return (narrowest,)
    return tuple(str(network.supernet(new_prefix=length)) for length in (64, 56, 48))


def bracketed(host: str) -> str:
    """The host as it stands in a URL (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def is_origin(url: str) -> bool:
    """Whether a URL is http or https, a host and no path."""
    try:
        parts = urlsplit(url)
        return bool(_ORIGIN.fullmatch(url)) and is_host(parts.hostname or "") and parts.port != -1
    except ValueError:  # a port that is no number, a bracket that does not close
        return False


def as_origin(url: str) -> str:
    """The URL as a browser writes it in `Origin`: lower case, no default port (RFC 6454, 6.2)."""
    parts = urlsplit(url.lower())
    host, default = bracketed(str(parts.hostname)), 443 if parts.scheme == "https" else 80
    port = "" if parts.port in {None, default} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"
