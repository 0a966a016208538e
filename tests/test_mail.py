"""Mail: what features write is sent through a relay, once the change is kept."""

import email.policy
import re
from datetime import UTC, datetime
from email import message_from_bytes
from email.header import decode_header, make_header
from html import unescape
from string import Template

import pytest
from relay import mail_settings

from authapi import Settings, StartError
from authapi.features.mail import Mails
from authapi.mail.channel import Sender
from authapi.mail.composing import compose
from authapi.mail.html import html_of
from authapi.mail.kinds import Letter, Mail
from authapi.mail.messages import OWN, Templates
from authapi.settings import SettingError
from authapi.settings.shown import shown

TEST = Mail(
    "mail_test",
    lifetime=3_600,
    prepare=lambda _, job: Letter(job.address, {"time": datetime(2022, 8, 16, 10, 21, tzinfo=UTC)}),
    values=("time",),
)


@pytest.fixture(name="folder")
def _folder(tmp_path):
    folder = tmp_path / "mails"
    folder.mkdir()
    return folder


@pytest.fixture(name="client")
def _client(make_client, folder):
    return make_client(**mail_settings(f"file://{folder}"))


def messages(folder, policy=email.policy.default):
    """Return the messages in a directory, parsed."""
    return [
        message_from_bytes(path.read_bytes(), policy=policy)
        for path in sorted(folder.glob("*.eml"))
    ]


def send(client, language=""):
    """Write a mail, and send it."""
    core, mails = client.app.core, client.app.core.of(Mails)
    mails.add(TEST)
    with core.database.transaction():
        mails.write(TEST, address="user@example.com", language=language)
    assert mails.sender.run_due() == 1


def test_a_mail(client, folder):
    """A mail that is written in a transaction is sent after it, and its row is gone."""
    core = client.app.core
    mails = core.of(Mails)
    mails.add(TEST)
    with core.database.transaction():
        mails.write(TEST, address="user@example.com", language="de")

    assert mails.sender.run_due() == 1

    (message,) = messages(folder)
    assert message["To"] == "user@example.com"
    assert message["From"] == "Example <noreply@example.com>"
    assert message["Subject"] == "Test von 127.0.0.1"
    assert "16. August 2022, 10:21 UTC" in message.get_body(("plain",)).get_content()
    assert client.query("SELECT count(*) FROM outbox") == [(0,)]


# Settings


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"pages_url": ""}, "set AUTHAPI_PAGES_URL"),
        ({"pages_url": "http://app.example.com"}, "AUTHAPI_PAGES_URL must be an https:// URL"),
        ({"pages_url": "https://app.example.com/?a"}, "AUTHAPI_PAGES_URL must be http"),
        ({"pages_url": "javascript:alert(1)"}, "AUTHAPI_PAGES_URL must be http"),
        ({"mail_from": ""}, "set AUTHAPI_MAIL_FROM"),
        ({"mail_from": "nobody"}, "AUTHAPI_MAIL_FROM must be an address"),
        ({"mail_from": "A <a@b.c>\r\nBcc: <d@e.f>"}, "AUTHAPI_MAIL_FROM must be an address"),
        ({"mail_reply_to": "a@b.c, d@e.f"}, "AUTHAPI_MAIL_REPLY_TO must be an address"),
        ({"mail_templates": "/nowhere"}, "AUTHAPI_MAIL_TEMPLATES must be a directory"),
        ({"mail_ca_file": "/nowhere"}, "AUTHAPI_MAIL_CA_FILE must be a file"),
        ({"mail_language": "xx"}, "AUTHAPI_MAIL_LANGUAGE must be one of de, en"),
        ({"mail_url": "http://host"}, "AUTHAPI_MAIL_URL must be smtps://"),
        ({"mail_url": "smtp://host:0x1"}, "AUTHAPI_MAIL_URL must be smtp://"),
        ({"mail_url": "smtp://user:p@ss@host/x"}, "AUTHAPI_MAIL_URL must be smtp://"),
        ({"mail_url": "smtp://user@host"}, "both a user and a password"),
        ({"mail_url": "smtp://:s3cret@host"}, "both a user and a password"),
        ({"mail_url": "smtps://u:p@host", "mail_password": "q"}, "a URL without a password"),
        ({"mail_url": "smtp+plain://relay.example"}, "smtp+plain:// is for this machine"),
        ({"mail_url": "smtp+plain://u:p@127.0.0.1"}, "smtp+plain:// is for this machine"),
        ({"mail_url": "file:///nowhere"}, "which is no directory"),
        ({"mail_url": "console:", "public_url": "https://a.example"}, "AUTHAPI_MAIL_URL=console:"),
        ({"app_name": "A\nB"}, "AUTHAPI_APP_NAME must be"),
    ],
)
def test_what_makes_no_sense(make_app, folder, change, says):
    """A bad setting stops the start with a sentence that names it, and shows no password."""
    with pytest.raises((StartError, SettingError), match=re.escape(says)) as refusal:
        make_app(**mail_settings(f"file://{folder}", **change))

    assert "s3cret" not in str(refusal.value)
    assert "p@ss" not in str(refusal.value)


def test_the_password_is_not_shown(make_app):
    """Neither the settings' text nor `authapi settings` shows the relay's password."""
    settings = Settings(**mail_settings("smtp://user:s3cret@relay.example"))

    assert "s3cret" not in repr(settings)
    assert {each.name: each.value for each in shown(settings)}["mail_url"] == (
        "smtp://user:***@relay.example"
    )


@pytest.mark.parametrize(
    ("public_url", "sender", "greeting"),
    [
        ("https://auth.example.com", "noreply@auth.example.com", "auth.example.com"),
        ("https://[2001:db8::1]", "", "[IPv6:2001:db8::1]"),
        ("http://127.0.0.1:3001", "", "[127.0.0.1]"),
    ],
)
def test_names_of_the_service(make_app, folder, public_url, sender, greeting):
    """The sender and the name by which a relay is greeted follow from the public URL."""
    own = {} if sender else {"mail_from": "a@example.com"}
    change = {"public_url": public_url, "mail_from": sender and "", **own}
    app = make_app(**mail_settings(f"file://{folder}", **change))

    assert app.core.settings.mail_from == (sender or "a@example.com")
    assert app.core.of(Mails).channel._sender.hello == greeting


# Texts


def test_console(make_client, capsys):
    """With console: the text of a mail is written to standard error."""
    send(make_client(**mail_settings("console:")))

    assert "Mail to user@example.com\nSubject: Test from 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("de", "de"),
        ("de-AT, en;q=0.9", "de"),
        ("en;q=0.5, de;q=0.7", "de"),
        ("fr, de;q=0.1", "de"),
        ("fr", ""),
        ("de;q=0, en;q=0.1", "en"),
        ("*", ""),
        ("", ""),
        ("de;q=abc", ""),
        ("../../etc", ""),
        (",".join(["fr"] * 100_000) + ",de", ""),
    ],
)
def test_the_language_that_a_client_asks_for(client, accepted, language):
    """The language is the one that Accept-Language prefers of those that there are."""
    assert client.app.core.of(Mails).templates.language_of(accepted) == language


@pytest.mark.parametrize(
    "name",
    [
        "田中さん 田中さん GmbH 田中さん 田中さん ééééééééé x",
        "Donaudampfschifffahrt Donaudampfschifffahrt Donaudampfschifffahrt Grüße",
        "Grüße & Söhne (Österreich), Über GmbH, Donaudampfschifffahrt, Grüße & Söhne",
    ],
)
def test_names_beyond_ascii(make_client, folder, name):
    """A name beyond ASCII has each of its spaces in the sender and in the subject."""
    change = {"mail_from": f"{name} <noreply@example.com>", "app_name": name}
    send(make_client(**mail_settings(f"file://{folder}", **change)))

    (message,) = messages(folder, email.policy.compat32)
    texts = [str(make_header(decode_header(message[each]))) for each in ("From", "Subject")]
    assert texts == [f"{name} <noreply@example.com>", f"Test from {name}"]
    assert max(map(len, f"{message['From']}\n{message['Subject']}".split("\n"))) <= 78


def test_templates_of_your_own(make_client, folder, tmp_path):
    """An operator's templates come before ours, file by file, and may be of another language."""
    own = tmp_path / "own"
    for path, text in {
        "layout.html": "<html lang=$language>$subject $body</html>",
        "fr/mail_test.txt": "Essai de $app\n\nBonjour, il est $time.\n",
        "fr/dates.txt": "le $day $month $year à $time\n" + " ".join(["août"] * 12),
    }.items():
        (own / path).parent.mkdir(parents=True, exist_ok=True)
        (own / path).write_text(text)
    change = {"mail_templates": str(own), "app_name": "Ex & Co"}
    client = make_client(**mail_settings(f"file://{folder}", **change))
    send(client, language="fr")

    (message,) = messages(folder)
    assert message["Subject"] == "Essai de Ex & Co"
    assert "il est le 16 août 2022 à 10:21." in message.get_body(("plain",)).get_content()
    assert message.get_body(("html",)).get_content().startswith("<html lang=fr>Essai de Ex &amp;")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A\n\n$password", "uses $password, which this mail does not have: use $app, $time"),
        ("A\n\n$", "has a $ that begins no name"),
        ("A", "must be a subject, an empty line and the text"),
        ("A\nB\n\nC", "must be a subject, an empty line and the text"),
    ],
)
def test_a_bad_template(make_client, folder, tmp_path, text, says):
    """A template that cannot be used stops the start."""
    (tmp_path / "own" / "de").mkdir(parents=True)
    (tmp_path / "own" / "de" / "mail_test.txt").write_text(text)
    change = {"mail_templates": str(tmp_path / "own")}
    client = make_client(**mail_settings(f"file://{folder}", **change))

    with pytest.raises(StartError, match=re.escape(says)):
        client.app.core.of(Mails).add(TEST)


def test_links(make_client, folder):
    """A link has its token in the fragment, and nothing of a request."""
    change = {"pages_url": "https://app.example.com/account/"}
    mails = make_client(**mail_settings(f"file://{folder}", **change)).app.core.of(Mails)

    assert mails.link("reset", "abc") == "https://app.example.com/account/reset#token=abc"


def test_html(folder):
    """A link or a code that stands alone is made large; everything is escaped."""
    link = "https://app.example.com/reset#token=a&b"
    made = html_of("S <b>", f"Hello <i>,\nyou\n\n{link}\n\n123456\n", "en", "$subject|$body")

    assert made.startswith("S &lt;b&gt;|<p>Hello &lt;i&gt;,<br>\nyou</p>")
    assert 'href="https://app.example.com/reset#token=a&amp;b"' in made
    assert "<strong>123456</strong>" in made


HEADERS = [
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
    *("X-Auto-Response-Suppress", "MIME-Version", "Content-Type", "Content-Language"),
]
NAUGHTY = [
    "",
    " ",
    "$app",
    "${link}",
    "$$",
    "%s%n%x",
    "{0.__class__}",
    "{{7*7}}",
    "${7*7}",
    "#{7*7}",
    "<%= 7*7 %>",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE users; --",
    "&amp;&lt;",
    "</p></div></body>",
    "<!--",
    "]]>",
    "a\r\nBcc: evil@example.com",
    "a\nTo: evil@example.com",
    "a\r\n\r\nbody",
    "a\r\n.\r\nMAIL FROM:<evil@example.com>",
    ".",
    "\n.\n",
    "a\0b",
    "a\x1b[31mb",
    "a\x7fb\x85c\u2028d\u2029e",
    "\u202egnp.exe",
    "\u2066a\u2069",
    "=?utf-8?q?evil?=",
    "=?utf-8?b?ZXZpbA==?= <evil@example.com>",
    "evil@example.com, other@example.com",
    "Evil <evil@example.com>",
    "--===============",
    "田中さん",
    "Ω≈ç√∫µ≤≥÷",
    "🏳️‍🌈👩‍👩‍👧‍👧",
    "ﷺ" * 50,
    "Z̮̞̠͙͔ͅḀ̗̞͈̻̗Ḷ͙͎̯̹̞͓G̻O̭̗̮",
    "ثم نفس سقطت وبالتحديد،",
    "i" * 1_000,
    "\\",
    "\\n",
    "\ufeff",
    "\ufffd",
    "\xad",
    "null",
    "True",
    "-1",
    "1e309",
]


def text_of(html):
    """Return the text of an HTML part without its head, as a browser shows it."""
    body = html.partition("<body")[2].partition(">")[2]
    return " ".join(unescape(re.sub("<[^>]*>", "", body)).split())


@pytest.mark.sqlite("no database is in it")
@pytest.mark.parametrize(
    "path", sorted(OWN.glob("*/*.txt")), ids=lambda path: path.parent.name + "/" + path.stem
)
def test_naughty_strings(path):
    """Whatever a value is, a mail has one recipient, our headers, and two parts that agree."""
    templates, sender = Templates("", "en"), Sender("", "noreply@example.com", "", "", "")
    names = Template(path.read_text()).get_identifiers()
    for string in NAUGHTY:
        text = templates.render(path.stem, path.parent.name, dict.fromkeys(names, string))
        sent = compose(text, sender, "user@example.com", 0, "name")
        message = message_from_bytes(sent.content)

        assert [*message.keys()] == HEADERS
        assert message.get_all("To") == ["user@example.com"]
        assert (
            email.policy.default.header_fetch_parse("Subject", message["Subject"]) == text.subject
        )
        plain, html = (part.get_payload(decode=True).decode() for part in message.get_payload())
        assert " ".join(plain.split()) == text_of(html)
        assert "<script" not in html
        assert len(list(message.walk())) == 3


@pytest.mark.sqlite("no database is in it")
def test_each_language_has_all_templates():
    """Each mail is there in each language, and uses the same values in all of them."""
    used = {}
    for path in OWN.glob("*/*.txt"):
        names = frozenset(Template(path.read_text()).get_identifiers())
        used.setdefault(path.stem, {})[path.parent.name] = names

    for name, languages in used.items():
        assert {*languages} == {"de", "en"}, name
        assert len({*languages.values()}) == 1, name
