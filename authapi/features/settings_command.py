"""The settings as the service would read them: where each comes from, and whether they are valid.

Endpoints: none. Command: `authapi settings`. Table: none.
"""

from __future__ import annotations

from authapi.commands import Argument, Call, Command, OneOf
from authapi.errors import StartError
from authapi.keys import with_secret_key
from authapi.settings import SettingError, variable
from authapi.settings.shown import as_toml, shown

LONGEST_SHOWN = 60  # characters of a value in the table


def _settings(call: Call) -> None:
    arguments = call.arguments
    if arguments.check:
        _check(call)
        call.console.show({"valid": True}, "The settings are valid.")
    elif arguments.toml:
        call.console.write(as_toml(call.settings))
    else:
        _show(call)


def _check(call: Call) -> None:
    """Raise SettingError, for the secret key file too."""
    try:
        with_secret_key(call.settings)
    except StartError as error:
        raise SettingError(str(error)) from error


def _show(call: Call) -> None:
    table = call.console.table(("name", "value", "from"))
    for each in shown(call.settings):
        value = each.value
        if isinstance(value, str) and len(value) > LONGEST_SHOWN and not call.console.as_json:
            value = f"{value[:LONGEST_SHOWN]}…"
        row = {"name": each.name, "value": value, "from": each.origin}
        table.add(row | {"variable": variable(each.name)})
    table.flush()


COMMANDS = (
    Command(
        "settings",
        description="Show each setting, its value and where it comes from: an option, a variable "
        "of the environment, the settings file, or the default. Secrets are shown as ***.",
        run=_settings,
        arguments=(
            OneOf(
                Argument(
                    "--check",
                    "show nothing: exit with status 2 where the settings are not valid",
                    action="store_true",
                ),
                Argument(
                    "--toml", "write a settings file of them, with comments", action="store_true"
                ),
            ),
        ),
        needs_service=False,
    ),
)
