"""The hash of a password, and the cost of one on this machine.

Endpoints: none. Command: authapi hash. Table: none of its own.
"""

from __future__ import annotations

import time
from functools import cached_property

from authapi.commands import PASSWORD_STDIN, Argument, Call, Command, CommandError, natural
from authapi.passwords import Passwords
from authapi.settings import PasswordSettings, Settings, variable

REQUIRES: tuple[str, ...] = ()

# The costs that OWASP recommends (Password Storage), the strongest first: KiB and passes.
OWASP = ((47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5))
MOST_PASSES = 1_000
COST = ("argon2_memory_kib", "argon2_time_cost", "argon2_lanes")


class Calibration:
    """The password hashes of some settings, and the time that one takes on this machine."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings."""
        self.settings = settings
        self._passwords = Passwords(settings)

    def hash(self, password: str) -> str:
        """Return the hash of a password."""
        return self._passwords.hash(password)

    @cached_property
    def milliseconds(self) -> float:
        """Return the time of the quickest of three hashes."""
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            self.hash("a password to measure with")
            times.append(time.perf_counter() - begun)
        return min(times) * 1_000

    def with_cost(self, memory_kib: int, passes: int) -> Calibration:
        """Return the hashes of another cost."""
        cost = {"argon2_memory_kib": memory_kib, "argon2_time_cost": passes}
        return Calibration(self.settings.replace(**cost))


def calibrated(settings: Settings, target: int) -> Calibration:
    """Return the hashes of the highest cost that takes so many milliseconds at most.

    It has the most memory that OWASP names and as many passes as fit. Where one pass takes longer,
    it is another cost that OWASP recommends. Raises CommandError where none is quick enough.
    """
    strongest, *others = (Calibration(settings).with_cost(*cost) for cost in OWASP)
    passes = min(MOST_PASSES, int(target / strongest.milliseconds))
    if passes:
        return strongest.with_cost(OWASP[0][0], passes)
    for each in others:
        if each.milliseconds <= target:
            return each
    least = min(each.milliseconds for each in others)
    raise CommandError(
        f"The least cost that OWASP recommends takes {least:.0f} ms here: give a higher number.",
        "too_slow",
    )


def _hash(call: Call) -> None:
    target = call.arguments.target_ms
    hashes = Calibration(call.settings) if target is None else calibrated(call.settings, target)
    password = call.console.password(from_stdin=call.arguments.password_stdin)
    record: dict[str, object] = {"hash": hashes.hash(password)}
    if target is not None:
        rules = hashes.settings.of(PasswordSettings)
        cost = {name: getattr(rules, name) for name in COST}
        record |= {**cost, "milliseconds": round(hashes.milliseconds)}
        lines = [f"{variable(name)}={value}" for name, value in cost.items()]
        call.console.say(
            f"A hash takes {hashes.milliseconds:.0f} ms here with these settings:\n"
            + "\n".join(lines)
        )
    call.console.show(record, str(record["hash"]))


COMMANDS = (
    Command(
        "hash",
        "Write the hash of a password, as user add --hash-stdin takes it. The password is asked "
        "for, or read from standard input. It costs what the settings say, or, with --target-ms, "
        "as much as this machine does in that time; the settings for that are shown too.",
        _hash,
        (
            PASSWORD_STDIN,
            Argument("--target-ms", "the time that a hash may take", metavar="MS", type=natural),
        ),
        needs_service=False,
    ),
)
