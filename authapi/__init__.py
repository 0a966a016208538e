"""authapi: a small, fast, self-hosted authentication service.

`create_app(Settings(...))` gives a Falcon application to serve, or to add resources to. `mount`
puts it into a Falcon application that is there already, and `protect` tells any WSGI application
whose session a request comes in.
"""

from authapi.app import AuthAPI, create_app
from authapi.embed import mount, protect
from authapi.errors import Failure, StartError
from authapi.setting import SettingError
from authapi.settings import Settings

__all__ = [
    "AuthAPI",
    "Failure",
    "SettingError",
    "Settings",
    "StartError",
    "create_app",
    "mount",
    "protect",
]
__version__ = "0.2.0.dev0"
