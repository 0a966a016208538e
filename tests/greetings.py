"""A feature of the tests' own, with one of each kind of thing that a feature may declare.

Nothing in the library knows it. Endpoint: POST /greetings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import msgspec

from authapi.answers import Answer
from authapi.commands import Argument, Command, CommandError
from authapi.cookies import Cookie
from authapi.errors import Failure
from authapi.events import Event
from authapi.features.limits import Limits
from authapi.features.users import UserRepository
from authapi.jobs import Job
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.principal import principal_of
from authapi.settings import SettingError, Settings, SettingsGroup, setting

REQUIRES = ("limits", "users")
ENABLED_BY = "greeting"


@dataclass(frozen=True, kw_only=True)
class GreetingSettings(SettingsGroup):
    """What greetings say, and how often."""

    greeting: str = setting("", "The word of a greeting, such as Hello. Default: none.")
    greeting_limit: str = setting("2/hour", "Greetings of one user.", rate=True)

    def completed(self, settings: Settings) -> Self:
        """Return the group. Raises SettingError for a greeting that is no word."""
        if not self.greeting.isalpha():
            raise SettingError("AUTHAPI_GREETING must be one word: leave out the rest.")
        return super().completed(settings)


class GreetingRefused(Failure):
    """Raised when somebody greets themselves."""

    status, error, message = 409, "greeting_refused", "You cannot greet yourself."


@dataclass(frozen=True, slots=True)
class Greeted(Event):
    """A user greeted another one."""


class GreetingBody(msgspec.Struct):
    """The user to greet."""

    username: str


class GuestClaims(msgspec.Struct, frozen=True):
    """The payload of a token that says whom a browser has greeted."""

    sub: str
    exp: int


GUEST = Cookie("guest", max_age=3_600)


class GreetingAnswer(Answer, kw_only=True):
    """An answer that says whom the browser has greeted before."""

    before: list[str]


class Greetings:
    """Remembers the names that were greeted within the hour."""

    def __init__(self, core):
        self.greeted = []
        self._clock = core.clock
        self._tokens = core.tokens.signed("guest+jwt", GuestClaims)
        self._cookie = core.cookies.add(GUEST)

    def before(self, req):
        """Return the names that a browser has greeted, by its cookie. Raises InvalidToken."""
        now = self._clock()
        return [self._tokens.read(token, now).sub for token in self._cookie.values(req)]

    def remember(self, resp, username):
        """Set the cookie that remembers who was greeted."""
        self.greeted.append(username)
        claims = GuestClaims(sub=username, exp=int(self._clock()) + GUEST.max_age)
        self._cookie.set(resp, self._tokens.issue(claims))


class GreetingsResource:
    """Greets users."""

    def __init__(self, core):
        self._core = core
        self._limits = core.of(Limits)
        settings = core.settings.of(GreetingSettings)
        self._word = settings.greeting
        self._limit = self._limits.declare("greeting", settings.greeting_limit)

    @operation(
        "Greet a user.", body=GreetingBody, answers=GreetingAnswer, raises=(GreetingRefused,)
    )
    def on_post(self, req, resp, body):
        core, user, caller = self._core, principal_of(req).user, caller_of(req)
        before = core.of(Greetings).before(req)
        if body.username == user.username:
            raise GreetingRefused
        with core.database.transaction():
            self._limits.take(self._limit.of(str(user.id)))
            core.events.emit(Greeted(user.id, caller, detail=self._word))
        core.of(Greetings).remember(resp, body.username)
        message = f"{self._word}, {body.username}."
        core.wire.answer(resp, GreetingAnswer(message=message, before=before))


def clear_greeted(core):
    """Forget who was greeted: a step of a job, which has nothing more to do."""
    core.of(Greetings).greeted.clear()
    return False


def greet(call):
    """Show a greeting. Raises CommandError where there is no such user."""
    name = call.arguments.name
    credential = call.core.of(UserRepository).by_identifier(name)
    if credential is None:
        raise CommandError(f"There is no user {name!r}.", "no_such_user")
    greeting = f"{call.settings.of(GreetingSettings).greeting}, {credential.user.username}."
    text = greeting.upper() if call.arguments.loud else greeting
    call.console.show({"greeting": text}, text)


COMMANDS = (
    Command(
        "greet",
        "Greet a user of the service.",
        greet,
        (
            Argument("name", "username or email"),
            Argument("--loud", "in capitals", action="store_true"),
        ),
    ),
)
JOBS = (Job("greetings", 3_600, clear_greeted),)


def setup(app, core):
    """Add the route."""
    app.add_route("/greetings", GreetingsResource(core))
