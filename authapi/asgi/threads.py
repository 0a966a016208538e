"""Calls that the event loop runs itself until they would wait, and then a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from authapi.background import BackgroundService
from authapi.inline import IN_LOOP, KEPT, HandOver

Result = TypeVar("Result")


class Threads(BackgroundService):
    """Threads of its own for what must not wait in the loop, started when they are needed.

    NOTE: the event loop's default threads are the application's, which may block all of them.
    """

    def __init__(self, most: int) -> None:
        """Take how many threads there are at most."""
        self._most = most
        super().__init__()

    def begin(self) -> None:
        """Begin without a thread, also in a process that is forked."""
        self._pool = ThreadPoolExecutor(self._most, "authapi-asgi")

    async def run(
        self, call: Callable[[dict[str, Any]], Result], environ: dict[str, Any]
    ) -> Result:
        """Return the result of a call with an environ: from the loop, or from a thread."""
        try:
            return call({**environ, IN_LOOP: True})
        except HandOver as handed_over:
            kept = handed_over.kept
        return await self.leave(call, {**environ, KEPT: kept})

    async def leave(
        self, call: Callable[[dict[str, Any]], Result], environ: dict[str, Any]
    ) -> Result:
        """Return the result of a call with an environ, from a thread.

        If the request is cancelled meanwhile, a call that has begun is finished all the same.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, environ)

    def close(self) -> bool:
        """Drop the calls that wait, and end the threads when they have finished theirs."""
        self._pool.shutdown(cancel_futures=True)
        return True
