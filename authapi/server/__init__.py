"""The server: everything that knows waitress, and running the service as a process.

`serve` is the front: it runs an application until a signal ends it. `Server` answers requests on a
listening socket, such as one that `listen` gives, for tests.
"""

from authapi.server.http_server import Server
from authapi.server.process import listen, serve

__all__ = ["Server", "listen", "serve"]
