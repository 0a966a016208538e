"""The headers of every answer, whoever gives it: the application, the server or an embedded part.

Security headers (OWASP HTTP Headers), and what lets pages of allowed origins read the answer (Fetch
Standard, 3.2).
"""

from __future__ import annotations

from authapi.settings import Settings

Lines = list[tuple[str, str]]

REQUEST_HEADERS = (  # that a page of an allowed origin may send; those of tracing have no power
    "Authorization, Content-Type, X-Requested-With, traceparent, tracestate, baggage, sentry-trace"
)
EXPOSED_HEADERS = "RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"
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


class AnswerHeaders:
    """Knows the headers of an answer, but for the request id and those of one route or failure."""

    def __init__(self, settings: Settings) -> None:
        """Take the scheme and the allowed origins from the settings."""
        self.varies = bool(settings.origins)
        self._plain = [*_ALWAYS, *([_HTTPS] if settings.https else []), *([_VARY] * self.varies)]
        self._readable = {origin: [*self._plain, *_cors(origin)] for origin in settings.origins}

    def of(self, origin: str | None) -> Lines:
        """The headers of an answer to a request with this `Origin`."""
        return self._readable.get(origin or "", self._plain)

    def of_preflight(self, origin: str | None, methods: str) -> Lines:
        """What tells a browser that it may send a request of another origin; none for strangers."""
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
