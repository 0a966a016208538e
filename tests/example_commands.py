"""Commands of the tests' own, which need no service. Run this file to run one of them."""

import itertools
import sys

from authapi.commands import YES, Argument, Command, CommandError, OneOf
from authapi.commands.cli import main
from authapi.times import timestamp

HOSTILE = "a\x1b[2Jb\u202ec\x9bd\U000e0041"
THINGS = (
    {"id": 1, "name": "anna", "made_at": timestamp(0), "on": True, "notes": None},
    {"id": 22, "name": "Zoë ☕ 東京", "made_at": timestamp(1), "on": False, "notes": ["a", "b"]},
    {"id": 3, "name": HOSTILE, "made_at": timestamp(2), "on": True, "notes": ""},
)


def show(call):
    call.console.show(THINGS[call.arguments.number])


def list_(call):
    count = call.arguments.count
    things = itertools.cycle(THINGS) if count < 0 else THINGS[:count]
    call.console.rows(things, call.arguments.columns or (), "There is nothing.")


def delete(call):
    call.console.confirm("Delete anna", "anna", yes=call.arguments.yes)
    call.console.show({"deleted": "anna"}, "Deleted anna.")


def password(call):
    given = call.console.password(from_stdin=call.arguments.password_stdin)
    call.console.show({"password": given}, f"The password is {given!r}.")


def fail(call):
    call.console.say("About to fail.")
    raise CommandError("It failed, by \x1b[31mplan.", "planned")


def check(_call):
    return 1


def command(verb, run, *arguments):
    return Command(f"example {verb}", f"To {verb}.", run, arguments, needs_service=False)


COMMANDS = (
    command("show", show, Argument("number", "its number", type=int)),
    command(
        "list",
        list_,
        Argument("count", "how many; -1: no end", type=int),
        Argument("--columns", "the columns", nargs="+"),
    ),
    command("delete", delete, YES),
    command(
        "password",
        password,
        OneOf(
            Argument("--password-stdin", "read it", action="store_true"),
            Argument("--no-password", "none", action="store_true"),
        ),
    ),
    command("fail", fail),
    command("check", check),
)
LISTED = {each.name: (sys.modules[__name__], each.description) for each in COMMANDS}

if __name__ == "__main__":
    sys.exit(main(listed=LISTED))
