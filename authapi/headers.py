"""The headers of every answer, whether the application, the server or `protect` gives it.

Security headers (OWASP HTTP Headers), and what lets pages of allowed origins read the answer (Fetch
Standard, 3.2).
"""

from __future__ import annotations

import re

from authapi.body_tokens import HEADER
from authapi.settings import ServerSettings, Settings

Lines = list[tuple[str, str]]

REQUEST_HEADERS = (  # that a page of an allowed origin may send; those of tracing have no power
    f"{HEADER}, Authorization, Content-Type, X-Requested-With, "
    "traceparent, tracestate, baggage, sentry-trace"
)
EXPOSED_HEADERS = f"{HEADER}, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"
PREFLIGHT_LIFETIME = 600  # seconds

_ALWAYS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    (
        "Content-Security-Policy",
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; sandbox",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
_HTTPS = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
_VARY = ("Vary", "Origin")


OWN = frozenset({"Cache-Control", "Content-Security-Policy"})  # that a resource may have its own of
_SHARED = re.compile(r"\b(public|s-maxage)\b", re.IGNORECASE)
_PRIVATE = re.compile(r"\b(private|no-store)\b", re.IGNORECASE)


def is_shared(cache_control: str | None) -> bool:
    """Return whether shared caches may keep an answer, and its cookies with it (RFC 9111, 7.3)."""
    return bool(_SHARED.search(cache_control or ""))


def is_private(cache_control: str | None) -> bool:
    """Return whether no shared cache may keep an answer (RFC 9111, 5.2.2)."""
    return bool(_PRIVATE.search(cache_control or ""))


class AnswerHeaders:
    """Knows the headers of an answer, except its request id and a resource's or failure's own."""

    def __init__(self, settings: Settings) -> None:
        """Take the scheme and the allowed origins from the settings."""
        server = settings.of(ServerSettings)
        self.varies = bool(server.origins)
        self._plain = [*_ALWAYS, *([_HTTPS] if server.https else []), *([_VARY] * self.varies)]
        self._readable = {origin: [*self._plain, *_cors(origin)] for origin in server.origins}

    def of(self, origin: str | None) -> Lines:
        """Return the headers of an answer to a request with this `Origin`."""
        return self._readable.get(origin or "", self._plain)

    def of_preflight(self, origin: str | None, methods: str) -> Lines:
        """Return what permits a browser to send a request of another origin; [] for a stranger."""
        if origin not in self._readable:
            return []
        return [
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", REQUEST_HEADERS),
            ("Access-Control-Max-Age", str(PREFLIGHT_LIFETIME)),
        ]


def _cors(origin: str) -> Lines:
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Credentials", "true"),
        ("Access-Control-Expose-Headers", EXPOSED_HEADERS),
    ]
