"""Running the service as a process: its start, its one line of output, and its end by a signal."""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from functools import partial

from msgspec.structs import replace

from authapi.app import AuthAPI, create_app
from authapi.server.bounds import DEFAULT
from authapi.server.capacity import connections, database_connections, memory_needed
from authapi.server.forwarded import resolved
from authapi.server.http_server import Server
from authapi.server.listeners import hold, listen, listen_beside
from authapi.server.metrics_port import metrics_socket
from authapi.server.observation import Observation
from authapi.server.observer import Observer
from authapi.server.service_manager import tell_ready
from authapi.server.start_log import log_to_stderr, say_start, warn_of
from authapi.server.streams import unblock
from authapi.settings import ServerSettings, Settings, WorkerSettings, require_settings
from authapi.signals import END_SIGNALS, end_at_once


def serve(settings: Settings, create: Callable[[Settings], AuthAPI] = create_app) -> None:
    """Run the service until SIGTERM, SIGINT or SIGHUP, in the main thread. Raises StartError.

    Before it answers requests, a signal ends the process at once. Standard output and error are
    replaced, for good, by streams to which a write never waits.

    `create` may be an application's own function, which adds its resources to `create_app`'s. It is
    called once. Several workers are forked after it, so it must leave no thread or connection open.

    NOTE: therefore a worker that is started again has the schema of the others, even if the files
    have changed since.
    """
    require_settings(settings)
    end_at_once()
    unblock()
    log_to_stderr(settings)
    memory = memory_needed(settings)
    workers = settings.of(WorkerSettings).workers
    listening = closing(listen(settings) if workers == 1 else hold(settings))
    with listening as port, metrics_socket(settings) as scrapes:
        settings = settings.on_port(port.getsockname()[1])
        proxies = resolved(settings.of(ServerSettings).trusted_proxy)
        settings = settings.replace(trusted_proxy=proxies)
        app = create(settings)
        gc.freeze()  # what stays for good: to look through it takes 10 ms, and copies it in workers
        gc.enable()
        ready = partial(_say_ready, settings, app.core.database.description, memory)
        seen = Observation(app, workers, scrapes)
        if workers == 1:
            seen.begin(0)
            _answer(settings, app, seen.observer, port, ready)
        else:
            from authapi.server.workers import Hooks, Workers  # noqa: PLC0415 - for several alone

            app.prepare_to_fork()
            work = partial(_work, settings, app, seen.observer, port)
            drain_seconds = settings.of(ServerSettings).drain_seconds
            Workers(workers, work, drain_seconds, Hooks(seen.begin, seen.fell)).run(ready)


def _say_ready(settings: Settings, database: str, memory: str) -> None:
    warn_of(settings)
    most = database_connections(settings)
    database += f", up to {most} connections" if most else ""
    address = settings.of(ServerSettings).address
    say_start(settings, f"authapi listens on {address}, database {database}, memory up to {memory}")
    tell_ready()


def _work(
    settings: Settings,
    app: AuthAPI,
    observer: Observer | None,
    port: socket.socket,
    ready: Callable[[], None],
) -> None:
    """Answer requests as one of several workers, on a socket of its own.

    NOTE: on a socket that all of them share, one worker sometimes takes every connection.
    """
    with closing(listen_beside(port, settings)) as listener:
        port.close()
        _answer(settings, app, observer, listener, ready)


def _answer(
    settings: Settings,
    app: AuthAPI,
    observer: Observer | None,
    listener: socket.socket,
    ready: Callable[[], None],
) -> None:
    """Answer requests until a signal.

    NOTE: a thread that still runs a request at the end keeps its database connection, because
    SQLite would crash if it was closed under the thread.
    """
    workers = settings.of(WorkerSettings)
    bounds = replace(DEFAULT, connections=connections(workers.threads))
    server = Server(app, listener, workers.threads, bounds)
    if observer is not None:
        observer.watch(server)
    _stop_on_signals(server, dies_of_second=workers.workers == 1)
    app.maintain()
    ready()
    server.run()
    if not server.task_dispatcher.threads:
        app.close()


def _stop_on_signals(server: Server, *, dies_of_second: bool) -> None:
    """Stop on the first signal. A worker's parent kills it if that takes too long.

    NOTE: a worker may get a SIGTERM from its parent, and another one that was sent to the group.
    """

    def stop(*_: object) -> None:
        if dies_of_second:
            end_at_once()
        server.stop()

    for number in END_SIGNALS if dies_of_second else [signal.SIGTERM]:
        signal.signal(number, stop)
    _wake_on_signals(server)


def _wake_on_signals(server: Server) -> None:
    """End the loop's wait at each signal.

    NOTE: Python calls a handler between two steps of its own. A signal just before the system call
    that waits is noticed only after it. The pipe stays open until the process ends, because a
    signal would otherwise be written into another file of that number.
    """
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    server.loop.watch(reader, partial(os.read, reader, 4_096))
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
