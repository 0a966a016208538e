"""SMTP: the relay that takes the messages. No other module imports smtplib.

SECURITY: nothing but the greeting and EHLO is sent before the relay's certificate is checked, where
the URL does not say `smtp+plain`. Nothing falls back to a connection without TLS.
"""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from authapi.mail.answers import TIMEOUT, Answers
from authapi.mail.relay import Relay
from authapi.mail.transports import Message
from authapi.outbox.delivery import ChannelDown, Refused

ACCEPT_TIMEOUT = 60  # seconds for the answer to a message, which relays may check first
LONGEST_REASON = 120  # characters

_GO_ON = 354  # the answer to DATA
_LOGIN_REFUSED = frozenset({530, 534, 535, 538})  # RFC 4954, 6: also at MAIL and RCPT


class _Connection(smtplib.SMTP):
    """A connection to a relay."""

    file: Answers | None

    def __init__(self, relay: Relay, hello: str, context: ssl.SSLContext | None) -> None:
        """Connect and read the greeting. Raises OSError."""
        self._context = context if relay.scheme == "smtps" else None
        self.answer_within: float = TIMEOUT  # seconds
        super().__init__(relay.host, relay.port, local_hostname=hello, timeout=TIMEOUT)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = socket.create_connection((host, port), timeout)
        if self._context is None:
            return sock
        return self._context.wrap_socket(sock, server_hostname=host)

    def getreply(self) -> tuple[int, bytes]:
        """Return the next answer. Raises SMTPServerDisconnected for a late or endless one."""
        if self.file is None:
            if self.sock is None:
                raise smtplib.SMTPServerDisconnected("not connected")
            self.file = Answers(self.sock)
        self.file.begin(self.answer_within)
        code, answer = super().getreply()
        self.answer_within = ACCEPT_TIMEOUT if code == _GO_ON else TIMEOUT
        return code, answer

    def begin_tls(self, context: ssl.SSLContext) -> None:
        """Begin TLS. Raises ChannelDown where the relay sent more before it than its answer.

        SECURITY: somebody on the way can put answers before those of the relay (CVE-2021-38371).
        """
        answers = self.file
        self.starttls(context=context)
        if answers is None or answers.has_more:
            raise ChannelDown("the relay sent something before TLS began")


class SMTPTransport:
    """Sends messages to a relay, over one connection that is kept for a while."""

    def __init__(self, relay: Relay, *, hello: str, ca_file: str) -> None:
        """Take the relay, the name to greet it by, and a file of certificates or an empty text."""
        self._relay, self._hello, self._ca_file = relay, hello, ca_file
        self._connection: _Connection | None = None

    def open(self) -> None:
        """Connect and log in, unless there is a connection that works. Raises ChannelDown."""
        if self._connection is not None:
            if _is_answered(self._connection.noop):
                return
            self.forget()
        try:
            self._connection = self._connected()
        except (OSError, smtplib.SMTPException, ValueError) as error:
            raise ChannelDown(f"{self._relay.shown}: {_reason(error)}") from error

    def send(self, message: Message) -> None:
        """Send a message. Raises Refused, and ChannelDown."""
        connection = self._connection
        if connection is None:
            raise ChannelDown("not connected")
        try:
            self._send(connection, message)
        except Refused:
            if not _is_answered(connection.rset):  # some relays disconnect after a refusal
                self.forget()
            raise
        except (OSError, smtplib.SMTPException, ValueError) as error:
            self.forget()
            raise ChannelDown(f"{self._relay.shown}: {_reason(error)}") from error

    @property
    def is_open(self) -> bool:
        """Return whether there is a connection."""
        return self._connection is not None

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            with suppress(OSError, smtplib.SMTPException):
                self._connection.answer_within = 1
                self._connection.quit()
            self.forget()

    def forget(self) -> None:
        """Drop the connection without a word."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abort(self) -> None:
        """Let a `send` in another thread fail at once."""
        sock = self._connection and self._connection.sock
        if sock:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> _Connection:
        """Return a connection that is ready for a message."""
        relay = self._relay
        context = None
        if relay.scheme != "smtp+plain":
            context = ssl.create_default_context(cafile=self._ca_file or None)
        connection = _Connection(relay, self._hello, context)
        try:
            if context is not None and relay.scheme == "smtp":
                connection.begin_tls(context)
            connection.ehlo_or_helo_if_needed()
            if relay.user:
                _log_in(connection, relay)
        except BaseException:
            connection.close()
            raise
        return connection

    @staticmethod
    def _send(connection: _Connection, message: Message) -> None:
        options = [f"SIZE={len(message.content)}"] if connection.has_extn("size") else []
        if not f"{message.sender}{message.recipient}".isascii():
            if not connection.has_extn("smtputf8"):
                raise Refused("the relay takes ASCII addresses only", is_final=True)
            options.append("SMTPUTF8")
        code, answer = connection.mail(message.sender, options)
        if code != 250:  # NOTE: the sender is that of all mails
            raise smtplib.SMTPResponseException(code, answer)
        code, answer = connection.rcpt(message.recipient)
        if code in _LOGIN_REFUSED or code == 421:
            raise smtplib.SMTPResponseException(code, answer)
        if code not in {250, 251}:
            raise _refused(code, answer)
        try:
            code, answer = connection.data(message.content)
        except smtplib.SMTPDataError as error:
            code, answer = error.smtp_code, _bytes(error.smtp_error)
        if code == 421 or not 200 <= code <= 599:
            raise smtplib.SMTPResponseException(code, answer)
        if code != 250:
            raise _refused(code, answer)


def _log_in(connection: _Connection, relay: Relay) -> None:
    """Log in with PLAIN or LOGIN, in UTF-8 (RFC 4616). Raises SMTPException."""
    offered = connection.esmtp_features.get("auth", "").upper().split()
    if "PLAIN" in offered:
        word = _base64(f"\0{relay.user}\0{relay.password}")
        code, answer = connection.docmd("AUTH", f"PLAIN {word}")
    elif "LOGIN" in offered:
        code, answer = connection.docmd("AUTH", f"LOGIN {_base64(relay.user)}")
        if code == 334:
            code, answer = connection.docmd(_base64(relay.password))
    else:
        raise smtplib.SMTPNotSupportedError("it offers neither AUTH PLAIN nor AUTH LOGIN")
    if code not in {235, 503}:
        raise smtplib.SMTPAuthenticationError(code, answer)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _is_answered(command: Callable[[], tuple[int, bytes]]) -> bool:
    """Return whether a relay still answers on a connection."""
    try:
        return command()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def _refused(code: int, answer: bytes) -> Refused:
    return Refused(f"{code} {_words(answer)}", is_final=500 <= code <= 599)


def _reason(error: Exception) -> str:
    """Return what went wrong as one line.

    SECURITY: the answer to a password may quote it, so its code is all that is shown of it.
    """
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it refuses the user and the password ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it answers {error.smtp_code} {_words(_bytes(error.smtp_error))}"
    return _words(str(error).encode()) or type(error).__name__


def _words(answer: bytes) -> str:
    """Return an answer without addresses, cut to LONGEST_REASON."""
    words = answer.decode(errors="replace").split()
    shown = " ".join("…" if "@" in word else word for word in words)
    return "".join(each for each in shown if each.isprintable())[:LONGEST_REASON]


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text
