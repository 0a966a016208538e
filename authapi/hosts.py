"""Canonical forms of addresses, networks, hosts and web origins, one function for each."""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import lru_cache
from typing import Any

from authapi.public_suffixes import registrable
from authapi.signals import kept_from_threads

LARGEST_PORT = 65_535
LONGEST_HOST = 253  # characters; RFC 1035, 2.3.4, less the length octets

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]+)?|([0-9.]+):[0-9]+")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_ORIGIN = re.compile(r"(https?)://(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::([0-9]*))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_IPV4_AT_THE_END = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "::/96",  # IPv4-compatible: RFC 4291, 2.5.5.1
        "::ffff:0:0/96",  # IPv4-mapped: RFC 4291, 2.5.5.2
        "::ffff:0:0:0/96",  # IPv4-translated: RFC 2765, 2.1
        "64:ff9b::/96",  # the well-known prefix of translators: RFC 6052, 2.1
    )
)
_NOBODY = ipaddress.IPv4Network("0.0.0.0/8")  # RFC 1122, 3.2.1.3
_LOCAL_TRANSLATORS = ipaddress.IPv6Network("64:ff9b:1::/48")  # RFC 8215

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_address(text: str) -> Address:
    """Parse an IP address. Raises ValueError.

    An IPv4-mapped address (RFC 4291, 2.5.5.2) becomes IPv4, because a socket for both families
    reports IPv4 peers in this form. A zone is refused: it names an interface of one machine.
    """
    address = ipaddress.ip_address(text)
    if "%" in text:
        raise ValueError("an address with a zone")
    return getattr(address, "ipv4_mapped", None) or address


def plain_address(text: str) -> str:
    """Return the canonical text of an IP address (RFC 5952), without brackets and port.

    An IPv4-mapped address becomes IPv4. Raises ValueError, also for an address with a zone.
    """
    match = _WITH_PORT.fullmatch(text)
    return str(parse_address((match[1] or match[2]) if match else text))


def is_address(host: str) -> bool:
    """Return whether a text is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def parse_network(text: str) -> Network:
    """Parse an address, or a network such as `172.16.0.0/12`. Raises ValueError.

    Networks with host bits and networks of length 0 are refused.
    """
    address, slash, length = text.partition("/")
    known = parse_address(address)
    if not slash:
        return ipaddress.ip_network(known)
    bits = int(length) if length.isascii() and length.isdecimal() else 0
    if ":" in address and isinstance(
        known, ipaddress.IPv4Address
    ):  # `::ffff:10.0.0.0/104` is `10.0.0.0/8`
        bits -= 96
    if bits < 1:
        raise ValueError("no length of a network")
    return ipaddress.ip_network((known, bits))


def plain_network(text: str) -> str:
    """Return the canonical text of a network or of an address. Raises ValueError."""
    network = parse_network(text)
    return str(network.network_address if network.num_addresses == 1 else network)


def network_of(address: str) -> str:
    """Return the narrowest of `networks_of`."""
    return networks_of(address)[0]


@lru_cache(maxsize=1_024)
def networks_of(address: str) -> tuple[str, ...]:
    """Return the networks that one client may have to itself, narrowest first.

    For IPv4 this is the address. For IPv6 these are the /64, the /56 and the /48: providers assign
    one of these to a client (RIPE-690, 4.2). A zone is ignored. A text that is not an address, as
    on a Unix socket, is returned unchanged.
    """
    try:
        client = client_of(parse_address(address.partition("%")[0]))
    except ValueError:
        return (address,)
    if isinstance(client, ipaddress.IPv4Address) or client in _LOCAL_TRANSLATORS:
        return (str(client),)
    return tuple(_network_text(int(client), length) for length in (64, 56, 48))


def _network_text(address: int, length: int) -> str:
    """Return the text of an IPv6 address's network. `ipaddress` takes ten times as long."""
    host_bits = 128 - length
    network = (address >> host_bits) << host_bits
    return f"{socket.inet_ntop(socket.AF_INET6, network.to_bytes(16, 'big'))}/{length}"


def client_of(address: Address) -> Address:
    """Return the IPv4 address of a client behind a tunnel or translator, or else its own address.

    With 6to4 one IPv4 address has a /48 (RFC 3056, 2). All clients of a Teredo server (RFC 4380, 4)
    or of a translator (RFC 6052, 2.2) share a /64. In a local translator's prefix the position of
    the IPv4 address is unknown, so each address counts as one client.

    SECURITY: this is for counting clients, never for trust. Somebody who routes such a prefix can
    write any IPv4 address into it.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if any(address in network for network in _IPV4_AT_THE_END):
        embedded = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if embedded not in _NOBODY:  # `::` and `::1` hold none
            return embedded
    return address


def is_host(host: str) -> bool:
    """Return whether a text is an IP address or a host name."""
    return is_address(host) or is_name(host)


def is_name(host: str) -> bool:
    """Return whether a text is a host name (RFC 1123, 2.1, with underscores), in any case.

    Not a host name here: one whose last label is a number, which browsers take for IPv4 (WHATWG
    URL, 3.5); one with a final dot; and one beyond ASCII, which has an `xn--` form (RFC 5890,
    2.3.2.1).
    """
    return (
        len(host) <= LONGEST_HOST
        and bool(_NAME.fullmatch(host))
        and not _NUMBER.fullmatch(host.rpartition(".")[2])
    )


def bracketed(host: str) -> str:
    """Return the host as it is written in a URL (RFC 3986, 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def as_origin(url: str) -> str | None:
    """Return the origin of a URL without a path as browsers write it (RFC 6454, 6.2), or None.

    It has lower case, no default port, and IPv6 as in WHATWG URL, 3.5. `ws:`, `wss:` (RFC 6455,
    4.1) and `null` are not origins of pages.
    """
    try:
        scheme, host, port = _parts(url)
    except ValueError:
        return None
    shown = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
    return f"{scheme}://{bracketed(host)}{shown}"


def host_of(origin: str) -> str:
    """Return the host of an origin, without brackets. Raises ValueError."""
    return _parts(origin)[1]


def _parts(url: str) -> tuple[str, str, int]:
    """Return the scheme, host and port of a URL without a path. Raises ValueError."""
    match = _ORIGIN.fullmatch(url.lower()) if url.isascii() else None
    if not match:
        raise ValueError("no scheme and host")
    scheme, address, name, port = match.groups()
    number = int(port or _DEFAULT_PORTS[scheme])
    if number > LARGEST_PORT:
        raise ValueError("no port")
    return scheme, _ipv6_of_url(address) if address else _name_or_ipv4(name), number


def _name_or_ipv4(host: str) -> str:
    return host if is_name(host) else str(ipaddress.IPv4Address(host))


def _ipv6_of_url(text: str) -> str:
    address = ipaddress.IPv6Address(text)
    if address.ipv4_mapped:  # Python's own text depends on its version
        low = int(address) & 0xFFFF_FFFF
        return f"::ffff:{low >> 16:x}:{low & 0xFFFF:x}"
    return str(address)


def are_same_site(one: str, other: str) -> bool:
    """Return whether two origins may be of one site, so that browsers send `SameSite` cookies.

    Browsers use the public suffix list (HTML Standard, 7.1.1), and this function its best-known
    entries.
    """
    scheme, host, _ = _parts(one)
    another_scheme, another, _ = _parts(other)
    if scheme != another_scheme or host == another:
        return scheme == another_scheme
    return is_name(host) and registrable(host) == registrable(another)


def look_up(host: str, port: int | None, **options: int) -> list[tuple[Any, ...]]:
    """Call `socket.getaddrinfo` so that a signal can still end the start.

    NOTE: it runs in a thread, because no signal handler runs while the main thread waits for a name
    server, and process 1 of a container ends only by a handler.
    """
    from concurrent.futures import ThreadPoolExecutor, wait  # noqa: PLC0415 - `--help` needs none

    with ThreadPoolExecutor(1) as pool:
        with kept_from_threads():
            found = pool.submit(socket.getaddrinfo, host, port, **options)
        while not wait([found], timeout=0.1).done:  # a signal just before a wait does not end it
            pass
        return list(found.result())
