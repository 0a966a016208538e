"""A table of users of a Flask application, with hashes of Werkzeug (scrypt or PBKDF2)."""

from __future__ import annotations

from authapi.imports.formats import Format
from authapi.imports.from_table import reader
from authapi.imports.hashes import werkzeug

FORMAT = Format(read=reader(werkzeug))
