"""The inline path: what the server's loop answers itself, and what it leaves for a thread.

Handing a request to a thread takes longer than a session check. So the loop runs the application
itself for a resource that says `quick = True`, and for one that says `hashes = True`, which it
refuses or leaves to a thread. Code that is about to wait calls `leave_loop` first. That ends the
run, and a thread runs the same request again from its start, with a new environ.

Running a request again is safe because its first run changed nothing: until `leave_loop` it has
only read, in memory and in the database, and it has not read the body or sent a byte. The second
run decides everything anew, with what is true by then: a session that was revoked in between is
refused. What the first run took for the request, such as a place on the hash lane, is kept for the
second run, so it is taken once, and it is given back when the request object goes away.
"""

from __future__ import annotations

from typing import Any

from authapi.middleware import SAFE_METHODS

IN_LOOP = "authapi.in_loop"  # in the environ: whether the server's loop runs the application
KEPT = "authapi.kept"  # in the environ: what the loop's run left for the thread's


class HandOver(BaseException):
    """Ends the loop's run of a request, which a thread then runs again.

    NOTE: it is no Exception, so that no error handler on its way to the server answers it.
    """

    def __init__(self, kept: dict[str, object]) -> None:
        """Take what the second run needs, by name."""
        super().__init__()
        self.kept = kept


class InlineRoutes:
    """The routes whose requests the loop may run, by method."""

    def __init__(self, *, reads_are_quick: bool = True) -> None:
        """Start without a route. Where a read waits for a network, there will be none."""
        self._reads_are_quick = reads_are_quick
        self._quick: set[str] = set()
        self._hashing: set[str] = set()

    def add(self, path: str, resource: object) -> None:
        """Add a route of a resource that says `quick = True` or `hashes = True`; ignore others.

        A path with parameters never matches, because requests are compared with its template.
        """
        if not self._reads_are_quick:
            return
        if getattr(resource, "quick", False) is True:
            self._quick.add(path)
        if getattr(resource, "hashes", False) is True:
            self._hashing.add(path)

    def takes(self, method: str, path: str) -> bool:
        """Return whether the loop may run a request.

        A `quick` resource's safe methods only read: they wait for no lock, hash or network. The
        other methods of one that `hashes` are refused, or leave the loop before they hash.
        """
        return path in (self._quick if method in SAFE_METHODS else self._hashing)


def leave_loop(environ: dict[str, Any], **kept: object) -> None:
    """Raise HandOver where the loop runs the request; the thread's run finds `kept`.

    Call it before anything is changed, and before anything that may wait.
    """
    if environ.get(IN_LOOP):
        raise HandOver(kept)


def kept_by_loop(environ: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - of any kind
    """Return what the loop's run of this request kept by a name, or None."""
    return environ.get(KEPT, {}).get(name)
