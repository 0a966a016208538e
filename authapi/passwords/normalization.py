"""Unicode normalization (UAX 15) in linear time."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]

SHORT = 256  # code points, for which `unicodedata` is always quick
_MANY_MARKS = re.compile("m{31,}")  # more in a row than any language needs (UAX 15, 13.1)


def nfc(text: str) -> str:
    """Return the text in NFC."""
    return normalized("NFC", text)


def normalized(form: Form, text: str) -> str:
    """Return the text in a normalization form.

    SECURITY: `unicodedata.normalize` sorts each run of combining marks in quadratic time. 4,096
    marks take 28 ms, in which no other thread runs. So this function sorts them first.
    """
    if text.isascii() or len(text) <= SHORT:
        return unicodedata.normalize(form, text)
    parted: Form = "NFKD" if "K" in form else "NFD"
    parts = text.translate({ord(each): unicodedata.normalize(parted, each) for each in set(text)})
    kinds = {ord(part): "m" if unicodedata.combining(part) else "s" for part in set(parts)}
    ordered, end = [], 0
    for run in _MANY_MARKS.finditer(parts.translate(kinds)):
        ordered.append(parts[end : run.start()])
        ordered += sorted(parts[run.start() : run.end()], key=unicodedata.combining)
        end = run.end()
    return unicodedata.normalize(form, "".join([*ordered, parts[end:]]))
