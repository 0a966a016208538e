"""The settings: one frozen dataclass, which refuses to be made of what makes no sense."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from authapi.hosts import as_origin, bracketed, is_address, is_host, is_origin, plain_address
from authapi.machine import available_cpus
from authapi.setting import PREFIX, SettingError, check, parse, refused, setting, unknown

LOG_LEVELS = ("debug", "info", "warning", "error")
LONGEST_SESSION = 3_650 * 86_400  # seconds
LONGEST_COOKIE_LIFETIME = 400 * 86_400  # seconds; browsers cut longer ones (RFC 6265bis, 5.5)

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_KNOWN_KEYS = frozenset(
    {
        b"a-string-secret-at-least-256-bits-long",  # jwt.io's example
        bytes.fromhex(  # RFC 7515, A.1.1
            "0323354b2b0fa5bc837e0665777ba68f5ab328e6f054c928a90f84b2d2502ebf"
            "d3fb5a92d20647ef968ab4c377623d223d2e2172052e4f08c0cd9af567d080a3"
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, with the defaults; `docs/settings.md` is the same for people.

    Raises SettingError, whether it is made by hand or by `from_env`.
    """

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
    secret_key: str = setting(
        "",
        "The key that signs tokens, at least 32 bytes, in place of a key file.",
        secret=True,
    )
    key_file: str = setting(
        "",
        "The file of signing keys, a JWK Set that only its owner can read. Made at the first "
        "start. Default: the database's path and .key.",
    )
    cookie_name: str = setting(
        "", "The session cookie's name. Default: jwt, or __Host-jwt where the public URL is https."
    )
    cookie_domain: str = setting(
        "", "The cookie's Domain, to share it with subdomains. Default: none, this host only."
    )
    session_lifetime: int = setting(
        259_200,
        "Seconds that a session may be idle; its cookie lives as long.",
        low=60,
        high=LONGEST_COOKIE_LIFETIME,
    )
    session_max_lifetime: int = setting(
        2_592_000,
        "Seconds after which a session ends, however busy it is.",
        low=60,
        high=LONGEST_SESSION,
    )
    session_renew_after: int = setting(
        0,
        "Seconds after which a session's cookie is renewed. "
        "Default: 3600, or half of AUTHAPI_SESSION_LIFETIME where that is less.",
        low=0,
        high=LONGEST_COOKIE_LIFETIME,
    )
    max_sessions: int = setting(
        100, "Sessions of one user; the longest unused goes first.", low=1, high=10_000
    )
    password_min_length: int = setting(
        8, "The fewest characters of a new password.", low=8, high=64
    )
    argon2_memory_kib: int = setting(
        47_104, "Memory of one password hash, in KiB.", low=8, high=4_194_304
    )
    argon2_time_cost: int = setting(1, "Passes of one password hash.", low=1, high=1_000)
    argon2_lanes: int = setting(1, "Lanes of one password hash.", low=1, high=255)
    workers: int = setting(
        1, "Processes that answer requests; auto is one for each CPU.", low=0, high=256
    )
    hash_slots: int = setting(
        0, "Passwords that a worker hashes at once. Default: CPUs by workers.", low=0, high=256
    )
    threads: int = setting(
        0,
        "Threads of each worker that answer requests; at most half of them hash. "
        "Default: 16, or four for each hash slot where that is more.",
        low=0,
        high=1_024,
    )
    registration: str = setting(
        "open", "Who may register: open (anyone) or closed (nobody).", choices=("open", "closed")
    )
    rate_limits: str = setting(
        "on", "Whether tries are limited at all: on or off.", choices=("on", "off")
    )
    login_account_limit: str = setting(
        "10/hour", "Failed logins in a row with one name.", rate=True
    )
    login_network_limit: str = setting(
        "300/hour", "Logins from one network, an IPv4 address or an IPv6 /64.", rate=True
    )
    login_lockout: int = setting(
        100,
        "Failed logins in a row after which a name is locked out, but for browsers that it has "
        "logged in with before.",
        low=1,
        high=1_000_000,
    )
    registration_limit: str = setting("20/hour", "Registrations from one network.", rate=True)
    password_limit: str = setting(
        "10/hour", "Wrong passwords in a row in the sessions of one user.", rate=True
    )
    allowed_origins: str = setting(
        "",
        "Origins of browser applications elsewhere that may call the service, with a space "
        "between them. Default: none.",
    )
    trusted_proxy: str = setting(
        "",
        "The address of a proxy whose X-Forwarded-For, -Proto and -Host are believed. "
        "Default: none.",
    )
    log_level: str = setting("info", "What is logged to standard error.", choices=LOG_LEVELS)

    def __post_init__(self) -> None:
        """Check every value, then fill in what follows from the others."""
        for declared in dataclasses.fields(self):
            check(declared, getattr(self, declared.name))
        if not is_host(self.host):
            raise refused("host", self.host, "an IP address or a host name")
        if self.trusted_proxy:
            if not is_address(self.trusted_proxy) or "%" in self.trusted_proxy:
                raise refused("trusted_proxy", self.trusted_proxy, "an IP address")
            self._fill(trusted_proxy=plain_address(self.trusted_proxy))
        for origin in self.allowed_origins.split():
            if not is_origin(origin):
                wanted = "origins such as https://app.example.com, with a space between them"
                raise refused("allowed_origins", origin, wanted)
        self._fill(public_url=self.public_url or self.address)
        if not is_origin(self.public_url):
            wanted = "http:// or https://, a host and no path, such as https://auth.example.com"
            raise refused("public_url", self.public_url, wanted)
        self._fill(public_url=as_origin(self.public_url))
        self._fill(key_file=self.key_file or f"{self.database_path}.key")
        self._fill(cookie_name=self.cookie_name or ("__Host-jwt" if self.https else "jwt"))
        self._check_sessions()
        self._check_cookie()
        self._check_key()
        self._check_hashing()

    def _fill(self, **values: str | int) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def address(self) -> str:
        """Where the service itself listens."""
        return f"http://{bracketed(self.host)}:{self.port}"

    def on_port(self, port: int) -> Settings:
        """The settings for the port that was found where any free one was asked for."""
        public_url = "" if self.public_url == as_origin(self.address) else self.public_url
        return dataclasses.replace(self, port=port, public_url=public_url)

    @property
    def https(self) -> bool:
        """Whether clients come over TLS."""
        return self.public_url.startswith("https:")

    @property
    def origins(self) -> frozenset[str]:
        """The allowed origins, each as a browser writes it."""
        return frozenset(as_origin(origin) for origin in self.allowed_origins.split())

    @property
    def database_path(self) -> Path:
        """The database file, absolute."""
        path = self.database_url.removeprefix("sqlite:///")
        if path == self.database_url or not path or path == ":memory:" or set(path) & set("?#\0"):
            raise refused(
                "database_url", self.database_url, "sqlite:///relative.db or sqlite:////absolute.db"
            )
        return Path(path).absolute()

    @property
    def secret_bytes(self) -> bytes:
        """The secret key's bytes, also those of the environment that are not UTF-8."""
        return self.secret_key.encode(errors="surrogateescape")

    @property
    def hash_queue(self) -> int:
        """How many may wait for a hash slot: slots and queue are half of the threads."""
        return self.threads // 2 - self.hash_slots

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **overrides: str | None) -> Settings:
        """Read every `AUTHAPI_…` variable; an override that is not None stands before it.

        Raises SettingError, for an unknown `AUTHAPI_…` name too.
        """
        texts = {
            name.removeprefix(PREFIX): text
            for name, text in environ.items()
            if name.startswith(PREFIX)
        }
        known = {declared.name.upper(): declared for declared in dataclasses.fields(cls)}
        for name in texts:
            if name not in known:
                raise unknown(name, list(known))
        texts |= {name.upper(): text for name, text in overrides.items() if text is not None}
        values: dict[str, Any] = {
            known[name].name: parse(known[name], text) for name, text in texts.items()
        }
        return cls(**values)

    def _check_sessions(self) -> None:
        if self.session_max_lifetime < self.session_lifetime:
            raise SettingError(
                "AUTHAPI_SESSION_MAX_LIFETIME must be at least AUTHAPI_SESSION_LIFETIME: "
                f"set it to {self.session_lifetime} or more, or shorten the lifetime."
            )
        renew_after = self.session_renew_after or min(3_600, self.session_lifetime // 2)
        if renew_after >= self.session_lifetime:
            raise SettingError(
                "AUTHAPI_SESSION_RENEW_AFTER must be less than AUTHAPI_SESSION_LIFETIME "
                f"({self.session_lifetime}), or sessions end unrenewed."
            )
        self._fill(session_renew_after=renew_after)

    def _check_cookie(self) -> None:
        name = self.cookie_name
        if not _TOKEN.fullmatch(name):
            raise refused("cookie_name", name, "a cookie name (RFC 6265: letters, digits, - and _)")
        if name.lower().removeprefix("__host-") == "device":
            raise refused("cookie_name", name, "another name: that is the device cookie's")
        prefixed = name.lower().startswith(("__host-", "__secure-"))
        if prefixed and not self.https:
            raise SettingError(
                f"AUTHAPI_COOKIE_NAME {name!r} needs an https AUTHAPI_PUBLIC_URL, "
                "or browsers drop the cookie: set one, or choose a name without the prefix."
            )
        if not self.cookie_domain:
            return
        if name.lower().startswith("__host-"):
            raise SettingError(
                "AUTHAPI_COOKIE_DOMAIN cannot go with a __Host- cookie: "
                "set AUTHAPI_COOKIE_NAME=__Secure-jwt, or leave the domain unset."
            )
        domain = self.cookie_domain.lower().removeprefix(".")
        host = str(urlsplit(self.public_url).hostname)
        named = _HOST_NAME.fullmatch(domain) and not is_address(host)
        if not named or not f".{host}".endswith(f".{domain}"):
            raise refused(
                "cookie_domain",
                self.cookie_domain,
                f"the host of AUTHAPI_PUBLIC_URL ({host}) or a parent domain of it",
            )

    def _check_key(self) -> None:
        if not self.secret_key:
            return
        if self.key_file != f"{self.database_path}.key":
            raise SettingError(
                "AUTHAPI_SECRET_KEY and AUTHAPI_KEY_FILE are both set: unset one of them."
            )
        if fault := weak_key(self.secret_bytes):
            raise SettingError(
                f"AUTHAPI_SECRET_KEY {fault}: make one with "
                "python3 -c 'import secrets; print(secrets.token_hex(32))'."
            )

    def _check_hashing(self) -> None:
        if self.argon2_memory_kib < 8 * self.argon2_lanes:
            raise SettingError(
                "AUTHAPI_ARGON2_MEMORY_KIB must be at least 8 for each of AUTHAPI_ARGON2_LANES "
                f"(RFC 9106, 3.1): set it to {8 * self.argon2_lanes} or more."
            )
        cpus = available_cpus()
        workers = self.workers or min(cpus, 256)
        if workers > 1 and sys.platform != "linux":
            raise SettingError("AUTHAPI_WORKERS must be 1 but on Linux: no other balances them.")
        most = max(self.threads // 2, 1) if self.threads else 256
        slots = self.hash_slots or min(max(cpus // workers, 1), most)
        threads = self.threads or max(16, 4 * slots)
        if 2 * slots > threads:
            raise SettingError(
                f"AUTHAPI_THREADS must be at least twice AUTHAPI_HASH_SLOTS ({slots}), so that "
                f"session checks always find a thread: set it to {2 * slots} or more."
            )
        self._fill(workers=workers, hash_slots=slots, threads=threads)


def weak_key(key: bytes) -> str | None:
    """What makes a signing key unfit, or None (RFC 7518, 3.2: as long as the hash or longer)."""
    if len(key) < 32:
        return f"has {len(key)} bytes and needs at least 32"
    if len(set(key)) < 8 or key in (key + key)[1:-1] or key in _KNOWN_KEYS:
        return "can be guessed"
    return None
