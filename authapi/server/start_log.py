"""The log of a start: its format, and warnings about settings."""

from __future__ import annotations

import logging

from authapi.hosts import are_same_site
from authapi.public_suffixes import problem_of
from authapi.server.log_lines import JSONLine, formatter, is_json, log_what_python_writes
from authapi.settings import PasswordSettings, ServerSettings, SessionSettings, Settings

OWASP_KIB, OWASP_PASSES = 7_168, 5  # argon2id's least memory, with its passes (Password Storage)

logger = logging.getLogger("authapi.serve")


def log_to_stderr(settings: Settings) -> None:
    """Log to standard error, in the settings' form, unless the application has set up logging."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(settings))
    if is_json(settings):
        log_what_python_writes()
    level = settings.of(ServerSettings).log_level.upper()
    logging.basicConfig(level=level, handlers=[handler])
    # SECURITY: a line for each client that ends a long answer would let clients fill the log.
    logging.getLogger("waitress").setLevel(max(logging.WARNING, logging.root.level))
    # A line for each request that waits for a thread says nothing that the 503s do not.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)


def say_start(settings: Settings, text: str) -> None:
    """Write the one line of a start to standard output: the text, or an object like the log's."""
    if is_json(settings):
        record = logging.LogRecord(logger.name, logging.INFO, "", 0, "%s", (text,), None)
        vars(record)["fields"] = {"url": settings.of(ServerSettings).address}
        text = JSONLine().format(record)
    print(text, flush=True)  # noqa: T201 - the one line that a start says


def warn_of(settings: Settings) -> None:
    """Log a warning for each setting that is allowed, and yet likely to be a mistake."""
    _warn_of_cheap_hashes(settings)
    _warn_of_other_sites(settings)
    _warn_of_a_public_suffix(settings)


def _warn_of_cheap_hashes(settings: Settings) -> None:
    """Warn of password hashes that cost less than each choice of OWASP's."""
    cost = settings.of(PasswordSettings)
    memory, passes = cost.argon2_memory_kib, cost.argon2_time_cost
    if memory < OWASP_KIB or memory * passes < OWASP_KIB * OWASP_PASSES:
        logger.warning(
            "AUTHAPI_ARGON2_MEMORY_KIB=%d and AUTHAPI_ARGON2_TIME_COST=%d are below what OWASP "
            "recommends",
            memory,
            passes,
        )


def _warn_of_other_sites(settings: Settings) -> None:
    """Warn of allowed origins from which browsers send no cookie, such as localhost's to 127.0.0.1.

    The cookie is `SameSite=Lax`, which leaves it out of requests that another site's page makes.
    """
    server = settings.of(ServerSettings)
    others = [each for each in server.origins if not are_same_site(each, server.public_url)]
    if others:
        logger.warning(
            "AUTHAPI_ALLOWED_ORIGINS has %s, which is another site than AUTHAPI_PUBLIC_URL %s: "
            "browsers send no cookie with its requests to that URL. Open both by one host name, or "
            "by names of one domain, and by one scheme; or let its pages keep tokens "
            "(docs/features/tokens.md).",
            ", ".join(sorted(others)),
            server.public_url,
        )


def _warn_of_a_public_suffix(settings: Settings) -> None:
    """Warn of a cookie domain below which anybody can have a name."""
    problem = problem_of(settings.of(SessionSettings).cookie_domain)
    if problem:
        logger.warning("%s", problem)
