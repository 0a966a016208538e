"""Mails, as an operator lists, retries, drops, tests and sends them.

Endpoints: none. Commands: authapi mail list, retry, drop, test, send. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

from authapi.commands import YES, Argument, Call, Command, CommandError, OneOf, natural, utf8
from authapi.commands.tables import Record
from authapi.core import Core
from authapi.errors import Unavailable
from authapi.events import Event
from authapi.features.mail import Mails
from authapi.mail.kinds import Letter, Mail
from authapi.outbox import Outbox, OutboxJob
from authapi.outbox.delivery import ChannelDown, Refused
from authapi.times import timestamp

REQUIRES = ("mail",)

COLUMNS = ("id", "kind", "user_id", "address", "created_at", "state", "failures", "error")
PAGE = 500  # rows


class MailRetried(Event):
    """An operator let a dead mail be tried again. The detail is its kind."""

    __slots__ = ()


class MailDropped(Event):
    """An operator deleted a mail that had not been sent. The detail is its kind."""

    __slots__ = ()


def _test_letter(core: Core, job: OutboxJob) -> Letter:
    return Letter(to=job.address, values={"time": datetime.fromtimestamp(core.clock(), UTC)})


TEST = Mail("mail_test", lifetime=3_600, prepare=_test_letter, values=("time",))


def _records(core: Core, *, only_dead: bool) -> Iterator[Record]:
    outbox, after = core.of(Outbox), 0
    while rows := outbox.page("mail", after, PAGE, only_dead=only_dead):
        for job_id, kind, user_id, address, created_at, due_at, failures, error in rows:
            after = job_id
            yield {
                "id": job_id,
                "kind": kind,
                "user_id": user_id,
                "address": address,
                "created_at": timestamp(created_at),
                "state": "dead" if due_at is None else "waiting",
                "due_at": timestamp(due_at),
                "failures": failures,
                "error": error,
            }


def _list(call: Call) -> None:
    given = call.arguments
    records = _records(call.core, only_dead=given.dead)
    call.console.rows(islice(records, given.limit), COLUMNS, "No mail waits.")


def _retry(call: Call) -> None:
    given, core = call.arguments, call.core
    every = (int(str(record["id"])) for record in _records(core, only_dead=True))
    for job_id in list(every) if given.all else given.ids:
        with core.database.transaction():
            found = core.of(Outbox).revive(job_id)
            if found is None and not given.all:
                raise CommandError(f"There is no dead mail {job_id}.", "no_such_mail")
            if found is not None:
                kind, user_id = found
                core.events.emit(MailRetried(user_id, call.operator, detail=kind))
        if found is not None:
            shown = f"Mail {job_id} ({kind}) is tried again."
            call.console.show({"id": job_id, "kind": kind, "retried": True}, shown)


def _drop(call: Call) -> None:
    given, core = call.arguments, call.core
    for job_id in given.ids:
        call.console.confirm(f"Delete mail {job_id} unsent", str(job_id), yes=given.yes)
    for job_id in given.ids:
        with core.database.transaction():
            found = core.of(Outbox).drop(job_id)
            if found is None:
                raise CommandError(f"There is no mail {job_id}.", "no_such_mail")
            kind, user_id = found
            core.events.emit(MailDropped(user_id, call.operator, detail=kind))
        shown = f"Deleted mail {job_id} ({kind})."
        call.console.show({"id": job_id, "kind": kind, "dropped": True}, shown)


def _test(call: Call) -> None:
    """Send a mail at once, past the outbox, and tell what the relay says."""
    mails, core, address = call.core.of(Mails), call.core, call.arguments.address
    mails.add(TEST)
    now = int(core.clock())
    job = OutboxJob(0, TEST.name, None, address, {}, "", now, now + TEST.lifetime)
    channel = mails.channel
    try:
        with call.console.progress("Sending") as tick:
            channel.open()
            tick()
            channel.send(job, _test_letter(core, job))
    except ChannelDown as error:
        raise CommandError(f"No mail can be sent: {error}.", "relay_failed") from error
    except Refused as refused:
        raise CommandError(f"The mail is refused: {refused.reason}.", "mail_refused") from refused
    finally:
        channel.close()
    call.console.show({"address": address, "sent": True}, f"The relay took a mail to {address!r}.")


def _send(call: Call) -> int | None:
    """Send what is due, in this process."""
    mails = call.core.of(Mails)
    try:
        with call.console.progress("Sending"):
            mails.sender.run_due()
    except Unavailable as error:
        raise CommandError(f"The database does not answer ({error.__cause__}).") from error
    counts, waiting = mails.sender.delivery.counts, call.core.of(Outbox).waiting("mail", 10_000)
    record = {"sent": counts.sent, "failed": counts.failed, "waiting": waiting}
    text = f"Sent {counts.sent}, failed {counts.failed}, and {waiting} wait."
    call.console.show(record, text)
    return None


IDS = Argument("ids", "the mails' numbers", metavar="ID", nargs="+", type=natural)

COMMANDS = (
    Command(
        "mail list",
        "List the mails that wait, and those that could not be sent, which are dead.",
        _list,
        (
            Argument("--dead", "dead ones alone", action="store_true"),
            Argument("--limit", "how many at most", metavar="N", type=natural),
        ),
    ),
    Command(
        "mail retry",
        "Let dead mails be tried again.",
        _retry,
        (
            OneOf(
                Argument("ids", "the mails' numbers", "ID", nargs="*", default=[], type=natural),
                Argument("--all", "all dead mails", action="store_true"),
                required=True,
            ),
        ),
    ),
    Command("mail drop", "Delete mails that were not sent.", _drop, (IDS, YES)),
    Command(
        "mail test",
        "Send a mail to an address at once, and tell what the relay says.",
        _test,
        (Argument("address", "the address", metavar="ADDRESS", type=utf8),),
    ),
    Command("mail send", "Send what is due in this process, such as from cron.", _send),
)
