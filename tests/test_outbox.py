"""The outbox: a job follows its change, and is done at least once, by one process at a time."""

import json
import logging
import re
import subprocess
import sys
import threading

import pytest
from conftest import CHEAP, eventually, unmeasured
from conftest import running as serving
from relay import PAGES, SENDER, Script, mail_settings, running

from authapi.features.mail import Mails, TooManyMails
from authapi.mail.kinds import Letter, Mail
from authapi.outbox import Outbox
from authapi.outbox.sender import SenderPace

SOON = SenderPace(tick=0.001, pause=0, look_every=0.05, retry=0.01, keep=0.01, close_wait=0.05)
FILL = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)"
    " INSERT INTO outbox (channel, kind, address, data, language, created_at, expires_at, due_at)"
    " SELECT 'mail', 'mail_test', '', '{}', '', 0, 0, 99999999999 FROM n"
)


class Sender:
    """A process with an outbox, as far as a test can have several."""

    def __init__(self, app):
        self.app, self.core = app, app.core
        self.mails = self.core.of(Mails)
        self.told = []
        self.kind = Mail("mail_test", lifetime=86_400, prepare=self.prepare, values=("time",))
        self.mails.add(self.kind)
        self.fault = lambda _job: None

    def prepare(self, _core, job):
        self.told.append(job)
        self.fault(job)
        return None if job.data.get("void") else Letter(job.address, {"time": "now"})

    def write(self, address="user@example.org", **data):
        with self.core.database.transaction():
            return self.mails.write(self.kind, address=address, data=data)

    def send(self):
        return self.mails.sender.run_due()


@pytest.fixture(name="relay")
def _relay():
    with running(Script()) as relay:
        yield relay


@pytest.fixture(name="sender")
def _sender(make_app, relay):
    return Sender(make_app(**mail_settings(relay.url)))


@pytest.fixture(name="other")
def _other(make_app, relay, sender):
    """Return another process on the same database."""
    return Sender(make_app(**mail_settings(relay.url)))


def count(sender):
    return sender.core.of(Outbox).waiting("mail", 100)


def ids(relay):
    """Return the Message-ID of each message."""
    return [re.search(rb"Message-ID: (\S+)", message)[1] for message in relay.messages]


def test_a_change_that_is_undone(sender, relay):
    """A job that is written in a change which is undone is never done."""
    with pytest.raises(ZeroDivisionError), sender.core.database.transaction():
        sender.mails.write(sender.kind, address="user@example.org")
        raise ZeroDivisionError

    assert sender.send() == 0
    assert relay.messages == []


def test_one_of_two_processes(sender, other, relay):
    """While a process sends a mail, another one does not."""
    sender.write()
    sender.fault = lambda _job: other.core.database.is_local or other.send()
    found = []
    send = sender.mails.channel.send

    def send_slowly(*arguments):
        found.append(other.send())
        send(*arguments)

    sender.mails.channel.send = send_slowly
    assert sender.send() == 1

    assert found == [0]
    assert len(relay.messages) == 1


def test_a_process_that_dies(sender, other, relay, clock):
    """A mail of a process that died after it was sent is sent again, with the same Message-ID."""
    sender.write()
    send = sender.mails.channel.send

    def send_and_die(*arguments):
        send(*arguments)
        raise KeyboardInterrupt

    sender.mails.channel.send = send_and_die
    with pytest.raises(KeyboardInterrupt):
        sender.send()
    clock.move(119)
    assert other.send() == 0
    clock.move(1)
    assert other.send() == 1

    first, second = ids(relay)
    assert first == second
    assert count(other) == 0


def test_a_lease_that_ran_out(sender, other, relay, clock):
    """A process that comes back after its lease changes nothing of what another one did."""
    sender.write()
    outbox = sender.core.of(Outbox)
    with sender.core.database.transaction():
        (job,) = outbox.claim("mail", 20)
    clock.move(120)
    with other.core.database.transaction():
        (again,) = other.core.of(Outbox).claim("mail", 20)
    with sender.core.database.transaction():
        assert not outbox.die(job, "too late")
        assert not outbox.put_off(job, 5, "too late")
        assert not outbox.give_back(job)
        assert not outbox.done(job)

    assert (again.claims, again.failures) == (2, 0)
    assert count(sender) == 1


def test_each_mail_has_its_own_message_id(sender, relay, clock):
    """No two mails have one Message-ID, also when an id is given again after a restore."""
    sender.write()
    sender.send()
    sender.write("other@example.org")
    sender.send()

    assert len({*ids(relay)}) == 2


def test_a_mail_that_cannot_be_made(sender, relay, caplog):
    """A mail whose preparation fails is tried again later, and stops no other."""
    sender.write("bad@example.org")
    sender.write("good@example.org")

    def fault(job):
        if job.address.startswith("bad"):
            raise ZeroDivisionError

    sender.fault = fault
    assert sender.send() == 2

    assert len(relay.messages) == 1
    assert count(sender) == 1
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "the mail mail_test cannot be made: it is tried again"
    ]


def test_nothing_to_send(sender, relay):
    """A job that is of no use ends in silence: what a client typed may be nobody's."""
    sender.write(void=True)

    assert sender.send() == 1
    assert count(sender) == 0
    assert relay.messages == []


@pytest.mark.parametrize("seconds", [-3_600, -86_400 * 365])
def test_a_clock_that_is_set_back(sender, relay, clock, seconds):
    """A clock that was ahead delays a mail by two hours at most."""
    sender.write()
    clock.move(seconds)
    sender.send()
    clock.move(7_200)
    sender.send()

    assert len(relay.messages) == 1


@pytest.mark.sqlite("its rows are many")
def test_too_many_mails(sender):
    """While 10,000 mails wait no other is taken, but notices are."""
    sender.core.database.connection.execute(FILL)
    sender.write()
    with pytest.raises(TooManyMails):
        sender.write()

    notice = Mail("notice", 60, sender.prepare, ("time",), ("mail_test",), is_notice=True)
    with sender.core.database.transaction():
        assert sender.mails.write(notice)


def test_dead_mails_are_kept_for_a_week(sender, clock):
    """A dead mail is deleted after seven days."""
    sender.write()
    clock.move(86_401)
    sender.send()
    with sender.core.database.transaction():
        assert sender.core.of(Outbox).prune(100) == 0
    clock.move(7 * 86_400)
    sender.app.jobs.run_due()

    assert sender.core.of(Outbox).page("mail", 0, 9, only_dead=True) == []


def test_mail_that_is_off(sender, make_app, clock):
    """Without mail, a mail that waits is deleted a week after it expired, and not before."""
    sender.write()
    app = make_app(database_url=sender.core.settings.database_url)
    clock.move(8 * 86_400 - 1)
    app.jobs.run_due()
    assert count(sender) == 1

    clock.move(3_601)
    app.jobs.run_due()
    assert count(sender) == 0


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "authapi-outbox"]


def test_a_thread_sends_after_the_commit(sender, relay):
    """The first mail of a process starts the thread that sends, under any server."""
    sender.mails.sender.pace = SOON
    assert not threads()
    sender.write()

    eventually(lambda: relay.messages)
    assert len(threads()) == 1
    eventually(lambda: count(sender) == 0)
    sender.app.close()
    assert not threads()
    sender.mails.sender.wake()
    assert not threads()


def test_the_server_starts_the_thread(sender, other, relay):
    """Under our server, mails that another process left are sent without a request."""
    sender.mails.sender.pace = SOON
    other.write()
    with serving(sender.app):
        eventually(lambda: relay.messages)


def test_before_a_fork(sender, relay):
    """The thread ends before a fork, and a later mail starts another."""
    sender.mails.sender.pace = SOON
    for number in (1, 2):
        sender.write()
        eventually(lambda number=number: len(relay.messages) == number)
        sender.app.prepare_to_fork()
        assert not threads()


def test_a_stop_while_a_relay_is_silent(make_app, relay):
    """A stop waits a moment for a silent relay, then breaks off, and the mail is kept."""
    relay.answers["END"] = ...
    sender = Sender(make_app(**mail_settings(relay.url)))
    sender.mails.sender.pace = SOON
    sender.write()
    eventually(lambda: relay.messages)

    sender.mails.sender.close()
    eventually(lambda: not threads())
    assert count(sender) == 1


IMPORTS = """
import json, sys
from authapi import Settings, create_app
app = create_app(Settings(**json.loads(sys.argv[1])))
app.maintain()
heavy = {"smtplib", "authapi.mail.smtp", "authapi.mail.messages", "email.headerregistry"}
print(sorted(heavy & {*sys.modules}), "outbox" in str(__import__("threading").enumerate()))
app.close()
"""


@pytest.mark.sqlite("it is about imports")
@pytest.mark.parametrize(
    ("mail", "shown"),
    [({}, "[] False"), ({"mail_url": "console:"}, "['authapi.mail.messages'] True")],
)
def test_nothing_is_loaded_for_no_mail(tmp_path, mail, shown):
    """Without mail there is no thread, and smtplib is imported when the first mail is sent."""
    mail = {**mail, "mail_from": SENDER, "pages_url": PAGES} if mail else {}
    settings = {"database_url": f"sqlite:///{tmp_path}/a.db", **CHEAP, **mail}
    run = [sys.executable, "-c", IMPORTS, json.dumps(settings)]

    found = subprocess.run(run, capture_output=True, text=True, check=True, env=unmeasured())
    assert found.stdout.strip() == shown


def test_metrics(make_app, relay):
    """Metrics count the mails that were sent and that cannot be, and show how many wait."""
    settings = {"metrics_address": "127.0.0.1:0", **mail_settings(relay.url)}
    sender = Sender(make_app(**settings))
    counted = []
    sender.mails.sender.tell = counted.append
    sender.write()
    sender.send()
    relay.answers["RCPT"] = "550 No"
    sender.write()
    waiting = sender.core.metrics.families["authapi_mails_waiting"].shared[()]
    assert waiting() == 1
    sender.send()

    assert counted == ["sent", "failed"]
    assert waiting() == 0
