"""Messages: the templates of mails in their languages, and the messages made of them.

A template is `LANGUAGE/NAME.txt`: a subject, an empty line and the text, with `$name` for a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from string import Template

from authapi.mail.html import LINK, html_of

OWN = Path(__file__).parent / "templates"
DATES, LAYOUT = "dates", "layout.html"
LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8})*")
LONGEST_SUBJECT = 200  # characters

# What ends a line or is no text: it would let a value add lines of its own.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
# What mail programs take for a part of a domain.
_DOT = re.compile(r"\.(?=[^\W\d_])")
_WORD_JOINER = "\u2060"
_ACCEPTED = re.compile(
    r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?)\s*)?"
)
_MOST_ACCEPTED = 16  # languages of a header that are looked at


class TemplateFault(ValueError):
    """Raised for a template that cannot be used. Its text is a sentence."""


@dataclass(frozen=True, slots=True)
class Text:
    """The subject and the two parts of a mail."""

    subject: str
    text: str
    html: str
    language: str


class Templates:
    """The templates: the operator's own, and beside them ours. Files are read at each use."""

    def __init__(self, own: str, default: str) -> None:
        """Take the operator's directory, or an empty text, and the default language."""
        self._folders = [*([Path(own)] if own else []), OWN]
        self.default = default

    @property
    def languages(self) -> list[str]:
        """Return the languages that there are: the names of directories."""
        found = {
            entry.name
            for folder in self._folders
            for entry in folder.iterdir()
            if LANGUAGE.fullmatch(entry.name) and entry.is_dir()
        }
        return sorted(found)

    def language_of(self, accepted: str) -> str:
        """Return the language that an Accept-Language header prefers, or an empty text.

        `de-AT` is `de` where there is no `de-at` (RFC 4647, 3.4).
        """
        known = set(self.languages)
        wanted = []
        for place, item in enumerate(accepted[:1_000].split(",")[:_MOST_ACCEPTED]):
            match = _ACCEPTED.fullmatch(item)
            if match and (quality := float(match[2] or 1)) > 0:
                wanted.append((-quality, place, match[1].lower()))
        return next(
            (each for *_, tag in sorted(wanted) for each in _ranges(tag) if each in known), ""
        )

    def render(self, name: str, language: str, values: Mapping[str, str | datetime]) -> Text:
        """Return a mail in a language, or in the default one where that has no such template.

        Raises TemplateFault, also for a value that the template uses and does not get.
        """
        language, source = self._source(name, language)
        shown = {key: self._shown(value, language) for key, value in values.items()}
        subject, _, text = source.partition("\n\n")
        subject, text = (_filled(each, shown, name) for each in (subject, text.strip("\n")))
        # SECURITY: the parser of headers would decode an encoded word, with its line breaks.
        subject = " ".join(subject.replace("=?", "= ?").split())[:LONGEST_SUBJECT]
        layout = self._read(LAYOUT)
        return Text(subject, f"{text}\n", html_of(subject, text, language, layout), language)

    def check(self, names: Iterable[str], values: Iterable[str]) -> None:
        """Raise TemplateFault for a template that is missing or uses other values than these."""
        known = {*values, "app"}
        for name in names:
            for language in self.languages:
                _, source = self._source(name, language)
                subject, empty, text = source.partition("\n\n")
                if "\n" in subject or not (subject.strip() and empty and text.strip()):
                    raise TemplateFault(
                        f"The template {language}/{name}.txt must be a subject, an empty line and "
                        "the text."
                    )
                if unknown := [each for each in _names(source, name) if each not in known]:
                    raise TemplateFault(
                        f"The template {language}/{name}.txt uses ${unknown[0]}, which this mail "
                        f"does not have: use {', '.join(sorted('$' + each for each in known))}."
                    )

    def _source(self, name: str, language: str) -> tuple[str, str]:
        """Return a template, and its language."""
        for each in (language, self.default, "en"):
            if each and (source := self._read(f"{each}/{name}.txt", "")):
                return each, source
        raise TemplateFault(f"There is no template {self.default}/{name}.txt.")

    def _read(self, path: str, default: str | None = None) -> str:
        for folder in self._folders:
            try:
                return (folder / path).read_text(encoding="utf-8").replace("\r\n", "\n")
            except FileNotFoundError:
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise TemplateFault(f"{folder / path} cannot be read ({error}).") from error
        if default is None:
            raise TemplateFault(f"There is no template {path}.")
        return default

    def _shown(self, value: str | datetime, language: str) -> str:
        """Return a value as one line of text."""
        if isinstance(value, str):
            return _CONTROL.sub(" ", value)
        line, _, months = self._source(DATES, language)[1].partition("\n")
        return Template(line).substitute(
            day=value.day,
            month=months.split()[value.month - 1],
            year=value.year,
            time=f"{value:%H:%M}",
        )


def unlinked(value: str | datetime) -> str | datetime:
    """Return a value without what mail programs make a link of, unless it is a link as a whole.

    SECURITY: strangers choose usernames, such as `evil.example`, and whom the mail goes to. A word
    joiner before a dot is invisible, and no domain has one. `username_key` ignores it, so a name
    that is copied from a mail can be typed.
    """
    if isinstance(value, datetime) or LINK.fullmatch(value):
        return value
    return _DOT.sub(f"{_WORD_JOINER}.", value)


def _ranges(tag: str) -> Iterator[str]:
    """Yield a tag, and what it is a kind of: `de-at`, then `de`."""
    while tag:
        yield tag
        tag = tag.rpartition("-")[0]


def _filled(source: str, values: Mapping[str, str], name: str) -> str:
    """Return a template with its values.

    SECURITY: `string.Template` has no attributes and no formats, and looks at no value twice.
    """
    try:
        return Template(source).substitute(values)
    except (KeyError, ValueError) as error:
        raise TemplateFault(f"The template {name} cannot be filled in ({error!r}).") from error


def _names(source: str, name: str) -> list[str]:
    template = Template(source)
    if not template.is_valid():
        raise TemplateFault(f"The template {name} has a $ that begins no name: write $$ for a $.")
    return template.get_identifiers()
