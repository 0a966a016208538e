"""Admission: load shedding for requests that hash, so that no network takes every place."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import Any, Protocol, runtime_checkable

import falcon

from authapi.errors import Overloaded
from authapi.hosts import networks_of
from authapi.inline import IN_LOOP, kept_by_loop, leave_loop
from authapi.metrics import OFF, Metrics
from authapi.middleware import SAFE_METHODS, caller_of
from authapi.passwords.hash_lane import HOLDER

SHARE = 4  # a place in so many is for known users, and one for networks that hold none


class Place:
    """The right to hash a password, until `release` or until nothing refers to it any more."""

    def __init__(self, pool: _Pool, holder: str) -> None:
        """Return the place to the pool when it is released or collected."""
        self.holder = holder
        self.release = weakref.finalize(self, pool.returned.put, holder)


class _Pool:
    """A number of places, of which the last `kept` go only to holders that have none."""

    def __init__(self, places: int, kept: int) -> None:
        self._places, self._kept = places, kept
        self._held: Counter[str] = Counter()
        # NOTE: a place may end in the middle of a statement here, and this `put` is reentrant.
        self.returned: SimpleQueue[str] = SimpleQueue()

    def take(self, holder: str) -> Place | None:
        self._take_back()
        free = self._places - self._held.total()
        if free <= (self._kept if self._held[holder] else 0):
            return None
        self._held[holder] += 1
        return Place(self, holder)

    def _take_back(self) -> None:
        while True:
            try:
                holder = self.returned.get_nowait()
            except Empty:
                return
            self._held[holder] -= 1
            if not self._held[holder]:
                del self._held[holder]


class Admission:
    """Gives out the places of the hash lane.

    A quarter is for known users. A network has at most two thirds of the others, which is half of
    all. So a flood, from one or several networks, keeps out neither known users nor a new network.
    """

    def __init__(self, places: int) -> None:
        """Take the number of places, which is how many requests may hash, or wait to, at once."""
        share = places // SHARE
        self._lock, self._refused = threading.Lock(), OFF
        self._known = _Pool(share, share // 2)
        self._others = _Pool(places - share, share)

    def measure(self, metrics: Metrics) -> None:
        """Declare the counter of refusals."""
        self._refused = metrics.counter(
            "authapi_hash_refused_total",
            "Requests that were refused because too many wait for a password to be hashed.",
        )

    def admit(self, network: str, users: Iterable[str] = ()) -> Place:
        """Return a place for a request of a network, which one of the known users may have sent.

        Raises Overloaded.
        """
        with self._lock:
            for user in users:
                place = self._known.take(f"user {user}")
                if place:
                    return place
            place = self._others.take(network)
        if place is None:
            self._refused.add()
            raise Overloaded
        return place

    def hold(self, req: falcon.Request, users: Iterable[str] = ()) -> None:
        """Give a request a place until its answer. Raises Overloaded.

        It is for a resource that hashes for some bodies alone, and so cannot say `hashes = True`.
        """
        _hold(req, self.admit(_network_of(req), users))


@runtime_checkable
class Admitting(Protocol):
    """A resource that hashes, and that may refuse a request before it gets a place."""

    def known_users(self, req: falcon.Request) -> Iterable[str]:
        """Return the ids of users who may have sent a request, by cookies that we signed.

        It reads no database and no body.
        """

    def admit(self, req: falcon.Request, users: Iterable[str]) -> None:
        """Raise the failure that refuses a request, which one of these users may have sent.

        It may read what a session check reads, and no body.
        """


class Admit:
    """Gives a request for a resource that `hashes` a place on the hash lane, or refuses it.

    If the resource has no method `admit`, the session's user is the known one. Where a read waits
    for a network, the resource is asked in a thread, once the request has a place.

    NOTE: the server's loop does this, and hands over only requests with a place. If threads refused
    requests, they would compete with the loop for the interpreter lock, and a storm of logins would
    stop session checks.
    """

    def __init__(self, admission: Admission, *, reads_are_quick: bool = True) -> None:
        """Take what gives out the places, and whether the loop may read the database."""
        self._admission, self._reads_are_quick = admission, reads_are_quick

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Raise Overloaded or what `admit` raises; leave the server's loop, which must not hash."""
        if getattr(resource, "hashes", False) is not True or req.method in SAFE_METHODS:
            return
        users = _known_users(req, resource)
        place: Place | None = kept_by_loop(req.env, "place")
        if place is None:
            if self._reads_are_quick or not req.env.get(IN_LOOP):
                _admit(req, resource, users)
            place = self._admission.admit(_network_of(req), users)
            leave_loop(req.env, place=place)
            _hold(req, place)
        else:
            _hold(req, place)  # which a refusal frees
            if not self._reads_are_quick:
                _admit(req, resource, users)

    def process_response(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, _ok: object
    ) -> None:
        """Free the place."""
        place = getattr(req.context, "authapi_place", None)
        if place is not None:
            HOLDER.set("")
            place.release()


def _network_of(req: falcon.Request) -> str:
    return networks_of(caller_of(req).ip)[-1]


def _hold(req: falcon.Request, place: Place) -> None:
    req.context.authapi_place = place
    HOLDER.set(place.holder)


def _known_users(req: falcon.Request, resource: object) -> Iterable[str]:
    if isinstance(resource, Admitting):
        return resource.known_users(req)
    user = getattr(req.context, "user", None)
    return [] if user is None else [str(user.id)]


def _admit(req: falcon.Request, resource: object, users: Iterable[str]) -> None:
    if isinstance(resource, Admitting):
        resource.admit(req, users)
