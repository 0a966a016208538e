"""The environ of an ASGI scope, by which a request is checked or answered as one of WSGI."""

from __future__ import annotations

import sys
from functools import lru_cache
from io import BytesIO
from typing import Any

from authapi.asgi.types import Scope

_SOCKET_METHOD = "CONNECT"  # as in RFC 8441: SECURITY: it is not safe, so its origin is checked
_LEFT_OUT = "REQUEST_METHOD", ""
_WITHOUT_PREFIX = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def environ_of(scope: Scope) -> dict[str, Any]:
    """Return what a session check reads of a request or of a websocket's handshake.

    SECURITY: fields of one name become a list, as they do in our server, so that none of them
    counts alone; lines of a cookie field become one (RFC 9113, 8.2.3). A name with an underscore is
    left out, because it would count as the one with a hyphen.
    """
    client = scope.get("client")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.get("method", _SOCKET_METHOD),
        "PATH_INFO": "",
        "REMOTE_ADDR": client[0] if client else "",
        "wsgi.input": None,
        "wsgi.errors": sys.stderr,
    }
    repeated: dict[str, list[str]] = {}
    for field, content in scope["headers"]:
        name, separator = _variable(field)
        value = content.decode("latin-1")
        if name not in environ:
            environ[name] = value
        elif separator:
            repeated.setdefault(name, [separator, environ[name]]).append(value)
    environ.update({name: values[0].join(values[1:]) for name, values in repeated.items()})
    return environ


def whole_environ_of(scope: Scope, body: bytes, *, prefix: str, path: str) -> dict[str, Any]:
    """Return the environ of a request with its body, for an application under a prefix (PEP 3333).

    `path` is what follows the prefix.
    """
    host, port = scope.get("server") or ("localhost", None)
    return {
        **environ_of(scope),
        "SCRIPT_NAME": _tunnelled(scope.get("root_path", "") + prefix),
        "PATH_INFO": _tunnelled(path),
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def path_below(scope: Scope, prefix: str) -> str | None:
    """Return what follows a prefix in the path of a request; None where it is not below it.

    The path begins with `root_path`, where the application is mounted or a proxy cuts a part off.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(f"{root}/"):
        path = path[len(root) :]
    below = path.removeprefix(prefix)
    return below if len(below) < len(path) and (not below or below[0] == "/") else None


@lru_cache(maxsize=256)
def _variable(field: bytes) -> tuple[str, str]:
    """Return the name of a header field in an environ, and what stands between its lines.

    One to leave out has the name of what is there already, and no separator.
    """
    name = field.decode("latin-1").lower()
    if "_" in name:
        return _LEFT_OUT
    variable = _WITHOUT_PREFIX.get(name) or "HTTP_" + name.upper().replace("-", "_")
    return variable, "; " if name == "cookie" else ", "


def _tunnelled(path: str) -> str:
    return path.encode("utf-8", "replace").decode("latin-1")
