"""A table of users with hashes of passlib, or of its successor libpass."""

from __future__ import annotations

from authapi.imports.formats import Format
from authapi.imports.from_table import reader
from authapi.imports.hashes import plain

FORMAT = Format(read=reader(plain))
