"""Mail through postfix, over STARTTLS, into a mailbox; skipped where it is not installed."""

import email.policy
import os
import shutil
import subprocess
import tempfile
from email import message_from_bytes
from pathlib import Path

import pytest
from conftest import OTHER, USER, eventually
from mailboxes import links_in
from relay import Certificate, mail_settings

from authapi.features.mail import Mails
from faults.cluster import free_port

PROGRAM = shutil.which("postfix", path=f"{os.defpath}:/usr/sbin")
MAIN = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file_prefixes = {folder}
maillog_file = {folder}/log
inet_interfaces = 127.0.0.1
myhostname = relay.example
mydestination =
virtual_mailbox_domains = gmail.com, example.com
virtual_mailbox_base = {folder}
virtual_mailbox_maps = inline:{{{user}=mailbox/}}
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
"""
MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
proxymap unix - - n - - proxymap
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="postfix is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="postfix is started by root"),
]


class Postfix:
    """A postfix of our own, in a directory that its users can reach."""

    def __init__(self, folder, certificate):
        self.folder, self.port, self.certificate = folder, free_port(), certificate
        places = {"folder": folder, "certificate": certificate.file, "key": certificate.key}
        (folder / "main.cf").write_text(MAIN.format(user=USER["email"], **places))
        (folder / "master.cf").write_text(MASTER.format(port=self.port))
        for name in ("queue", "data", "mailbox"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        shutil.chown(folder / "mailbox", 65_534, 65_534)
        self.run("start")

    def run(self, command):
        environ = {**os.environ, "LC_ALL": "C"}
        run = [PROGRAM, "-c", str(self.folder), command]
        subprocess.run(run, check=True, capture_output=True, env=environ)

    @property
    def messages(self):
        return [
            message_from_bytes(path.read_bytes(), policy=email.policy.default)
            for path in sorted((self.folder / "mailbox").glob("new/*"))
        ]

    @property
    def settings(self):
        url = f"smtp://localhost:{self.port}"
        more = {"mail_ca_file": str(self.certificate.file), "email_verification": "off"}
        return mail_settings(url, **more)


@pytest.fixture(name="postfix")
def _postfix():
    with tempfile.TemporaryDirectory(prefix="authapi-postfix-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        postfix = Postfix(Path(name), Certificate(Path(name) / "certificate"))
        yield postfix
        postfix.run("stop")


def test_a_reset_by_postfix(make_client, postfix, clock):
    """A reset's link arrives and works; a mail that is refused is dead; none is lost meanwhile."""
    client = make_client(**postfix.settings)
    sender = client.app.core.of(Mails).sender
    for user in (USER, OTHER):
        client.register(**user)
        client.post("/password/reset/request", {"usernameOrEmail": user["username"]})
    postfix.run("stop")
    assert sender.run_due() == 0
    postfix.run("start")
    clock.move(5)
    assert sender.run_due() == 2

    eventually(lambda: postfix.messages)
    (message,) = postfix.messages
    assert (message["To"], message["From"]) == (USER["email"], "Example <noreply@example.com>")
    ((page, link),) = links_in(message)
    body = {"token": link, "new_password": "a better password"}
    assert (page, client.post("/password/reset", body).status_code) == ("reset", 200)
    ((error,),) = client.query("SELECT error FROM outbox WHERE due_at IS NULL")
    assert error.startswith("550 5.1.1"), error
