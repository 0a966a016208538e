"""authapi: a small, fast, self-hosted authentication service.

`create_app(Settings(...))` gives a Falcon application to serve, or to add resources to.
"""

from authapi.app import AuthAPI, create_app
from authapi.errors import Failure, StartError
from authapi.settings import SettingError, Settings

__all__ = ["AuthAPI", "Failure", "SettingError", "Settings", "StartError", "create_app"]
__version__ = "0.1.0"
