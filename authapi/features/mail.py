"""Mail: what other features send, through the outbox, a relay and templates.

Endpoints: none. Table: none of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import falcon

from authapi.core import Core
from authapi.errors import Overloaded, StartError
from authapi.events import Caller, Event
from authapi.hosts import host_of
from authapi.mail.addresses import greeting
from authapi.mail.channel import MailChannel, Sender
from authapi.mail.checks import base_url, check_address, check_relay, default_sender
from authapi.mail.kinds import Mail
from authapi.mail.relay import relay_of, without_password
from authapi.middleware import new_request_id
from authapi.outbox import Outbox, OutboxJob
from authapi.outbox.sender import OutboxSender
from authapi.settings import ServerSettings, SettingsGroup, refused, setting

if TYPE_CHECKING:
    from authapi.settings import Settings

REQUIRES = ("outbox",)
ENABLED_BY = "mail_url"

MOST_WAITING = 10_000  # mails


@dataclass(frozen=True, kw_only=True)
class MailSettings(SettingsGroup):
    """Where mails go, from whom, and how they look."""

    mail_url: str = setting(
        "",
        "The relay of mails: smtps://user:password@host, smtp://user:password@host:587 (with "
        "STARTTLS), smtp+plain://127.0.0.1:25, file:///directory or console:. Default: no mail.",
        secret=True,
        masked=without_password,
    )
    mail_password: str = setting(
        "", "The relay's password, instead of one in AUTHAPI_MAIL_URL.", secret=True
    )
    mail_from: str = setting(
        "",
        "The sender of mails: an address, or Name <address>. Default: noreply@ the host of "
        "AUTHAPI_PUBLIC_URL.",
    )
    mail_reply_to: str = setting("", "The address that answers go to. Default: the sender's.")
    mail_language: str = setting(
        "en", "The language of mails for clients that ask for none that there is."
    )
    mail_templates: str = setting(
        "", "A directory with templates of your own, used before the others. Default: none."
    )
    mail_ca_file: str = setting(
        "",
        "A file of certificates (PEM) that the relay's is checked against. Default: the system's.",
    )
    pages_url: str = setting(
        "",
        "The URL below which the application has the pages that mails link to, such as "
        "https://app.example.com. Required with mail.",
    )

    def completed(self, settings: Settings) -> Self:
        """Return the group with the sender filled in. Raises SettingError."""
        server = settings.of(ServerSettings)
        check_relay(self.mail_url, self.mail_password, https=server.https)
        if self.mail_templates and not Path(self.mail_templates).is_dir():
            raise refused("mail_templates", self.mail_templates, "a directory")
        if self.mail_ca_file and not Path(self.mail_ca_file).is_file():
            raise refused("mail_ca_file", self.mail_ca_file, "a file of certificates")
        if self.mail_reply_to:
            check_address("AUTHAPI_MAIL_REPLY_TO", self.mail_reply_to)
        sender = self.mail_from or default_sender(host_of(server.public_url))
        check_address("AUTHAPI_MAIL_FROM", sender)
        pages_url = base_url(self.pages_url, https=server.https)
        return replace(self, mail_from=sender, pages_url=pages_url)


class MailFailed(Event):
    """A mail could not be sent, and is not tried again. `detail` is the kind of mail."""

    __slots__ = ()


class TooManyMails(Overloaded):
    """Raised when so many mails wait that no more are taken."""

    message = "Too many mails wait to be sent. Try again soon."


class Mails:
    """Writes mails into the outbox, and knows the kinds that features declare."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        from authapi.mail.messages import Templates  # noqa: PLC0415 - only where mail is on

        self._core, self._outbox = core, core.of(Outbox)
        self._settings = settings = core.settings.of(MailSettings)
        server = core.settings.of(ServerSettings)
        relay = relay_of(settings.mail_url, settings.mail_password)
        sender = Sender(
            app=server.app_name,
            sender=settings.mail_from,
            reply_to=settings.mail_reply_to,
            hello=greeting(host_of(server.public_url)),
            ca_file=settings.mail_ca_file,
        )
        self.templates = Templates(settings.mail_templates, settings.mail_language)
        self.channel = MailChannel(core, relay, sender, self.templates, self._failed)
        self.sender = OutboxSender(core, self.channel)
        if settings.mail_language not in (known := self.templates.languages):
            raise StartError(f"AUTHAPI_MAIL_LANGUAGE must be one of {', '.join(known)}.")

    def add(self, *kinds: Mail) -> None:
        """Add kinds of mail, in `setup`. Raises ValueError for a name that is taken.

        Raises StartError for a template that is missing or uses a value that the kind has not.
        """
        for kind in kinds:
            if kind.name in self.channel.kinds:
                raise ValueError(f"there is a mail {kind.name} already: choose another name")
            try:
                self.templates.check(kind.template_names, kind.values)
            except ValueError as error:
                raise StartError(str(error)) from error
            self.channel.kinds[kind.name] = kind

    def write(
        self,
        kind: Mail,
        *,
        user_id: int | None = None,
        address: str = "",
        data: Mapping[str, Any] | None = None,
        language: str = "",
    ) -> int:
        """Write a mail inside the transaction of the change that it follows; return its id.

        It is sent soon after the commit. `data` is given to `kind.prepare`; SECURITY: it must hold
        no secret. Raises TooManyMails, but not for a notice.
        """
        if not kind.is_notice and self._outbox.waiting("mail", MOST_WAITING) >= MOST_WAITING:
            raise TooManyMails
        written = self._outbox.write(
            self.channel.name,
            kind.name,
            lifetime=kind.lifetime,
            user_id=user_id,
            address=address,
            data=data,
            language=language,
        )
        self._core.database.after_commit(self.sender.written)
        return written

    def language_of(self, req: falcon.Request) -> str:
        """Return the language that a client asks for; empty for the default one."""
        return self.templates.language_of(req.get_header("Accept-Language", default=""))

    def link(self, page: str, token: str) -> str:
        """Return a link to a page, with a token in its fragment.

        SECURITY: a fragment is in no log and in no Referer, and scanners of links do not send it.
        """
        return f"{self._settings.pages_url}/{page}#token={token}"

    def _failed(self, job: OutboxJob) -> None:
        caller = Caller("", "authapi-outbox", new_request_id())
        self._core.events.emit(MailFailed(job.user_id, caller, detail=job.kind))


def setup(_app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the thread that sends, and count what it does."""
    sender, outbox = core.of(Mails).sender, core.of(Outbox)
    core.background.add(sender)
    text = "Mails that were sent, or that cannot be."
    counters = {
        word: core.metrics.counter("authapi_mails_total", text, result=word)
        for word in ("sent", "failed")
    }
    sender.tell = lambda word: counters[word].add()
    core.metrics.shared_gauge(
        "authapi_mails_waiting", "Mails that wait.", lambda: outbox.waiting("mail", MOST_WAITING)
    )
