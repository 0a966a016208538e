"""The signing keys in the key file: list them, let a new one sign, and take an old one out.

Endpoints: none. Commands: `authapi key list`, `rotate`, `retire`. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from authapi.commands import YES, Argument, Call, Command, CommandError
from authapi.core import Core
from authapi.events import Event
from authapi.keys import Key, change_keys, key_path
from authapi.settings import DatabaseSettings, KeySettings
from authapi.times import timestamp

REQUIRES = ("sessions",)

FOREVER = 2**53  # seconds since the epoch
DAY = 86_400  # seconds


class KeyPrepared(Event):
    """The operator added a key that does not sign yet; `detail` is its kid."""

    __slots__ = ()


class KeyRotated(Event):
    """The operator let another key sign; `detail` is its kid."""

    __slots__ = ()


class KeyRetired(Event):
    """The operator took a key out of the file; `detail` is its kid."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Use:
    """A key, whether it `signs`, only `verifies` or is `prepared`, and what still needs it.

    `sessions` is how many live sessions have a token that it signed, at most, and `until` the
    second since the epoch in which the last of these tokens expires.
    """

    key: Key
    state: str
    sessions: int
    until: int | None


def uses(core: Core) -> Iterator[Use]:
    """Yield the keys of the service, oldest first.

    NOTE: no token is stored. A session was last given one when it was last renewed, and a key
    signed from its `iat` to that of the next one. The second of a change counts for both.
    """
    signers = [key for key in core.keys.all if key.signs]
    begins = [0, *(key.iat or 0 for key in signers[1:])]
    ends = [*((key.iat + 1 if key.iat else FOREVER) for key in signers[1:]), FOREVER]
    statements, now = core.database.statements("keys"), int(core.clock())
    for key in core.keys.all:
        if key.signs:
            place = signers.index(key)
            found = statements.signed(since=begins[place], until=ends[place], now=now)
            yield Use(key, "signs" if key is signers[-1] else "verifies", *found)
        else:
            yield Use(key, "prepared", 0, None)


def _list(call: Call) -> None:
    now = call.core.clock()
    call.console.rows(
        {
            "kid": use.key.kid,
            "state": use.state,
            "alg": use.key.alg,
            "since": timestamp(use.key.iat or None),
            "age_days": int(max(now - use.key.iat, 0)) // DAY if use.key.iat else None,
            "sessions": use.sessions,
            "needed_until": timestamp(use.until),
        }
        for use in uses(call.core)
    )


def _rotate(call: Call) -> None:
    core, prepare = call.core, call.arguments.prepare
    path = _file(call)
    prepared = [key for key in core.keys.all if not key.signs]
    if prepare and prepared:
        raise CommandError(
            f"The key {prepared[0].kid} is prepared already: copy {path} to every node, and run "
            "authapi key rotate.",
            "already_prepared",
        )
    if core.settings.of(DatabaseSettings).is_postgresql and not prepare and not prepared:
        call.console.confirm(
            "Other nodes refuse the tokens of a key that is not in their file: see --prepare. "
            "Let a new key sign now",
            "rotate",
            yes=call.arguments.yes,
        )
    change = partial(_prepared if prepare else _rotated, core.clock())
    with core.database.transaction():
        keys = change_keys(path, change)
        key = keys[0] if prepare else keys[-1]
        kind = KeyPrepared if prepare else KeyRotated
        core.events.emit(kind(None, call.operator, detail=key.kid))
    done = "verifies, and does not sign yet" if prepare else "signs from now on"
    call.console.show({"kid": key.kid, "file": str(path)}, f"The key {key.kid} in {path} {done}.")


def _prepared(now: float, keys: list[Key]) -> list[Key]:
    """Return the keys with a new one that does not sign."""
    return [msgspec.structs.replace(Key.new(now), key_ops=("verify",)), *keys]


def _rotated(now: float, keys: list[Key]) -> list[Key]:
    """Return the keys with another one that signs: the prepared one, or a new one."""
    found = next((key for key in keys if not key.signs), None)
    if found is None:
        return [*keys, Key.new(now)]
    signing = msgspec.structs.replace(found, key_ops=("sign", "verify"), iat=int(now))
    return [*(key for key in keys if key is not found), signing]


def _retire(call: Call) -> None:
    core, kid = call.core, call.arguments.kid
    path = _file(call)
    use = {use.key.kid: use for use in uses(core)}.get(kid)
    if use is None:
        raise _no_such_key(kid)
    if use.state == "signs":
        raise _signs(kid)
    ends = "No session needs it"
    if use.sessions:
        number = "one session ends" if use.sessions == 1 else f"{use.sessions} sessions end"
        ends = f"Up to {number} (the last would expire at {timestamp(use.until)})"
    call.console.confirm(f"{ends}. Retire the key {kid}", kid, yes=call.arguments.yes)
    with core.database.transaction():
        change_keys(path, lambda keys: _without(keys, kid))
        core.events.emit(KeyRetired(None, call.operator, detail=kid))
    call.console.show(
        {"kid": kid, "file": str(path), "sessions": use.sessions},
        f"The key {kid} is no longer in {path}. {ends}.",
    )


def _without(keys: list[Key], kid: str) -> list[Key]:
    """Return the keys without one. Raises CommandError: another process may have changed them."""
    rest = [key for key in keys if key.kid != kid]
    if len(rest) == len(keys):
        raise _no_such_key(kid)
    if keys[-1].kid == kid:
        raise _signs(kid)
    return rest


def _no_such_key(kid: str) -> CommandError:
    return CommandError(f"There is no key {kid!r}: see authapi key list.", "no_such_key")


def _signs(kid: str) -> CommandError:
    return CommandError(
        f"The key {kid} signs: let another one sign first, with authapi key rotate.", "key_signs"
    )


def _file(call: Call) -> Path:
    """Return the path of the key file. Raises CommandError where the key is a secret key."""
    path = key_path(call.core.settings)
    if path is None:
        name = "AUTHAPI_SECRET_KEY"
        if call.settings.of(KeySettings).secret_key_file:
            name += "_FILE"
        raise CommandError(
            f"The key is that of {name}, beside which there is no other: set another one and "
            "restart, which ends all sessions, or set AUTHAPI_KEY_FILE instead, whose keys can be "
            "rotated.",
            "secret_key",
        )
    return path


COMMANDS = (
    Command(
        "key list",
        description="List the signing keys, oldest first: which one signs, since when, and how "
        "many sessions have a token of each, at most.",
        run=_list,
    ),
    Command(
        "key rotate",
        description="Let a new key sign tokens, at once in all processes that use the key file. "
        "The older keys still verify. Nodes with a key file each need --prepare first.",
        run=_rotate,
        arguments=(
            Argument(
                "--prepare",
                "add a key that only verifies; the next key rotate lets it sign",
                action="store_true",
            ),
            YES,
        ),
    ),
    Command(
        "key retire",
        description="Take a key that no longer signs out of the key file. Tokens that it signed "
        "no longer count, those of sessions and of known browsers.",
        run=_retire,
        arguments=(Argument("kid", "the key's name", metavar="KID"), YES),
    ),
)
