"""Normalisation that does not take quadratic time."""

import time
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from authapi.passwords.normalization import SHORT, nfc

MARKS = [chr(code) for code in range(0x20000) if unicodedata.combining(chr(code))]  # no more
CLASSES = sorted({unicodedata.combining(mark): mark for mark in MARKS}.items(), reverse=True)
HOSTILE = "".join(mark * (4_096 // len(CLASSES)) for _, mark in CLASSES)
SOUNDS = (
    "aAeo\u00c5\u1e69\u0344\u0f73\u1100\u1161\u11a8\uac00\ufb1d"  # some with parts of their own
)


@given(
    st.text(st.sampled_from(MARKS) | st.sampled_from(SOUNDS) | st.characters(), max_size=40),
    st.lists(st.sampled_from(MARKS), max_size=80).map("".join),
)
def test_the_same_as_unicodedata(text, marks):
    """A long text becomes what it becomes in unicodedata, whatever stands in it."""
    long = text + marks + text + "\u00e9" * (SHORT + 1)

    assert unicodedata.normalize("NFC", long) == nfc(long)


def cpu(text):
    """Return the CPU seconds that a text takes, of the quickest of three tries."""
    times = []
    for _ in range(3):
        began = time.process_time()
        nfc(text)
        times.append(time.process_time() - began)
    return min(times)


def test_marks_cost_no_quadratic_time():
    """Eight times as many marks out of order take about eight times the CPU time, and not 64."""
    assert cpu(HOSTILE * 8) < 24 * cpu(HOSTILE)
