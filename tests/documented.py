"""Checks answers against docs/openapi.json, which the whole test suite does through `Client`."""

import json
from functools import cache
from pathlib import Path

import jsonschema_rs

PLACE = Path(__file__).parent.parent / "docs" / "openapi.json"
EVERYWHERE = {  # headers that every answer may have, and those of another origin
    *("access-control-allow-credentials", "access-control-allow-origin", "vary"),
    *("access-control-expose-headers", "cache-control", "content-length", "content-type"),
    *("content-security-policy", "cross-origin-resource-policy", "referrer-policy"),
    *("strict-transport-security", "x-content-type-options"),
}


@cache
def document():
    return json.loads(PLACE.read_text())


@cache
def names():
    """Return the names of all failures that the document knows."""
    schemas = document()["components"]["schemas"].values()
    errors = [each.get("properties", {}).get("error", {}) for each in schemas]
    return {name for each in errors for name in each.get("enum", ())}


@cache
def closed():
    """Return the schemas, without fields beside those that they name."""
    return {
        name: {**schema, "additionalProperties": False} if "properties" in schema else schema
        for name, schema in document()["components"]["schemas"].items()
    }


@cache
def declared(path, method, status):
    """Return what the document says of an answer, or None."""
    found = document()["paths"][path][method.lower()]["responses"].get(str(status))
    if found and "$ref" in found:
        found = document()["components"]["responses"][found["$ref"].rpartition("/")[2]]
    return found


@cache
def validator(path, method, status, media_type):
    """Return what checks the body of an answer."""
    content = declared(path, method, status)["content"]
    schema = {**content[media_type]["schema"], "components": {"schemas": closed()}}
    return jsonschema_rs.Draft202012Validator(
        schema, validate_formats=True, formats={"http-date": is_http_date}
    )


def is_http_date(text):
    return len(text) == 29 and text.endswith(" GMT")


@cache
def allowed_headers(path, method, status):
    return {name.lower() for name in declared(path, method, status).get("headers", {})}


def check(template, method, status, headers, text):
    """Check an answer of a route: its status, media type, headers, failure and body.

    `headers` have lower-case names. Routes and failures of a test's own are not in the document.
    """
    path, method = template.replace(":path}", "}"), "GET" if method == "HEAD" else method
    if method.lower() not in document()["paths"].get(path, ()):
        return
    media_type = headers.get("content-type", "").partition(";")[0]
    body = json.loads(text) if text and media_type.endswith("json") else None
    if status >= 400 and body and body.get("error", "") not in {*names(), ""}:
        return
    told = f"{method} {path} answers {status} {text[:300]}"
    assert declared(path, method, status), f"{told}: docs/openapi.json has no such status"
    unknown = {*headers} - EVERYWHERE - allowed_headers(path, method, status)
    assert not unknown, f"{told}: docs/openapi.json does not have the headers {unknown}"
    content = declared(path, method, status).get("content", {})
    assert not text or media_type in content, f"{told}: docs/openapi.json has no {media_type!r}"
    if body is not None:
        found = validator(path, method, status, media_type)
        fault = next(found.iter_errors(body), None)
        assert fault is None, f"{told}: docs/openapi.json says otherwise: {fault}"
        if media_type == "application/problem+json":
            assert body["error"] in errors_of(path, method, status), told


@cache
def errors_of(path, method, status):
    content = declared(path, method, status)["content"]["application/json"]["schema"]
    schema = document()["components"]["schemas"][content["$ref"].rpartition("/")[2]]
    return set(schema["properties"]["error"]["enum"])
