"""A headless Chromium, driven over the DevTools protocol.

A test file names `chromium_fixtures` in `pytest_plugins` and takes the fixture `context`, a
visitor's browser: `page = context.open(url)`, then `page.run(script)`. One Chromium serves a file
of tests. It reads its commands from a pipe, so it ends with the tests, even if they are killed. It
can reach no address but 127.0.0.1: by that name, as localhost, as `HOSTS`, also over TLS, and as
`SUFFIX`.
"""

import base64
import hashlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

HOSTS = "*.example.test"
SUFFIX = "*.co.uk"  # below a public suffix
WAIT = 60  # seconds until a test gives up: no answer of a page takes long
NAVIGATED = (  # what Chromium says of a script whose page was left
    "Inspected target navigated or closed",
    "Execution context was destroyed",
    "Cannot find default execution context",
)
MAPPED = f"MAP {HOSTS} 127.0.0.1, MAP {SUFFIX} 127.0.0.1"
EXCLUDED = "EXCLUDE 127.0.0.1, EXCLUDE localhost"
SWITCHES = [
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--lang=en-US",
    "--no-proxy-server",
    # No other name has an address, and no other address in a URL is connected to.
    f"--host-resolver-rules={MAPPED}, MAP * ~NOTFOUND, {EXCLUDED}",
]
# Chromium reads commands from descriptor 3 and writes to 4.
START = """
import fcntl, os, sys
reading, writing, *command = sys.argv[1:]
pair = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 5) for each in (reading, writing)]
os.dup2(pair[0], 3), os.dup2(pair[1], 4)
os.execvp(command[0], command)
"""


class PageError(Exception):
    """A script of a page failed, or Chromium refused a command."""


class Chromium:
    """A Chromium with its own profile in a folder."""

    def __init__(self, binary, folder, *switches):
        reading, self._write = os.pipe()
        self._read, writing = os.pipe()
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [binary, *SWITCHES, *sandbox, f"--user-data-dir={folder}", *switches]
        self.process = subprocess.Popen(
            [sys.executable, "-IS", "-c", START, str(reading), str(writing), *command],
            pass_fds=(reading, writing),
            env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reading)
        os.close(writing)
        self._ids = itertools.count(1)
        self._received = b""
        self._pages = {}

    def call(self, method, session=None, **parameters):
        """Send a command and return its result; events that come before it reach their pages."""
        number = next(self._ids)
        command = {"id": number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while (message := self._message()).get("id") != number:
            self._tell(message)
        if "error" in message:
            raise PageError(f"{method}: {message['error']['message']}")
        return message["result"]

    def context(self):
        """Return a browser without cookies, storage or cache, as a visitor's."""
        return Context(self, self.call("Target.createBrowserContext")["browserContextId"])

    def add(self, page):
        self._pages[page.session] = page

    def close(self):
        """End Chromium and all its processes."""
        with closing(_Descriptors(self._read, self._write)):
            try:
                self.call("Browser.close")
                self.process.wait(WAIT)
            except (PageError, OSError, EOFError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()

    def _message(self):
        deadline = time.monotonic() + WAIT
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise PageError("Chromium does not answer.")
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise EOFError("Chromium has ended.")
            self._received += chunk
        line, _, self._received = self._received.partition(b"\0")
        return json.loads(line)

    def _tell(self, message):
        page = self._pages.get(message.get("sessionId"))
        if page:
            page.hear(message["method"], message["params"])


class _Descriptors:
    def __init__(self, *descriptors):
        self._descriptors = descriptors

    def close(self):
        for each in self._descriptors:
            os.close(each)


class Context:
    """A visitor's browser: its tabs share cookies, storage and channels."""

    def __init__(self, chromium, id_):
        self.chromium = chromium
        self._id = id_

    def open(self, url="about:blank", **size):
        """Open a tab at a URL, wait until it has loaded, and return it."""
        page = Page(self.chromium, self._id)
        if size:
            page.resize(**size)
        if url != "about:blank":
            page.open(url)
        return page

    @property
    def cookies(self):
        """Return the cookies of all hosts by name: value, domain, path, secure, httpOnly …."""
        found = self.chromium.call("Storage.getCookies", browserContextId=self._id)["cookies"]
        return {cookie["name"]: cookie for cookie in found}

    def close(self):
        self.chromium.call("Target.disposeBrowserContext", browserContextId=self._id)


class Page:
    """A tab. `console` has all that a developer sees in its console."""

    def __init__(self, chromium, context):
        self._chromium = chromium
        target = chromium.call("Target.createTarget", url="about:blank", browserContextId=context)
        self._target = target["targetId"]
        attached = chromium.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self.session = attached["sessionId"]
        chromium.add(self)
        self.console = []
        self.issues = []  # what DevTools lists under Issues
        self.blocked = []  # why the cookies of answers were not stored
        self._loaded = False
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Send a command of the DevTools protocol to this tab."""
        return self._chromium.call(method, self.session, **parameters)

    def open(self, url):
        """Go to a URL and wait until it has loaded."""
        self._loaded = False
        failure = self.call("Page.navigate", url=url).get("errorText")
        if failure:
            raise PageError(f"{url}: {failure}")
        self.until_loaded()

    def reload(self):
        self._loaded = False
        self.call("Page.reload")
        self.until_loaded()

    def until_loaded(self):
        """Wait for the load of a navigation that `open`, `reload` or a click has begun."""
        eventually(self, lambda: self._loaded)

    def run(self, script):
        """Return the value of an expression, or what its promise gives. Raises PageError."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=script, replMode=True, **options)
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise PageError(thrown.get("exception", {}).get("description") or thrown["text"])
        return answer["result"].get("value")

    def until(self, script):
        """Wait until an expression is true, also in the next page, and return its value."""

        def value():
            try:
                return self.run(script)
            except PageError as error:
                if not any(each in str(error) for each in NAVIGATED):
                    raise
                return None

        return eventually(self, value)

    def take_events(self):
        """Take the events that have come. A navigation does not end this command."""
        self._chromium.call("Browser.getVersion")

    def says(self, *words):
        """Wait for a line of the console with all words, and return it."""
        return eventually(self, lambda: next(iter(self._lines(words)), None))

    def resize(self, width=1280, height=800, *, dark=False):
        """Set the size of the window in CSS pixels, and the colour scheme that is preferred."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path, *, whole=True):
        """Write a picture of the page, or of the window alone, as PNG."""
        picture = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(picture["data"]))

    def close(self):
        self._chromium.call("Target.closeTarget", targetId=self._target)

    def hear(self, method, event):
        """Take an event of the tab."""
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Runtime.consoleAPICalled":
            texts = (str(each.get("value", each.get("description"))) for each in event["args"])
            self.console.append(" ".join(texts))
        elif method == "Runtime.exceptionThrown":
            thrown = event["exceptionDetails"]
            self.console.append(thrown.get("exception", {}).get("description") or thrown["text"])
        elif method == "Log.entryAdded":
            entry = event["entry"]
            self.console.append(f"{entry['text']} {entry.get('url', '')}".strip())
        elif method == "Audits.issueAdded":
            self.issues.append(event["issue"])
        elif method == "Network.responseReceivedExtraInfo":
            for cookie in event["blockedCookies"]:
                self.blocked += cookie["blockedReasons"]

    def _lines(self, words):
        return (line for line in self.console if all(word in line for word in words))


def eventually(page, condition):
    """Wait until a condition gives a true value, and return it; events of the page arrive."""
    deadline = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < deadline, page.console
        time.sleep(0.01)
        page.take_events()
    return found


def certificate(folder):
    """Make a certificate for `HOSTS`; return the switch that makes Chromium trust its key."""
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    name = ("-subj", "/CN=example.test", "-addext", f"subjectAltName=DNS:{HOSTS}")
    files = ("-keyout", folder / "cert.key", "-out", folder / "cert.pem")
    subprocess.run([*make.split(), *name, *files], check=True, capture_output=True)
    public = subprocess.run(
        ["sh", "-c", "openssl x509 -pubkey -noout -in cert.pem | openssl pkey -pubin -outform DER"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    key = base64.b64encode(hashlib.sha256(public.stdout).digest()).decode()
    return f"--ignore-certificate-errors-spki-list={key}"


def installed_chromium():
    """Return the path of a Chromium; skip the test if there is none.

    The headless shell calls no host of its own accord, and starts in a sixth of a second.
    """
    found = shutil.which("chromium-headless-shell", path="/usr/lib/chromium:/usr/bin")
    if found is None:
        pytest.skip("chromium-headless-shell is not installed")
    return found


@contextmanager
def chromium_running(*switches):
    """Run a Chromium with a profile that is deleted at the end; give it."""
    binary = installed_chromium()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        closing(Chromium(binary, folder, *switches)) as chromium,
    ):
        chromium.call("Browser.getVersion")
        yield chromium
