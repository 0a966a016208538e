"""What the service tells a service manager such as systemd."""

import os
import socket
from contextlib import closing

import pytest
from conftest import process, request, start


@pytest.fixture(name="manager")
def _manager():
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.settimeout(60)
        yield manager


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_ready(tmp_path, manager, workers, kind):
    """A start says READY=1 once, when requests are answered."""
    path = tmp_path / "notify"
    name = str(path) if kind == "path" else f"@authapi-{os.getpid()}"
    manager.bind(name.replace("@", "\0"))

    with process(tmp_path, NOTIFY_SOCKET=name, AUTHAPI_WORKERS=workers) as (_, url):
        assert manager.recv(100) == b"READY=1"
        assert request(f"{url}/user")[0] == 401
    manager.settimeout(0)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_a_refused_start(tmp_path, manager):
    """A start that is refused says nothing of being ready."""
    manager.bind(str(tmp_path / "notify"))

    done = start(tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify"), AUTHAPI_THREADS="1")
    _, said = done.communicate(timeout=60)

    assert (done.returncode, said.count("\n")) == (2, 1)
    manager.settimeout(0)
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_a_manager_that_is_gone(tmp_path):
    """Where nobody listens the service runs all the same, and warns."""
    with process(tmp_path, NOTIFY_SOCKET=str(tmp_path / "nobody")) as (service, url):
        assert request(f"{url}/user")[0] == 401
        service.terminate()
        _, said = service.communicate(timeout=60)

    assert "cannot tell the service manager of the start: [Errno 2]" in said
