"""Relays for tests: a real one (aiosmtpd), one that follows a script, and their certificates.

The fixtures `relay` and `certificate` come with `pytest_plugins = ("relay_fixtures",)`.
"""

import asyncio
import email.policy
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from email import message_from_bytes

import pytest
from aiosmtpd.smtp import SMTP, AuthResult

PAGES = "https://app.example.com"
SENDER = "Example <noreply@example.com>"
CA = """
[ca]
default_ca = d
[d]
dir = .
database = {folder}/index.txt
new_certs_dir = {folder}
serial = {folder}/serial
default_md = sha256
policy = p
copy_extensions = copy
unique_subject = no
[p]
commonName = supplied
"""


def mail_settings(url, **settings):
    """Return the settings that send mails to a relay."""
    return {"mail_url": url, "mail_from": SENDER, "pages_url": PAGES, **settings}


class Relay:
    """A relay of aiosmtpd, in a thread. `messages` are the mails that it took, parsed."""

    def __init__(self, **options):
        self.envelopes, self.logins, self._protocols = [], [], []
        self.answers = {}  # by hook: what the relay answers in place of accepting
        self._options, self._loop = options, asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._started.wait(30)

    @property
    def url(self):
        return f"smtp+plain://127.0.0.1:{self.port}"

    @property
    def messages(self):
        return [
            message_from_bytes(each.original_content, policy=email.policy.default)
            for each in self.envelopes
        ]

    def stop(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def authenticate(self, _server, _session, _envelope, mechanism, data):
        """Accept any user whose password ends with `ß`."""
        self.logins.append((mechanism, data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password.decode().endswith("ß"))

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802
        if "RCPT" in self.answers:
            return self.answers["RCPT"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802
        if "DATA" in self.answers:
            return self.answers["DATA"]
        self.envelopes.append(envelope)
        return "250 OK"

    def _run(self):
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(self._protocol, "127.0.0.1", 0)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for each in self._protocols:
            each.transport.abort()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    def _protocol(self):
        options = {"enable_SMTPUTF8": True, "authenticator": self.authenticate, **self._options}
        protocol = SMTP(self, loop=self._loop, hostname="relay.example", **options)
        self._protocols.append(protocol)
        return protocol


ANSWERS = {
    "BANNER": "220 relay",
    "EHLO": "250-relay\r\n250 SMTPUTF8",
    "MAIL": "250 OK",
    "RCPT": "250 OK",
    "DATA": "354 Go on",
    "END": "250 OK",
    "RSET": "250 OK",
    "NOOP": "250 OK",
    "QUIT": "221 Bye",
    "AUTH": "235 OK",
    "STARTTLS": "220 Go on",
}


class Script:
    """A relay that answers each command as a script says, and records every byte.

    `answers` has an answer by the command's first word; `BANNER` is the greeting, `END` the answer
    to a message. None closes the connection, and `...` answers nothing. `context` is that of TLS.
    """

    def __init__(self, context=None, *, at_once=False, **answers):
        self.answers = {**ANSWERS, **answers}
        self.received, self.commands, self.messages = b"", [], []
        self.context, self._at_once = context, at_once
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets, self._threads = [], []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def url(self):
        return f"smtp+plain://127.0.0.1:{self.port}"

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in (self._thread, *self._threads):
            thread.join()
        for each in self._sockets:
            each.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            self._threads.append(threading.Thread(target=self._serve, args=[client]))
            self._threads[-1].start()

    def _serve(self, client):
        with suppress(OSError), client:
            self._greet(client)

    def _greet(self, client):
        if self._at_once:
            client = self._wrapped(client)
        if self._answer(client, "BANNER") and self._converse(client):
            client = self._wrapped(client)
            self._converse(client)
        client.close()

    def _wrapped(self, client):
        self._sockets.append(self.context.wrap_socket(client, server_side=True))
        return self._sockets[-1]

    def _converse(self, client):
        """Answer commands; return whether TLS begins."""
        lines = self._lines(client)
        for line in lines:
            word = line.split(b" ")[0].strip().decode().upper()
            self.commands.append(word)
            if not self._answer(client, word):
                return False
            if word == "STARTTLS" and self.context:
                return True
            if word == "DATA" and self.answers["DATA"] == ANSWERS["DATA"]:
                self.messages.append(message_in(lines))
                if not self._answer(client, "END"):
                    return False
        return False

    def _answer(self, client, word):
        answer = self.answers.get(word, "500 What?")
        if answer is None:
            return False
        if answer is not ...:
            client.sendall(answer if isinstance(answer, bytes) else f"{answer}\r\n".encode())
        return True

    def _lines(self, client):
        left = b""
        while chunk := client.recv(65_536):
            self.received += chunk
            *lines, left = (left + chunk).split(b"\n")
            yield from (line + b"\n" for line in lines)


def message_in(lines):
    """Return the lines of a message, up to the dot."""
    return b"".join(iter(lambda: next(lines), b".\r\n"))


class Certificate:
    """A self-signed certificate of some names, as files, made by openssl."""

    def __init__(self, folder, names="DNS:localhost,IP:127.0.0.1", *, expired=False):
        if shutil.which("openssl") is None:
            pytest.skip("openssl, which makes the certificate, is not installed")
        self.file, self.key = folder / "cert.pem", folder / "key.pem"
        folder.mkdir()
        made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        made += ["-subj", "/CN=relay", "-addext", f"subjectAltName={names}", "-keyout", self.key]
        if not expired:
            self._run("req", "-x509", *made, "-days", "1", "-out", self.file)
            return
        self._run("req", *made, "-out", folder / "request.pem")
        (folder / "ca.cnf").write_text(CA.format(folder=folder))
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01")
        signing = ["-selfsign", "-keyfile", self.key, "-in", folder / "request.pem", "-notext"]
        dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]
        config = ["-config", folder / "ca.cnf", "-batch", "-out", self.file]
        self._run("ca", *config, *signing, *dates)

    @property
    def context(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file, self.key)
        return context

    @staticmethod
    def _run(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@contextmanager
def running(relay):
    """Stop a relay after the block."""
    try:
        yield relay
    finally:
        relay.stop()
