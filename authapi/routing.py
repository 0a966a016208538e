"""Falcon's router, and the check of each resource that is routed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon
from falcon import inspect
from falcon.routing import CompiledRouter

from authapi.headers import OWN, is_shared
from authapi.operations import prepared


def takes_any_method(resource: object) -> bool:
    """Return whether a resource says `any_method = True`: its `on_get` answers every method.

    OPTIONS and methods that HTTP does not know are among them, and need a session as GET does.
    CONNECT is not. SECURITY: a proxy that sees it answered 200 would open a tunnel to us, in which
    a client could pose as the proxy.
    """
    return getattr(resource, "any_method", False) is True


def check_resource(resource: object) -> None:
    """Raise TypeError for a resource that would be open by mistake.

    SECURITY: Falcon runs no middleware, so no authentication, before a resource that is falsy.
    """
    kind = type(resource)
    if resource is not None and (hasattr(kind, "__bool__") or hasattr(kind, "__len__")):
        raise TypeError(f"{kind.__name__} must define neither __bool__ nor __len__")
    needs = getattr(resource, "needs", ())
    are_needs = isinstance(needs, tuple) and all(map(callable, needs))
    if not are_needs or hasattr(resource, "fresh"):  # as version 0.1 had it
        raise TypeError(f"{kind.__name__}: write `needs = (fresh,)` for a fresh session")
    if getattr(resource, "public", False) is True and needs:
        raise TypeError(f"{kind.__name__} cannot be public and have needs")


def _check_headers(resource: object) -> None:
    """Raise TypeError for `answer_headers` that a resource must not have.

    SECURITY: a cache that is shared would give one user's answer to another.
    """
    own = dict(getattr(resource, "answer_headers", ()))
    kind = type(resource).__name__
    if not OWN.issuperset(own):
        raise TypeError(f"{kind}.answer_headers may hold {' and '.join(sorted(OWN))} only")
    if is_shared(own.get("Cache-Control")) and getattr(resource, "public", False) is not True:
        raise TypeError(f"{kind} needs a session, so that shared caches must not keep its answers")


_AS_GET = tuple(method for method in falcon.COMBINED_METHODS if method != "CONNECT")


class _Methods(dict[str, Any]):
    """The responders of a route. A method that HTTP does not know is answered 405 too."""

    def __missing__(self, _method: str) -> Any:  # noqa: ANN401 - a Falcon responder
        return self["TRACE"]


class Router(CompiledRouter):
    """Falcon's router, with HEAD wherever a resource has GET, and operations prepared."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take the clock by which needs are checked, in seconds since the epoch."""
        super().__init__()
        self._clock = clock
        self.resources: dict[str, tuple[object, str]] = {}  # and the suffix, by template

    def add_route(self, uri_template: str, resource: object, **kwargs: Any) -> None:  # noqa: ANN401
        """Route a path to a resource, and remember it."""
        super().add_route(uri_template, resource, **kwargs)
        self.resources[uri_template] = resource, kwargs.get("suffix") or ""

    def find(self, uri: str, req: falcon.Request | None = None) -> Any:  # noqa: ANN401 - Falcon's
        """Find the route of a path. Falcon's own router takes `//user` for `/user`."""
        return None if uri.startswith("//") else super().find(uri, req)

    def map_http_methods(self, resource: object, **kwargs: Any) -> _Methods:  # noqa: ANN401
        """Map the methods of a resource to its responders."""
        check_resource(resource)
        _check_headers(resource)
        responders = super().map_http_methods(resource, **kwargs)
        methods = _Methods(
            (method, prepared(responder, self._clock)) for method, responder in responders.items()
        )
        if "GET" in methods:
            for method in _AS_GET if takes_any_method(resource) else ("HEAD",):
                methods.setdefault(method, methods["GET"])
        return methods


inspect.register_router(Router)(inspect.inspect_compiled_router)  # for falcon-inspect-app
