"""Claims: the first proof of a user's address, which makes the account its owner's.

Until then anybody may have registered with the address. So nothing counts any more that was there
before: each feature that keeps a credential, or what one opened, ends it at `AccountClaimed`
(Sudhodanan and Paverd, *Pre-hijacked accounts*, USENIX Security 2022).

Endpoints: none. Table: none of its own.
"""

from __future__ import annotations

import falcon

from authapi.core import Core
from authapi.events import Caller
from authapi.features.users import CredentialsChanged

REQUIRES = ("users",)


class AccountClaimed(CredentialsChanged):
    """A user's address was proved for the first time: all earlier credentials are removed."""

    __slots__ = ()


class Claims:
    """Records the first proof of an address."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._users = core.database.statements("users")

    def prove(self, user_id: int, caller: Caller) -> bool:
        """Record that a caller receives the mail of a user, inside a transaction.

        The first time, the user loses the password, and all that other features keep of before.
        Return whether it was the first time. Credentials that were read before are outdated then.
        """
        is_first = self._users.claim(id=user_id, now=int(self._core.clock()))
        if is_first:
            self._core.events.emit(AccountClaimed(user_id, caller))
        return bool(is_first)


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: other features prove addresses."""
