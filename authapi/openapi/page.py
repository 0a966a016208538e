"""The API document as one page of HTML, without a script and without another file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

STYLE = (Path(__file__).parent / "page.css").read_text(encoding="ascii")
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
STYLE_SOURCE = f"'sha256-{_HASH}'"


def rendered(made: dict[str, Any]) -> bytes:
    """Return the page of an OpenAPI document that `document` made."""
    info, base = made["info"], made["servers"][0]["url"].rstrip("/")
    page = _Page(made, base)
    operations = [
        (method, path, operation)
        for path, methods in made["paths"].items()
        for method, operation in methods.items()
    ]
    contents = "".join(_entry(*each) for each in operations)
    sections = "".join(page.section(*each) for each in operations)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style></head><body>"
        f'<div class="page"><nav aria-label="Routes"><ul>{contents}</ul></nav><main>'
        f"<h1>{escape(info['title'])} API</h1><p class=quiet>{escape(info['summary'])}</p>"
        f"{_text(info['description'])}{page.variables(made['paths'])}"
        f'<p>For programs: <a href="{escape(base)}/openapi.json">openapi.json</a></p>'
        f"{sections}</main></div></body></html>\n"
    ).encode()


def _anchor(method: str, path: str, operation: dict[str, Any]) -> str:
    name = operation.get("operationId") or f"{method}{path}"
    return re.sub(r"\W+", "-", str(name)).strip("-")


def _entry(method: str, path: str, operation: dict[str, Any]) -> str:
    return (
        f'<li><a href="#{_anchor(method, path, operation)}"><span class=method>{method.upper()}'
        f"</span><code>{escape(path)}</code></a></li>"
    )


class _Page:
    """Renders the operations of a document."""

    def __init__(self, made: dict[str, Any], base: str) -> None:
        self._components, self._base = made["components"], base

    def variables(self, paths: dict[str, Any]) -> str:
        """Return what the variables of the curl lines are, with the line that gets a token."""
        text = (
            "In the lines for curl, `$URL` is the origin of this page, without a slash at the end, "
            "and `$TOKEN` is the token of a session."
        )
        login = paths.get("/login", {}).get("post")
        if not login:
            return _text(text)
        line = f"{self._curl('post', '/login', login)} \\\n  -H 'Authapi-Token: body'"
        return f"{_text(f'{text} This login answers with one:')}<pre>{escape(line)}</pre>"

    def section(self, method: str, path: str, operation: dict[str, Any]) -> str:
        """Return all that a reader needs of one operation."""
        anchor = _anchor(method, path, operation)
        parts = (
            f"<h2 id={anchor}><span class=method>{method.upper()}</span> {_code(path)}</h2>",
            f"<p>{escape(operation['summary'])}</p>",
            f"<p class=quiet>{_session(operation)} {escape(operation.get('description', ''))}</p>",
            self._parameters(operation.get("parameters", [])),
            self._body(operation.get("requestBody")),
            self._successes(operation["responses"]),
            self._failures(operation["responses"]),
            "<h3>With curl</h3>",
            f"<pre>{escape(self._curl(method, path, operation))}</pre>",
        )
        return f"<section aria-labelledby={anchor}>{''.join(parts)}</section>"

    def _parameters(self, parameters: list[dict[str, Any]]) -> str:
        rows = [
            (_code(each["name"]), f"in the {each['in']}", _inline(each["description"]))
            for each in parameters
        ]
        return _table("Parameters", ("name", "place", "what it is"), rows)

    def _body(self, body: dict[str, Any] | None) -> str:
        if body is None:
            return ""
        title = "Body" if body["required"] else "Body, which may be left out"
        return self._fields(title, body["content"]["application/json"]["schema"])

    def _successes(self, responses: dict[str, Any]) -> str:
        parts = []
        for status, each in responses.items():
            if "$ref" not in each:
                (media_type, content), *_ = [*each.get("content", {}).items()] or [("", {})]
                schema, title = content.get("schema", {}), f"Answer: {status}"
                name = media_type or each["description"]
                shown = self._fields(title, schema) if "$ref" in schema else ""
                parts.append(shown or f"<h3>{title}</h3><p>{escape(name)}</p>")
                parts.append(_table("", ("header", "what it is"), self._headers(each)))
        return "".join(parts)

    def _headers(self, response: dict[str, Any]) -> Iterator[Sequence[str]]:
        for name, header in response.get("headers", {}).items():
            if name != "X-Request-ID":
                found = self._found(header)
                yield _code(name), _inline(found["description"])

    def _failures(self, responses: dict[str, Any]) -> str:
        """Return the failures: those of the operation first, those of any request folded away."""
        own: list[Sequence[str]] = []
        common: list[Sequence[str]] = []
        for status, reference in responses.items():
            if "$ref" in reference:
                for line in self._found(reference)["description"].splitlines():
                    name, _, text = line.removeprefix("- ").partition(": ")
                    row = status, _inline(name).replace("_", "_<wbr>"), _inline(text)
                    (common if name.strip("`") in COMMON else own).append(row)
        head = ("status", "error", "when")
        folded = _table("", head, common)
        return _table("Failures", head, own) + (
            f"<details><summary>Failures of any request</summary>{folded}</details>"
        )

    def _fields(self, title: str, schema: dict[str, Any]) -> str:
        rows = [*self._rows(schema, "")]
        columns = 3 if any(text for _, _, text in rows) else 2
        return _table(
            title, ("field", "type", "what it is")[:columns], (row[:columns] for row in rows)
        )

    def _rows(self, schema: dict[str, Any], above: str) -> Iterator[Sequence[str]]:
        found = self._found(schema)
        for name, each in found.get("properties", {}).items():
            if name in ENVELOPE:
                continue
            required = name in found.get("required", ())
            text = _inline(each.get("description", ""))
            optional = "" if required else "<span class=quiet>, may be left out</span>"
            shown = _code(above + name).replace(".", ".<wbr>")
            yield shown, self._type(each) + optional, text
            inner = each.get("items", each)
            if "$ref" in inner:
                yield from self._rows(inner, f"{above}{name}{'[]' if 'items' in each else ''}.")

    def _type(self, schema: dict[str, Any]) -> str:
        if "anyOf" in schema:
            return " or ".join(self._type(each) for each in schema["anyOf"])
        if "items" in schema:
            return f"list of {self._type(schema['items'])}s"
        if "$ref" in schema:
            return "object"
        kind = "HTTP-date" if schema.get("format") == "http-date" else schema.get("type", "any")
        low, high = (schema.get(name) for name in ("minLength", "maxLength"))
        bounds = {(True, True): f", {low} to {high}", (False, True): f", up to {high}"}
        return escape(kind + bounds.get((low is not None, high is not None), ""))

    def _curl(self, method: str, path: str, operation: dict[str, Any]) -> str:
        verb = "" if method == "get" else f"-X {method.upper()} "
        lines = [f'curl {verb}"$URL{self._base}{path}"']
        if {"bearer": []} in operation["security"] and {} not in operation["security"]:
            lines.append('-H "Authorization: Bearer $TOKEN"')
        body = operation.get("requestBody")
        if body and body["required"]:
            example = self._example(body["content"]["application/json"]["schema"])
            lines += ["-H 'Content-Type: application/json'", f"-d '{json.dumps(example)}'"]
        return " \\\n  ".join(lines)

    def _example(self, schema: dict[str, Any]) -> dict[str, Any]:
        properties = self._found(schema)["properties"].items()
        found = {name: each["examples"][0] for name, each in properties if "examples" in each}
        return found or {name: "…" for name, _ in list(properties)[:1]}

    def _found(self, part: dict[str, Any]) -> dict[str, Any]:
        """Return a part of the document, or the component that it refers to."""
        if "$ref" not in part:
            return part
        _, _, kind, name = part["$ref"].split("/")
        component: dict[str, Any] = self._components[kind][name]
        return component


ENVELOPE = frozenset({"code", "message", "timestamp"})  # which the page describes once
COMMON = frozenset(
    {
        *("bad_request", "https_required", "request_timeout", "payload_too_large"),
        *("uri_too_long", "headers_too_large", "internal_error", "not_implemented"),
        *("unavailable", "length_required", "unsupported_media_type", "cross_site_request"),
    }
)


def _session(operation: dict[str, Any]) -> str:
    if {} in operation["security"]:
        return "Works with and without a session."
    return "Needs a session." if operation["security"] else "Needs no session."


def _table(title: str, head: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    lines = "".join(f"<tr><td>{'<td>'.join(row)}" for row in rows)
    if not lines:
        return ""
    heading = f"<h3>{title}</h3>" if title else ""
    names = "".join(f"<th scope=col>{name}" for name in head)
    return f"{heading}<div class=wide><table><thead><tr>{names}<tbody>{lines}</table></div>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _inline(text: str) -> str:
    """Return a text with what stands between backticks as code."""
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text))


def _text(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n"))
