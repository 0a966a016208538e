"""The setting AUTHAPI_TRUSTED_PROXY: addresses, networks, and names that are looked up."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import USER, process, request, start

from authapi import SettingError, Settings


def test_a_host_name_is_resolved_at_the_start(tmp_path):
    """A proxy may be a host name: all its addresses are trusted, and the log names them."""
    with process(tmp_path, AUTHAPI_TRUSTED_PROXY="LocalHost, 192.0.2.1") as (service, url):
        cookie = request(f"{url}/register", USER)[2]["Set-Cookie"].partition(";")[0]
        headers = {"Cookie": cookie, "X-Forwarded-For": "203.0.113.9"}
        request(f"{url}/user/activity", **headers)
        body = {"usernameOrEmail": USER["username"], "password": "wrong password"}
        request(f"{url}/login", body, **headers)
        (entry, _) = request(f"{url}/user/activity", **headers)[1]["activity"]
        service.terminate()
        log = service.communicate()[1]

    assert entry["ip"] == "203.0.113.9"
    assert re.search(r"AUTHAPI_TRUSTED_PROXY: localhost is .*127\.0\.0\.1", log)


@pytest.mark.parametrize("name", ["nowhere.invalid", "nowhere.invalid.", "a" * 63 + ".invalid"])
def test_a_host_name_without_an_address(tmp_path, name):
    """A name that cannot be resolved stops the start with one sentence and exit status 1."""
    service = start(tmp_path, AUTHAPI_TRUSTED_PROXY=name)
    error = service.communicate()[1]

    assert service.returncode == 1
    assert error.startswith(
        f"authapi: AUTHAPI_TRUSTED_PROXY names '{name}', which has no address ("
    )
    assert "(None)" not in error
    assert error.count("\n") == 1


STUCK = """
import ctypes, os, signal, socket
from authapi.server.forwarded import resolved

lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(256)

def stuck(*_):
    lock(mutex)
    print("looks it up", flush=True)
    lock(mutex)

socket.getaddrinfo = stuck
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
resolved("caddy")
"""


def is_waiting(pid):
    """Return whether the main thread of a process sleeps in the kernel."""
    stat = Path(f"/proc/{pid}/task/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "S"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux alone has /proc/PID/task")
def test_a_signal_while_a_host_name_is_looked_up():
    """A name server that does not answer keeps no signal from ending the start."""
    service = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE)
    try:
        service.stdout.readline()
        while not is_waiting(service.pid):
            pass
        service.terminate()
        assert service.wait(timeout=60) == 7
    finally:
        service.kill()
        service.communicate()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("10.0.0.1", "10.0.0.1"),
        (" 10.0.0.1,\n172.16.0.0/12\t, caddy ", "10.0.0.1 172.16.0.0/12 caddy"),
        ("::FFFF:10.0.0.1 2001:DB8::/32", "10.0.0.1 2001:db8::/32"),
        ("Caddy.Default.svc.cluster.local.", "caddy.default.svc.cluster.local."),
        ("", ""),
        (" , ", ""),
    ],
)
def test_the_list_of_proxies(value, kept):
    """The setting takes addresses, networks and names, with white space or commas between them."""
    assert kept == Settings(trusted_proxy=value).trusted_proxy


@pytest.mark.parametrize(
    "value",
    ["10.0.0.1/8", "0.0.0.0/0", "::/0", "10.0.0.300", "fe80::1%eth0", "10.0.0.1:80", "*", "a;b"],
)
def test_no_list_of_proxies(value):
    """A text that is not an address, network or name stops the start, and is named."""
    with pytest.raises(SettingError, match=f"AUTHAPI_TRUSTED_PROXY .*not '{re.escape(value)}'"):
        Settings(trusted_proxy=f"127.0.0.1 {value}")
