"""A table of users of Flask-Security, whose hashes are of keyed digests of the passwords."""

from __future__ import annotations

from authapi.imports.formats import Format
from authapi.imports.from_table import reader
from authapi.imports.hashes import peppered

FORMAT = Format(read=reader(peppered))
