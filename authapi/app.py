"""The composition root: makes a wired Falcon application of settings."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import falcon

from authapi import errors
from authapi.admission import Admission, Admit
from authapi.authentication import Authenticate
from authapi.cookies import Cookies
from authapi.core import Core
from authapi.database.measured import measured
from authapi.database.opening import open_database
from authapi.database.watch import DatabaseWatch
from authapi.events import Events, log
from authapi.falcon_errors import failure_of
from authapi.features.renewal import Renewal
from authapi.features.replaced_sessions import ReplacedSessions
from authapi.features.sessions import SessionRepository, Sessions
from authapi.features.user_management import Users
from authapi.inline import InlineRoutes
from authapi.jobs import Jobs
from authapi.keys import lacks_keys, require_shared_keys
from authapi.keys.root import load_root
from authapi.keys.signing_keys import SigningKeys
from authapi.losses import warn_of_losses
from authapi.metrics import Metrics
from authapi.middleware import CrossSite, Headers, caller_of
from authapi.notices import Notices
from authapi.passwords import Passwords
from authapi.routing import Router
from authapi.session_look_ups import SessionLookUps
from authapi.session_tokens import SessionTokens
from authapi.settings import ObservationSettings, Settings, WorkerSettings, require_settings
from authapi.wire import Wire

logger = logging.getLogger("authapi")

if TYPE_CHECKING:
    _FalconApp = falcon.App[falcon.Request, falcon.Response]
else:
    _FalconApp = falcon.App  # instrumentation may replace it by a class that is not generic


class AuthAPI(_FalconApp):
    """A WSGI application whose resources need a session unless they say `public = True`."""

    def __init__(self, core: Core) -> None:
        """Take the core, and add the middleware, the router and the error handlers."""
        self.core = core
        self.observed: dict[str, bool] = {}  # whether requests are counted and logged, by route
        self.inline = InlineRoutes()
        self.cross_site = CrossSite(core.settings, core.notices)
        self.authenticate = Authenticate(
            core,
            core.of(Sessions).authenticate,
            core.of(ReplacedSessions).include,
            core.of(Renewal).renewed,
        )
        self.look_ups = core.of(SessionLookUps)
        if not core.database.is_local:
            self.authenticate.look_up = self.look_ups.find
        self._session_cookie = core.of(SessionTokens).cookie
        self.users = core.of(Users)
        self.jobs = core.of(Jobs)
        self.admission = Admission(core.settings.of(WorkerSettings).hash_places)
        router = Router(core.clock)
        self.resources = router.resources
        self._find_route = router.find
        super().__init__(
            middleware=[
                Headers(core),
                self.cross_site,
                self.authenticate,
                Admit(self.admission, reads_are_quick=core.database.is_local),
            ],
            router=router,
        )
        self.add_error_handler(errors.Failure, self.fail)
        self.add_error_handler(falcon.HTTPError, self._fail_as_falcon)
        self.add_error_handler(Exception, self._fail_internally)

    def add_route(
        self,
        uri_template: str,
        resource: object,
        *,
        replaces: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Route a path to a resource, as Falcon does. Raises ValueError for a path that is taken.

        With `replaces` it must be taken: another feature's resource gives way.

        SECURITY: Falcon itself replaces the older resource without a word.
        """
        if (uri_template in self.observed) is not replaces:
            reason = "has no route to replace" if replaces else "already has a route"
            raise ValueError(f"{uri_template} {reason}: choose another path")
        self.observed[uri_template] = getattr(resource, "observed", True) is True
        super().add_route(uri_template, resource, **kwargs)
        self.inline.add(uri_template, resource)

    def route_of(self, path: str) -> str | None:
        """Return the template of a path's route; None where there is none."""
        found = self._find_route(path)
        return str(found[3]) if found else None

    def maintain(self) -> None:
        """Wake the background services. A server calls this about once a second."""
        self.core.background.wake()

    def prepare_to_fork(self) -> None:
        """Release what cannot be carried through a fork; the next use acquires it again."""
        self.core.background.before_fork()

    def close(self) -> None:
        """Close the background services, the database too, within 8 seconds.

        No request may be running any more.
        """
        self.core.background.close()

    def add_sink(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Raise TypeError: Falcon runs no authentication before a sink."""
        raise TypeError("a sink would be open to everyone: add a resource with add_route")

    def add_static_route(self, *_args: object, **_kwargs: object) -> NoReturn:
        """Raise TypeError: Falcon runs no authentication before a static route."""
        raise TypeError("a static route would be open to everyone: add a resource with add_route")

    def fail(
        self, req: falcon.Request, resp: falcon.Response, failure: errors.Failure, _params: object
    ) -> None:
        """Answer a failure and log it; delete a session cookie that is bad."""
        # NOTE: first, because this may leave the server's loop, and the thread logs then.
        is_invalid = isinstance(failure, errors.InvalidToken)
        has_bad_cookies = is_invalid and self.authenticate.has_bad_cookies(req)
        self.log(req, failure)
        self.core.wire.fail(req, resp, failure)
        if is_invalid:
            self._session_cookie.leave(resp)
            if has_bad_cookies:
                self._session_cookie.delete(resp)

    def tell(self, req: falcon.Request, failure: errors.Failure) -> None:
        """Log a failure that has a `notice`, at most once a minute for a network."""
        if failure.notice:
            self.core.notices.refused(failure.notice, caller_of(req).ip)

    def log(self, req: falcon.Request, failure: errors.Failure) -> None:
        """Log a failure, with its cause where the service is at fault (status 500 and above).

        While a database server is away, its one line says so, and not one for each request.
        """
        self.tell(req, failure)
        self.core.metrics.failed(req.uri_template or "", failure)
        database = self.core.database
        is_told = isinstance(failure, errors.Unavailable) and database.is_stuck
        is_fault = failure.status >= 500 and (database.is_local or not is_told)
        cause = failure.__cause__ if is_fault else None
        request_id, level = caller_of(req).request_id, logging.WARNING if cause else logging.DEBUG
        if logger.isEnabledFor(level):
            fields = {"request_id": request_id, "status": failure.status, "error": failure.error}
            fields |= {"cause": str(cause)} if cause else {}
            text = "request %s: %s %s %s"
            given = request_id, failure.status, failure.error, cause or ""
            logger.log(level, text, *given, extra={"fields": fields})

    def _fail_as_falcon(
        self, req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: object
    ) -> None:
        """Answer an error that Falcon, or an application's own resource, raised."""
        resp.set_headers(error.headers or {})
        self.fail(req, resp, failure_of(req, error), None)

    def _fail_internally(
        self, req: falcon.Request, resp: falcon.Response, error: Exception, _params: object
    ) -> None:
        """Answer 500 and log the traceback."""
        fields = {"request_id": (request_id := caller_of(req).request_id), "status": 500}
        text = "request %s failed"
        logger.error(text, request_id, exc_info=error, extra={"fields": fields})
        self.core.wire.fail(req, resp, errors.InternalError())


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.time,
) -> AuthAPI:
    """Return an application with the features of the settings, on an up-to-date database.

    `clock` returns seconds since the epoch. No thread runs and no connection is open afterwards, so
    the process may fork. Raises StartError.
    """
    require_settings(settings)
    require_shared_keys(settings)
    are_new = lacks_keys(settings)
    metrics = Metrics(collects=bool(settings.of(ObservationSettings).metrics_address))
    database = measured(open_database(settings), settings, metrics)
    clock = database.clock(clock)
    keys = SigningKeys(settings)
    core = Core(
        settings=settings,
        clock=clock,
        database=database,
        events=Events(),
        notices=Notices(clock),
        passwords=Passwords(settings),
        keys=keys,
        root=load_root(settings, keys.all),
        tokens=keys.tokens,
        wire=Wire(settings, clock),
        cookies=Cookies(settings),
        metrics=metrics,
    )
    ended = are_new and core.of(SessionRepository).exist(clock())
    warn_of_losses(core, is_new=database.is_new, are_new=are_new, ended=ended)
    database.prepare_to_fork()  # the server that gets the application may fork
    app = AuthAPI(core)
    _add_services(app, core)
    _set_up_features(app)
    return app


def _add_services(app: AuthAPI, core: Core) -> None:
    """Add the background services of the core, what must not fail in them, and the log."""
    database = core.database
    core.events.subscribe(lambda event: database.after_commit(lambda: log(event)))
    # NOTE: only our own server wakes the services. Under any other, a committed change does it.
    core.events.subscribe(lambda _: database.after_commit(app.jobs.wake))
    watch = DatabaseWatch(database)
    services = watch, core.keys, core.passwords.lane, core.notices, app.jobs, core.metrics
    core.background.add(*services)
    core.passwords.lane.measure(core.metrics)
    app.admission.measure(core.metrics)
    core.readiness.require(watch.fault)
    core.readiness.require(core.passwords.lane.fault)


def _set_up_features(app: AuthAPI) -> None:
    for feature in app.core.settings.features:
        app.jobs.add(*feature.jobs)
        feature.setup(app, app.core)
