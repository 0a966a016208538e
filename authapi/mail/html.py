"""The HTML part of a mail, which is made from its text."""

from __future__ import annotations

import html
import re
from string import Template

LINK = re.compile(r"https?://[^\s<>\"]+")
_CODE = re.compile(r"[0-9]{6,8}|[A-Z0-9]{4,}(?:-[A-Z0-9]{4,})+")
_BUTTON = (
    '<p><a href="$link" style="display:inline-block;padding:10px 20px;background:#18181b;'
    'color:#ffffff;border-radius:6px;text-decoration:none;word-break:break-all">$link</a></p>'
)
_LARGE = '<p style="font-size:32px;letter-spacing:4px;margin:16px 0"><strong>$code</strong></p>'


def html_of(subject: str, text: str, language: str, layout: str) -> str:
    """Return the HTML of a text: paragraphs, with a link or a code alone on a line made large."""
    body = "\n".join(map(_block, re.split(r"\n{2,}", text.strip())))
    values = {"language": html.escape(language), "subject": html.escape(subject), "body": body}
    return Template(layout).substitute(values)


def _block(paragraph: str) -> str:
    """Return a paragraph. SECURITY: every text is escaped, and only whole lines become links."""
    line = paragraph.strip()
    if LINK.fullmatch(line):
        return Template(_BUTTON).substitute(link=html.escape(line))
    if _CODE.fullmatch(line):
        return Template(_LARGE).substitute(code=html.escape(line))
    return f"<p>{html.escape(line).replace(chr(10), '<br>' + chr(10))}</p>"
