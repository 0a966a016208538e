"""Build `authapi/data/common-passwords.txt` from a frequency list of passwords.

    python tools/common_passwords.py top100000 > authapi/data/common-passwords.txt

The source is `build_collection/top100000` of https://github.com/cry/nbp (MIT License): the 100,000
most common passwords of published breaches, one a line, the most common first.

The result is in lower case and sorted by bytes, so that it can be searched on disk. It contains
each password of at least 8 characters, and each of 4 to 7 letters: those are too short for a
password, but people add digits and signs to them.
"""

import sys
from pathlib import Path

WHOLE = 8  # characters of the shortest password that the service accepts
STEM = 4  # letters of the shortest word that people extend


def words(text: str) -> list[str]:
    """Return the words of the list, given the text of the source."""
    known = {line.casefold() for line in text.splitlines()}
    kept = {word for word in known if len(word) >= WHOLE or (len(word) >= STEM and word.isalpha())}
    return sorted(kept, key=str.encode)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    for word in words(Path(sys.argv[1]).read_text(encoding="utf-8")):
        print(word)
