"""The server: everything that knows waitress, and running the service as a process.

`serve` is the front: it runs an application until a signal ends it. Tests use `Server`, which
answers requests on a listening socket, and `listen`, which makes one. Every name that this package
uses of waitress beyond its documentation is listed in tests/test_private_names.py.
"""

from authapi.server.bounds import Bounds
from authapi.server.http_server import Server
from authapi.server.listeners import listen
from authapi.server.process import serve

__all__ = ["Bounds", "Server", "listen", "serve"]
