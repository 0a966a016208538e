"""The lifespan of an ASGI application: what is closed at the server's shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from authapi.asgi.types import Application, Message, Receive, Scope, Send

logger = logging.getLogger("authapi")


class Lifespan:
    """Passes lifespan messages on, and closes what is ours when the application has shut down.

    An application that fails at its shutdown has shut down too. For one that knows no lifespan,
    such as Django's, it answers itself.
    """

    def __init__(self, app: Application, close: Callable[[], None]) -> None:
        """Take the application, and what closes."""
        self._app, self._close = app, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the lifespan of the application. Raises what it raises once it has begun."""
        has_begun = is_ending = False

        async def receiving() -> Message:
            nonlocal has_begun, is_ending
            has_begun = True
            message = await receive()
            is_ending = message["type"] == "lifespan.shutdown"
            return message

        async def sending(message: Message) -> None:
            if message["type"] in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
                await self._close_beside()
            await send(message)

        try:
            await self._app(scope, receiving, sending)
        except Exception as error:
            if is_ending:
                await self._close_beside()
            if has_begun:
                raise
            logger.debug("the application knows no lifespan: %s", error)
        if not has_begun:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await self._close_beside()
            await send({"type": "lifespan.shutdown.complete"})

    async def _close_beside(self) -> None:
        """Close on a thread, because that may take seconds."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)
