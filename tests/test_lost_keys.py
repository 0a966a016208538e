"""Keys or a database that are gone: under a running service, and at a start."""

import os
from pathlib import Path

import pytest
from conftest import token_of
from databases import UNLIMITED
from system_users import unprivileged

from authapi import Settings, StartError
from authapi.keys import load_keys


@pytest.fixture(name="client")
def _client(make_client):
    return make_client(**UNLIMITED)


def test_keys_are_gone_under_a_running_service(client, token, path):
    """A running service keeps its keys without the file."""
    path.with_name("authapi.db.key").unlink()

    assert client.get_as(token).status_code == 200
    assert client.get_as(token_of(client.log_in())).status_code == 200


def test_keys_are_gone_at_a_start(client, token, path, make_client, caplog):
    """A start without keys makes new ones and warns; the old keys bring the sessions back."""
    file = path.with_name("authapi.db.key")
    kept = file.rename(path.with_name("kept.key"))
    assert caplog.messages == []

    restarted = make_client(**UNLIMITED)

    (message,) = caplog.messages
    assert message.startswith(
        f"the key file {file} is missing, so a new one is made: all sessions have"
    )
    assert restarted.get_as(token).status_code == 401
    assert restarted.get_as(token_of(restarted.log_in())).status_code == 200
    kept.replace(file)
    assert make_client(**UNLIMITED).get_as(token).status_code == 200


@pytest.mark.parametrize("rest", [None, b""])
def test_a_database_that_is_gone(client, path, make_client, caplog, rest):
    """A start that makes a database although there are keys warns of the loss."""
    client.app.close()
    path.unlink()
    if rest is not None:
        path.write_bytes(rest)
    restarted = make_client(**UNLIMITED)

    message = caplog.messages[-1]
    assert message.startswith(f"the database {path} is missing, so an empty one is made, although")
    assert restarted.register().status_code == 201


def test_no_warning_without_a_loss(client, token, path, make_client, caplog):
    """A start with keys, or without sessions, warns of nothing."""
    make_client(**UNLIMITED)
    make_client(secret_key="a secret of thirty-two bytes, and more", **UNLIMITED)
    client.request_as(token, "POST", "/logout")
    path.with_name("authapi.db.key").unlink()
    make_client(**UNLIMITED)

    assert caplog.messages == []


def test_keys_that_cannot_be_read(folder):
    """Keys that this user may not read stop the start, and are not changed."""
    file = folder / "authapi.key"
    load_keys(Settings(key_file=str(file)))
    kept = file.read_bytes()
    file.chmod(0)

    with unprivileged(), pytest.raises(StartError, match="cannot be used .Permission denied.: let"):
        load_keys(Settings(key_file=str(file)))

    file.chmod(0o600)
    assert kept == file.read_bytes()


def test_keys_are_kept_before_they_are_used(tmp_path, monkeypatch):
    """The key file is on the disk before it has its name, and the name before a token is signed."""
    done = []
    fsync, link = os.fsync, os.link

    def spy(descriptor):
        fsync(descriptor)
        found = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append((found.is_dir(), found.read_bytes() if found.is_file() else found))

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(os, "link", lambda *names: done.append("link") or link(*names))
    load_keys(Settings(key_file=f"{tmp_path}/authapi.key"))

    assert done == [(False, (tmp_path / "authapi.key").read_bytes()), "link", (True, tmp_path)]
