"""Validation: checking a JSON object against the declaration of a request body.

A body is a `msgspec.Struct`. Its fields are texts, numbers, `bool`, lists, objects and further
structs, and may be optional. A nested field is named by its path: `credential.response.signature`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import msgspec

from authapi.errors import ValidationFailed

Body = TypeVar("Body", bound=msgspec.Struct)
Fields = Mapping[str, Any]
Faults = Mapping[str, str]
Rules = Callable[[Fields], Faults]

_NAMES: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def validated(document: Fields, body: type[Body], rules: Rules | None = None) -> Body:
    """Return a JSON object as a `body`.

    `rules` receives the fields whose types are right, by name, and returns the faults of those that
    break a rule. Raises ValidationFailed with the faults of all fields: first the declared fields,
    in their order, then the unknown ones.
    """
    known = {field.encode_name: field for field in msgspec.structs.fields(body)}
    typed = {name: dict(_faults_of_field(document, field, name)) for name, field in known.items()}
    sound = {name: document[name] for name in known if name in document and not typed[name]}
    ruled = dict(rules(sound)) if rules else {}
    faults: dict[str, str] = {}
    for name in known:
        faults |= typed[name] or ({name: ruled[name]} if name in ruled else {})
    faults |= {name: fault for name, fault in ruled.items() if name not in known}
    faults |= {name: "Is no field here." for name in document if name not in known}
    if faults:
        raise ValidationFailed(faults)
    return msgspec.convert(document, body)


def broken(rules: Mapping[str, Callable[[str], str | None]], fields: Fields) -> dict[str, str]:
    """Return the faults of fields by rules that look at one field each. `None` breaks no rule."""
    given = {name: fields[name] for name in rules if fields.get(name) is not None}
    found = {name: rules[name](value) for name, value in given.items()}
    return {name: fault for name, fault in found.items() if fault}


def _faults_of_field(
    document: Fields, field: msgspec.structs.FieldInfo, path: str
) -> Iterator[tuple[str, str]]:
    if field.encode_name in document:
        yield from _faults(document[field.encode_name], field.type, path)
    elif field.required:
        yield path, "Is required."


def _faults(value: object, wanted: Any, path: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any type
    """Yield each fault of a value, with the path of its field."""
    kind = _kinds(wanted)[0]
    if isinstance(value, dict) and _is_struct(kind):
        known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        for name, field in known.items():
            yield from _faults_of_field(value, field, f"{path}.{name}")
        for name in value:
            if name not in known:
                yield f"{path}.{name}", "Is no field here."
    elif isinstance(value, list) and get_origin(kind) is list:
        for number, item in enumerate(value):
            yield from _faults(item, get_args(kind)[0], f"{path}.{number}")
    elif not _fits(value, wanted):
        plain = dict if _is_struct(kind) else get_origin(kind) or kind
        of_type = f"Must be {_NAMES.get(plain, 'of another type')}."
        yield path, "Is out of bounds." if _fits(value, kind) else of_type


def _fits(value: object, wanted: Any) -> bool:  # noqa: ANN401 - any type
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError:
        return False
    return True


@cache
def _kinds(wanted: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any type
    """Return the types that a declaration permits, `None` last."""
    if get_origin(wanted) is Annotated:
        return _kinds(get_args(wanted)[0])
    if get_origin(wanted) not in {Union, UnionType}:
        return (wanted,)
    kinds = [kind for each in get_args(wanted) for kind in _kinds(each)]
    return tuple(sorted(kinds, key=lambda kind: kind is NoneType))


def _is_struct(kind: Any) -> bool:  # noqa: ANN401 - any type
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)
