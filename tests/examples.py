"""The examples of the pages on embedding and on users, which the tests run as their readers do."""

import re
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from conftest import start

ROOT = Path(__file__).parent.parent
PAGES = ("embedding", "asgi", "features/user_management")


def page(name):
    return (ROOT / "docs" / f"{name}.md").read_text()


def examples(*pages):
    """Return the examples of pages, by the file name in their first line."""
    text = "".join(map(page, pages or PAGES))
    found = re.findall(r"^```python\n(# (\w+\.py).*?)^```", text, re.DOTALL | re.MULTILINE)
    return {name: code for code, name in found}


@contextmanager
def example(folder, name, **environ):
    """Run an example in a process, beside the others, but on a free port; give the URL."""
    assert examples()[name].count("8000") == 1
    for each, code in examples().items():
        (folder / each).write_text(re.sub(r"127\.0\.0\.1:8000|port=8000", _on_a_free_port, code))
    service = start(folder, run=(folder / name,), **environ)
    try:
        line = next(line for line in service.stderr if re.search("(Serving|running) on", line))
        yield re.search(r"http://\S+:\d+", line)[0]
    finally:
        service.kill()
        service.communicate()


def status_of(url, **headers):
    """Return the status of an answer, which need not be JSON."""
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
        connection.request("GET", urlsplit(url).path, headers=headers)
        return connection.getresponse().status


def _on_a_free_port(found):
    return found[0].replace("8000", "0")
