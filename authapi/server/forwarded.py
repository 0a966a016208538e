"""Proxies: which peers are trusted, and what they say about the client (X-Forwarded-*)."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from authapi.errors import BadRequest, HTTPSRequired, StartError
from authapi.fields import elements, unquoted
from authapi.hosts import (
    as_origin,
    look_up,
    parse_address,
    parse_network,
    plain_address,
    plain_network,
)
from authapi.middleware import SAFE_METHODS
from authapi.notices import Notices, quoted
from authapi.server.parser import is_host_header
from authapi.server.request_ids import keep_ids
from authapi.settings import ServerSettings, Settings

REMEMBERED = 1_024  # addresses
LONGEST_ADDRESS = 128  # characters, with brackets, a port and quotes

_FOR, _HOST, _PROTO = "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_FORWARDED_PROTO"
_BELIEVED = (_FOR, _HOST, _PROTO)
_IGNORED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_BY", "HTTP_X_FORWARDED_PORT")
_ALL = (*_BELIEVED, *_IGNORED)
_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}  # RFC 6455, 3

logger = logging.getLogger("authapi.forwarded")


def resolved(proxies: str) -> str:
    """Replace each host name in a list of proxies by all its addresses. Raises StartError."""
    return " ".join(address for proxy in proxies.split() for address in _addresses(proxy))


def _addresses(proxy: str) -> list[str]:
    try:
        return [plain_network(proxy)]
    except ValueError:
        pass
    try:
        found = _look_up(proxy)
    except OSError as error:
        raise StartError(
            f"AUTHAPI_TRUSTED_PROXY names {proxy!r}, which has no address ({error.strerror}): "
            "start the proxy first, or name its address or network."
        ) from error
    addresses = sorted({plain_address(address.partition("%")[0]) for address in found})
    logger.info("AUTHAPI_TRUSTED_PROXY: %s is %s", proxy, ", ".join(addresses))
    return addresses


def _look_up(name: str) -> set[str]:
    """Return the addresses of a host name. Raises OSError."""
    found = look_up(name, None)
    return {str(each[4][0]) for each in found}


class Forwarding:
    """Puts the client in the place of a trusted proxy, in the environ of a request."""

    def __init__(self, settings: Settings, notices: Notices) -> None:
        """Take the settings; their list of proxies must be `resolved`."""
        self._settings = settings.of(ServerSettings)
        self._notices = notices
        self._trusted = [parse_network(proxy) for proxy in self._settings.trusted_proxy.split()]
        self._known = lru_cache(maxsize=REMEMBERED)(self._look_up)

    def apply(self, environ: dict[str, Any]) -> None:
        """Read the headers of a trusted proxy, and remove those of other peers.

        Raises BadRequest for a header that cannot be read, and HTTPSRequired.
        """
        peer, trusted = self._peer(environ["REMOTE_ADDR"])
        environ["REMOTE_ADDR"] = peer
        if not trusted and environ.keys().isdisjoint(_ALL):
            return
        for name in _IGNORED:
            environ.pop(name, None)
        if trusted:
            keep_ids(environ)
            self._believe(environ, peer)
        elif not environ.keys().isdisjoint(_BELIEVED):
            self._warn_of_stranger(environ, peer)
            for name in _BELIEVED:
                environ.pop(name, None)

    def trusts(self, address: str) -> bool:
        """Return whether a peer is a trusted proxy."""
        return self._peer(address)[1]

    def client(self, peer: str, field: str) -> str:
        """Return the client that a trusted proxy names in X-Forwarded-For, or the proxy itself."""
        try:
            return self._walk(field, peer)
        except ValueError:
            return peer

    def _peer(self, address: str) -> tuple[str, bool]:
        try:
            return self._known(address)
        except ValueError:
            return address, False

    def _look_up(self, text: str) -> tuple[str, bool]:
        """Return an address's canonical text, and whether it is trusted. Raises ValueError."""
        known = parse_address(plain_address(text))
        return str(known), any(known in network for network in self._trusted)

    def _believe(self, environ: dict[str, Any], peer: str) -> None:
        client = self._client(environ.get(_FOR, ""), peer)
        environ["REMOTE_ADDR"] = environ["REMOTE_HOST"] = client
        scheme = self._scheme(environ.get(_PROTO, ""), peer)
        environ["wsgi.url_scheme"] = scheme or environ["wsgi.url_scheme"]
        if scheme == "http" and self._settings.https:
            detail = f"X-Forwarded-Proto=http AUTHAPI_PUBLIC_URL={self._settings.public_url}"
            self._notices.refused(HTTPSRequired.error, client, detail)
            raise HTTPSRequired
        host = self._host(environ.get(_HOST, ""), peer)
        environ["HTTP_HOST"] = host or environ.get("HTTP_HOST", "")
        if environ["REQUEST_METHOD"] not in SAFE_METHODS:
            self._warn_of_difference(scheme, environ["HTTP_HOST"])

    def _client(self, field: str, peer: str) -> str:
        try:
            return self._walk(field, peer)
        except ValueError as error:
            raise self._malformed("X-Forwarded-For", field, peer) from error

    def _walk(self, field: str, peer: str) -> str:
        """Return the last address of a list that is no trusted proxy's, or else its first.

        Raises ValueError.

        SECURITY: the client may have written anything before that address. nginx
        (`real_ip_recursive on`) and Express (`trust proxy`) walk the list in the same way.
        """
        client = peer
        for element in reversed(elements(field)):
            if not element:
                break
            if len(element) > LONGEST_ADDRESS:
                raise ValueError("longer than an address")
            client, trusted = self._known(unquoted(element))
            if not trusted:
                break
        return client

    def _scheme(self, field: str, peer: str) -> str | None:
        try:
            return _SCHEMES[unquoted(field).lower()] if field else None
        except (KeyError, ValueError) as error:
            raise self._malformed("X-Forwarded-Proto", field, peer) from error

    def _host(self, field: str, peer: str) -> str:
        """Return the host that the nearest proxy was asked for, the last one of a list."""
        try:
            host = unquoted(elements(field)[-1])
        except ValueError as error:
            raise self._malformed("X-Forwarded-Host", field, peer) from error
        if not is_host_header(host):
            raise self._malformed("X-Forwarded-Host", field, peer)
        return host

    def _malformed(self, header: str, value: str, peer: str) -> BadRequest:
        detail = f"AUTHAPI_TRUSTED_PROXY {header}={quoted(value)}"
        self._notices.refused(BadRequest.error, peer, detail)
        return BadRequest()

    def _warn_of_stranger(self, environ: dict[str, Any], peer: str) -> None:
        self._notices.once(
            "untrusted-proxy",
            "%s sends X-Forwarded headers, which are ignored, because it is not in "
            "AUTHAPI_TRUSTED_PROXY. If it is your proxy, add it: until then all users share the "
            "limits of one address, and the log and the sessions show that address.",
            peer,
        )
        if environ.get(_PROTO, "").lower() in {"https", "wss"} and not self._settings.https:
            self._notices.once(
                "untrusted-proxy-https",
                "%s sends X-Forwarded-Proto: https, but AUTHAPI_PUBLIC_URL is %s. If it is your "
                "proxy, set the URL that browsers see: until then the cookie is not Secure.",
                peer,
                self._settings.public_url,
            )

    def _warn_of_difference(self, scheme: str | None, host: str) -> None:
        seen = as_origin(f"{scheme or self._settings.public_url.partition(':')[0]}://{host}")
        if seen not in {None, self._settings.public_url}:
            self._notices.once(
                "public-url",
                "A trusted proxy forwards requests for %s, but AUTHAPI_PUBLIC_URL is %s. Set the "
                "URL that browsers see, or let the proxy pass on the Host: cookies, HSTS and the "
                "check of origins depend on that URL.",
                seen,
                self._settings.public_url,
            )
