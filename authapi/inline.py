"""The inline path: what the server's loop answers itself, and what it leaves for a thread.

Handing a request to a thread takes longer than a session check. So the loop runs the application
itself for a resource that says `quick = True`, and for one that says `hashes = True`, which it
refuses or leaves to a thread. Code that is about to wait calls `leave_loop` first. That ends the
run, and a thread runs the same request again from its start, with a new environ.

Where a read of the database waits for a network, code that needs a row of it calls `looked_up`.
That ends the run too. The server looks the row up, together with those of other requests, and the
loop runs the request again with the row.

Running a request again is safe because its first run changed nothing: until it ends, it has only
read, in memory and in the database, and it has not read the body or sent a byte. The next run
decides everything anew, with what is true by then: a session that was revoked in between is
refused. Only a row that was looked up counts as it was read, after the request had come, so whoever
revoked a session before that is heard. What a run took for the request, such as a place on the hash
lane, is kept for the next one, so it is taken once, and it is given back when the request object
goes away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authapi.database import Key, Row
from authapi.errors import Unavailable
from authapi.middleware import SAFE_METHODS
from authapi.routing import takes_any_method

IN_LOOP = "authapi.in_loop"  # in the environ: whether the server's loop runs the application
KEPT = "authapi.kept"  # in the environ: what the loop's run left for the next one

REST = "{path:path}"  # ends the template of a route that has all paths below it
_ROWS = "rows"  # kept: the rows that were looked up, by their keys


class HandOver(BaseException):
    """Ends the loop's run of a request, which is then run again: by a thread, without a key.

    With a key, the loop runs it again when the key's row was looked up.

    NOTE: it is no Exception, so that no error handler on its way to the server answers it.
    """

    def __init__(self, kept: Mapping[str, object], key: Key | None = None) -> None:
        """Take what the next run needs, by name, and the key that is to be looked up."""
        super().__init__()
        self.kept, self.key = kept, key


class InlineRoutes:
    """The routes whose requests the loop may run, by method."""

    def __init__(self) -> None:
        """Start without a route."""
        self._quick: set[str] = set()
        self._hashing: set[str] = set()
        self._quick_below: tuple[str, ...] = ()  # all paths that begin so, in any method

    def add(self, path: str, resource: object) -> None:
        """Add a route of a resource that says `quick = True` or `hashes = True`; ignore others.

        A path with parameters never matches, because requests are compared with its template. But
        one that ends with `{path:path}` matches whatever is below it, if its quick resource takes
        any method.
        """
        if getattr(resource, "quick", False) is True:
            self._quick.add(path)
            if takes_any_method(resource) and path.endswith(REST):
                self._quick_below += (path.removesuffix(REST),)
        if getattr(resource, "hashes", False) is True:
            self._hashing.add(path)

    def takes(self, method: str, path: str) -> bool:
        """Return whether the loop may run a request.

        A `quick` resource's safe methods only read: they wait for no lock, hash or network. The
        other methods of one that `hashes` are refused, or leave the loop before they hash. A
        resource that takes any method answers each as GET.
        """
        if path in (self._quick if method in SAFE_METHODS else self._hashing):
            return True
        return path.startswith(self._quick_below)


def leave_loop(environ: dict[str, Any], **kept: object) -> None:
    """Raise HandOver where the loop runs the request; the thread's run finds `kept`.

    Call it before anything is changed, and before anything that may wait.
    """
    if environ.get(IN_LOOP):
        raise HandOver(kept)


def kept_by_loop(environ: dict[str, Any], name: str) -> Any:  # noqa: ANN401 - of any kind
    """Return what the loop's run of this request kept by a name, or None."""
    return environ.get(KEPT, {}).get(name)


def looked_up(environ: dict[str, Any], key: Key) -> Row | None:
    """Return the row of a key, where the loop runs the request; None where there is no such row.

    Raises HandOver until the server has looked it up, and Unavailable where it could not.
    """
    kept: Mapping[str, Any] = environ.get(KEPT, {})
    rows: Mapping[Key, Row | Unavailable | None] = kept.get(_ROWS, {})
    if key not in rows:
        raise HandOver(kept, key)
    found = rows[key]
    if isinstance(found, Unavailable):
        raise Unavailable  # without its cause, which the log has already: not one line a request
    return found


def with_row(
    kept: Mapping[str, object], key: Key, row: Row | Unavailable | None
) -> Mapping[str, object]:
    """Return what is kept for a request, and the row of a key, or why it was not looked up."""
    rows: Any = kept.get(_ROWS, {})
    return {**kept, _ROWS: {**rows, key: row}}
