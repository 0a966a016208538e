"""SMTP: mails reach a relay over a verified connection, and its faults lose none."""

import logging
import ssl
import threading
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path

import pytest
from conftest import eventually
from relay import ANSWERS, Certificate, Relay, Script, mail_settings, running

from authapi.features.mail import Mails
from authapi.mail import answers, smtp
from authapi.mail.kinds import Letter, Mail

CERTIFICATE = Path(__file__).parent / "data" / "relay.pem"  # of localhost, with its key

pytest_plugins = ("relay_fixtures",)

NOTE = Mail(
    "mail_test",
    lifetime=86_400,
    prepare=lambda _, job: Letter(job.address, {"time": job.data["time"]}),
    values=("time",),
)
SECRET = "pässword: ß"  # the relay's password
QUOTED = "p%C3%A4ssword%3A%20%C3%9F"


class Service:
    """A service with a relay, and a kind of mail."""

    def __init__(self, client, clock):
        self.client, self.clock = client, clock
        self.core = client.app.core
        self.mails = self.core.of(Mails)
        self.mails.add(NOTE)

    def write(self, address="user@example.org", time="now"):
        with self.core.database.transaction():
            return self.mails.write(NOTE, address=address, data={"time": time})

    def send(self):
        return self.mails.sender.run_due()

    def later(self, seconds):
        self.clock.move(seconds)
        return self.send()

    @property
    def rows(self):
        columns = "due_at IS NULL, claims, failures, error"
        return self.client.query(f"SELECT {columns} FROM outbox ORDER BY id")


@pytest.fixture(name="serve")
def _serve(make_client, clock, caplog):
    caplog.set_level(logging.INFO)
    return lambda url, **settings: Service(make_client(**mail_settings(url, **settings)), clock)


@pytest.fixture(name="in_haste")
def _in_haste(monkeypatch):
    """Return a context in which an answer is awaited for a moment, and not for ten seconds."""

    @contextmanager
    def in_haste(accept=0.05):
        with monkeypatch.context() as patch:
            patch.setattr(smtp, "TIMEOUT", 0.05)
            patch.setattr(smtp, "ACCEPT_TIMEOUT", accept)
            patch.setattr(answers, "TIMEOUT", 0.05)
            yield

    return in_haste


def lines(caplog):
    return [record.message for record in caplog.records if record.name == "authapi.outbox"]


def test_a_mail(serve, relay):
    """A mail has the headers of an automatic one, two parts, and the envelope of its addresses."""
    service = serve(relay.url, mail_reply_to="help@example.com")
    service.write()
    assert service.send() == 1

    (message,), (envelope,) = relay.messages, relay.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("noreply@example.com", ["user@example.org"])
    assert message.get_all("To") == ["user@example.org"]
    assert message["Reply-To"] == "help@example.com"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime.timestamp() == 1_660_645_289
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "text/html"]
    assert service.rows == []


def test_one_connection(serve):
    """Mails that are due together go over one connection, which is closed in the end."""
    with running(Script()) as relay:
        service = serve(relay.url)
        for number in range(25):
            service.write(f"user{number}@example.org")
        assert service.send() == 25
        service.client.app.close()

        assert relay.commands.count("EHLO") == 1
        assert len(relay.messages) == 25
        assert relay.commands[-1] == "QUIT"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_starttls_and_a_password(serve, certificate, mechanism):
    """With STARTTLS, user and password are sent in UTF-8, by either mechanism."""
    others = {"PLAIN", "LOGIN"} - {mechanism}
    options = {"tls_context": certificate.context, "require_starttls": True, "auth_required": True}
    with running(Relay(**options, auth_exclude_mechanism=others)) as relay:
        url = f"smtp://j%C3%BCrgen:{QUOTED}@localhost:{relay.port}"
        service = serve(url, mail_ca_file=str(certificate.file))
        service.write()
        assert service.send() == 1

        assert relay.logins == [(mechanism, "jürgen", SECRET)]
        assert len(relay.messages) == 1


def test_tls_from_the_first_byte(serve, certificate):
    """With smtps, everything is sent inside TLS, and the password may be a setting of its own."""
    auth = "250-relay\r\n250 AUTH PLAIN"
    with running(Script(certificate.context, at_once=True, EHLO=auth)) as relay:
        url = f"smtps://user@localhost:{relay.port}"
        service = serve(url, mail_password=SECRET, mail_ca_file=str(certificate.file))
        service.write()
        service.send()

        assert len(relay.messages) == 1


OFFER = "250-relay\r\n250-AUTH PLAIN\r\n250 STARTTLS"


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("fault", ["wrong host", "self-signed", "expired"])
def test_a_bad_certificate(serve, tmp_path, caplog, scheme, fault):
    """No user, password or mail is sent to a relay before its certificate is good."""
    names = "DNS:other.example" if fault == "wrong host" else "DNS:localhost"
    bad = Certificate(tmp_path / "bad", names, expired=fault == "expired")
    good = Certificate(tmp_path / "good")
    trusted = [good] if fault == "self-signed" else [good, bad]
    (tmp_path / "trusted.pem").write_text("".join(each.file.read_text() for each in trusted))
    with running(Script(bad.context, at_once=scheme == "smtps", EHLO=OFFER)) as relay:
        url = f"{scheme}://user:{QUOTED}@localhost:{relay.port}"
        service = serve(url, mail_ca_file=f"{tmp_path}/trusted.pem")
        service.write()
        assert [service.send(), service.later(400)] == [0, 0]

        assert [*dict.fromkeys(relay.commands)] == (
            ["EHLO", "STARTTLS"] if scheme == "smtp" else []
        )
        assert relay.messages == []
        assert service.rows == [(0, 0, 0, "")]
        relay.context = good.context
        assert service.later(400) == 1
    first, last = lines(caplog)
    assert first.startswith(f"mail waits: {scheme}://localhost:{relay.port}: [SSL: CERTIFICATE")
    assert last == "mail goes on"


def test_an_unknown_certificate(serve, caplog):
    """A relay is sent nothing whose certificate nobody vouches for, and all once it is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with running(Script(context, at_once=True)) as relay:
        url = f"smtps://localhost:{relay.port}"
        service = serve(url)
        service.write()
        service.send()
        assert (relay.commands, relay.messages) == ([], [])
        assert "CERTIFICATE_VERIFY_FAILED" in lines(caplog)[0]

        trusting = serve(url, mail_ca_file=str(CERTIFICATE))
        assert trusting.send() == 1
        assert len(relay.messages) == 1


@pytest.mark.parametrize("offer", ["250 relay", "250-relay\r\n250 AUTH PLAIN"])
def test_no_starttls(serve, offer, caplog):
    """Nothing is sent to a relay that does not offer STARTTLS."""
    with running(Script(EHLO=offer)) as relay:
        service = serve(f"smtp://user:{QUOTED}@localhost:{relay.port}")
        service.write()
        service.send()

        assert relay.commands == ["EHLO"]
    assert "STARTTLS extension not supported" in lines(caplog)[0]


def test_answers_before_tls(serve, certificate, caplog):
    """What somebody on the way puts behind the answer to STARTTLS is no answer inside TLS."""
    put = b"220 Go on\r\n250-relay\r\n250 AUTH LOGIN\r\n"
    with running(Script(certificate.context, EHLO=OFFER, STARTTLS=put)) as relay:
        url = f"smtp://user:{QUOTED}@localhost:{relay.port}"
        service = serve(url, mail_ca_file=str(certificate.file))
        service.write()
        service.send()

        assert "AUTH" not in relay.commands
    assert lines(caplog)
    assert service.rows == [(0, 0, 0, "")]


@pytest.mark.parametrize(
    "fault", [*product(["STARTTLS", "AUTH"], ["454 Later", "554 No", None, ...])], ids=str
)
def test_a_fault_before_the_mail(serve, certificate, in_haste, fault, caplog):
    """While STARTTLS or the login fails no mail is sent or lost, and the log has two lines."""
    command, answer = fault
    with running(Script(certificate.context, EHLO=OFFER, **{command: answer})) as relay:
        url = f"smtp://user:{QUOTED}@localhost:{relay.port}"
        service = serve(url, mail_ca_file=str(certificate.file))
        service.write()
        with in_haste() if answer is ... else nullcontext():
            assert [service.send(), service.later(400)] == [0, 0]
        assert service.rows == [(0, 0, 0, "")]
        assert {*relay.commands} - {"QUIT"} <= {"EHLO", "STARTTLS", command}
        relay.answers |= {"STARTTLS": ANSWERS["STARTTLS"], "AUTH": ANSWERS["AUTH"]}
        assert service.later(400) == 1

        assert len(relay.messages) == 1
    assert [line.startswith("mail waits: smtp://") for line in lines(caplog)] == [True, False]
    assert lines(caplog)[1] == "mail goes on"


RELAY_FAULTS = [
    {"BANNER": "554 No"},
    {"BANNER": "421 Busy"},
    {"BANNER": None},
    {"BANNER": ...},
    {"BANNER": b"x" * 10_000_000},
    {"BANNER": b"220-more\r\n" * 100_000},
    {"BANNER": b"not SMTP\r\n"},
    {"EHLO": "421 Busy"},
    {"EHLO": "550 No"},
    {"EHLO": None},
    {"EHLO": ...},
    {"MAIL": "530 Authenticate first"},
    {"MAIL": "451 Later"},
    {"MAIL": "550 Not for you"},
    {"MAIL": None},
    {"MAIL": ...},
    {"RCPT": "421 Busy"},
    {"RCPT": "530 Authenticate first"},
    {"RCPT": None},
    {"RCPT": ...},
    {"DATA": "421 Busy"},
    {"DATA": None},
    {"DATA": ...},
    {"END": None},
    {"END": "421 Busy"},
    {"END": ...},
    {"END": b"250-more\r\n" * 100_000},
]


@pytest.mark.parametrize("fault", RELAY_FAULTS, ids=lambda each: str(each)[:30])
def test_a_fault_of_the_relay(serve, in_haste, fault, caplog):
    """While the relay fails no mail is lost or counted as failed, and the log has two lines."""
    with running(Script(**fault)) as relay:
        service = serve(relay.url)
        ids = [service.write(), service.write("other@example.org")]
        with in_haste():
            assert [service.later(400) for _ in range(3)] == [0] * 3
        assert [(dead, failures) for dead, _, failures, _ in service.rows] == [(0, 0)] * len(ids)
        relay.answers = ANSWERS
        relay.messages.clear()
        assert service.later(400) == 2

        assert len(relay.messages) >= 2
    assert service.rows == []
    first, last = lines(caplog)
    assert first.startswith(f"mail waits: smtp+plain://127.0.0.1:{relay.port}: ")
    assert last == "mail goes on"


def test_only_a_message_may_take_long(serve, in_haste):
    """Only the answer to a message is awaited for longer, so that a claim lasts."""
    with running(Script()) as relay:
        service = serve(relay.url)
        service.write()
        with in_haste(accept=-1):
            service.send()

        eventually(lambda: relay.messages)
    assert service.rows == [(0, 1, 0, "")]


def test_no_relay(serve, caplog):
    """Nothing is lost while nobody listens at the relay's address."""
    with running(Script()) as relay:
        port = relay.port
    service = serve(f"smtp+plain://127.0.0.1:{port}")
    service.write()

    assert [service.later(seconds) for seconds in (0, 5, 10, 20, 3_600)] == [0] * 5
    assert len(lines(caplog)) == 1
    assert service.rows == [(0, 0, 0, "")]


def test_a_wrong_password(serve, certificate, caplog):
    """A wrong password kills no mail, and the log shows neither it nor the relay's words."""
    refusal = "535 5.7.8 AHVzZXIAc2VjcmV0 is wrong"
    options = {"EHLO": "250-relay\r\n250 AUTH PLAIN", "AUTH": refusal}
    with running(Script(certificate.context, at_once=True, **options)) as relay:
        url = f"smtps://user:{QUOTED}@localhost:{relay.port}"
        service = serve(url, mail_ca_file=str(certificate.file))
        service.write()
        service.send()
    assert service.rows == [(0, 0, 0, "")]
    assert lines(caplog)[0].endswith(
        "it refuses the user and the password (535); it is tried again"
    )


@pytest.mark.parametrize(
    "fault", [{"RCPT": "550 No user@example.org here"}, {"DATA": "554 Spam"}, {"END": "554 Spam"}]
)
def test_a_mail_that_is_refused(serve, fault):
    """A mail that the relay refuses for good is dead, with its words but no address; others go."""
    with running(Script(**fault)) as relay:
        service = serve(relay.url)
        service.write()
        assert service.send() == 1
        relay.answers = ANSWERS
        service.write("other@example.org")
        assert service.send() == 1

    ((dead, _, failures, error),) = service.rows
    assert (dead, failures) == (1, 1)
    assert error in {"550 No … here", "554 Spam"}
    assert service.client.events("event", "detail") == [("mail_failed", "mail_test")]


@pytest.mark.parametrize("refusal", [{"RCPT": "550 No"}, {"END": "554 Spam"}])
def test_a_relay_that_disconnects_after_a_refusal(serve, refusal, caplog):
    """A mail that is refused is dead, also where the relay then disconnects; others are sent."""
    with running(Script(**refusal, RSET=None)) as relay:
        service = serve(relay.url)
        service.write()
        service.write("other@example.org")
        assert service.send() == 3

        assert relay.commands.count("EHLO") == 2
    assert [(dead, failures) for dead, _, failures, _ in service.rows] == [(1, 1)] * 2
    assert lines(caplog) == []


@pytest.mark.parametrize("fault", [{"RCPT": "450 Later"}, {"DATA": "451 Later"}, {"END": "451 No"}])
def test_a_mail_that_is_put_off(serve, fault):
    """A mail that the relay refuses for now is tried again, later each time."""
    with running(Script(**fault)) as relay:
        service = serve(relay.url)
        service.write()
        waits = [(0, 1), (3, 0), (4, 1), (23, 0), (14, 1), (95, 0), (50, 1)]
        assert [service.later(seconds) for seconds, _ in waits] == [tried for _, tried in waits]
        relay.answers = ANSWERS
        assert service.later(720) == 1

        assert len(relay.messages) >= 1
    assert service.rows == []


def test_a_mail_that_is_put_off_too_long(serve):
    """A mail that is of no use any more is dead, and is not sent."""
    with running(Script(RCPT="450 Later")) as relay:
        service = serve(relay.url)
        service.write()
        service.send()
        relay.answers = ANSWERS
        service.later(86_400)

        assert relay.messages == []
    assert service.rows == [(1, 2, 2, "not sent in time: 450 Later")]


def test_addresses_beyond_ascii(serve, relay):
    """An address beyond ASCII goes to a relay that takes it, and is dead at any other."""
    service = serve(relay.url)
    service.write("jürgen@example.org")
    service.send()
    assert relay.envelopes[0].rcpt_tos == ["jürgen@example.org"]
    assert relay.messages[0]["To"] == "jürgen@example.org"

    with running(Script(EHLO="250 relay")) as other:
        service = serve(other.url)
        service.write("jürgen@example.org")
        service.send()
        assert "MAIL" not in other.commands
    assert service.rows[0][0] == 1


@pytest.mark.parametrize(
    "address",
    [
        "a@b.c>\r\nRCPT TO:<evil@example.com",
        "a@b.c\nBcc: evil@example.com",
        "a@b.c, evil@example.com",
        "a@b.c> SIZE=1",
        "a b@c.d",
        "<a@b.c>",
        '"a"@b.c',
        "a@b.c\0",
        "@b.c",
        "a",
        "",
    ],
)
def test_no_injection(serve, address):
    """An address that is more than one address is sent to nobody."""
    with running(Script()) as relay:
        service = serve(relay.url)
        service.write(address.replace("\0", "\x7f"))
        service.send()

        assert b"evil" not in relay.received
        assert relay.messages == []
    assert [row[2] for row in service.rows] == [1]


def test_a_stop_in_the_midst_of_a_mail(serve):
    """A stop breaks off a mail that the relay does not answer, and the mail is not lost."""
    with running(Script(END=...)) as relay:
        service = serve(relay.url)
        service.write()
        thread = threading.Thread(target=service.send)
        thread.start()
        while not relay.messages:
            pass
        service.mails.channel.abort()
        thread.join()

    assert service.rows == [(0, 1, 0, "")]
