"""The schemas of bodies and answers, made of their structs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any

import msgspec

from authapi.answers import Answer

PREFIX = "#/components/schemas/"
_SHOWN = "Shown"  # which the names of structs begin with, and those of schemas do not


class Schemas:
    """The structs that a document refers to."""

    def __init__(self) -> None:
        """Start without any."""
        self._structs: dict[type[msgspec.Struct], None] = {}

    def reference(self, struct: type[msgspec.Struct]) -> dict[str, str]:
        """Return the reference to a struct's schema, which is then one of the components."""
        self._structs[struct] = None
        return {"$ref": f"{PREFIX}{_name(struct.__name__)}"}

    def components(self) -> dict[str, Any]:
        """Return the schemas by name.

        A body has no other fields than these. An answer has all of them, and may have more.
        """
        answers = [each for each in self._structs if issubclass(each, Answer)]
        bodies = [each for each in self._structs if not issubclass(each, Answer)]
        made = {_name(name): _of_answer(each) for name, each in _components(answers).items()}
        made |= {_name(name): _of_body(each) for name, each in _components(bodies).items()}
        return dict(sorted(_renamed(made).items()))


def _components(structs: Sequence[type[msgspec.Struct]]) -> dict[str, Any]:
    return msgspec.json.schema_components(structs, ref_template=f"{PREFIX}{{name}}")[1]


def schema_of(kind: Any) -> dict[str, Any]:  # noqa: ANN401 - any type
    """Return the schema of a type that is no struct."""
    (made,), _ = msgspec.json.schema_components((kind,), ref_template=f"{PREFIX}{{name}}")
    return made


def parameters_of(struct: type[msgspec.Struct]) -> list[dict[str, Any]]:
    """Return the parameters of a query whose fields a struct declares."""
    _, found = msgspec.json.schema_components((struct,))
    parameters = []
    for name, schema in found[struct.__name__]["properties"].items():
        text = schema.pop("description", "")
        parameters.append({"name": name, "in": "query", "description": text, "schema": schema})
    return parameters


def _name(name: str) -> str:
    return name.removeprefix(_SHOWN)


def _of_body(schema: dict[str, Any]) -> dict[str, Any]:
    return {**_untitled(schema), "additionalProperties": False}


def _of_answer(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an answer: fields with a default are there too, and the times are dates.

    A field that may be unset has no default.
    """
    made = _untitled(schema)
    properties = {name: dict(each) for name, each in made.get("properties", {}).items()}
    always = {*made.get("required", ())}
    for name, each in properties.items():
        if "default" in each:
            del each["default"]
            always.add(name)
        if (name == "time" or name.endswith(("_at", "timestamp"))) and each.get("type") == "string":
            each["format"] = "http-date"
    required = [name for name in properties if name in always]
    return {**made, "properties": properties, "required": required}


def _untitled(schema: Mapping[str, Any]) -> dict[str, Any]:
    made = {name: value for name, value in schema.items() if name != "title"}
    if "description" in made:  # NOTE: before 3.13, Python keeps the indentation of docstrings
        made["description"] = cleandoc(made["description"])
    return made


def _renamed(made: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a part of the document whose references have the names of schemas."""
    if isinstance(made, dict):
        return {name: _renamed(value) for name, value in made.items()}
    if isinstance(made, list):
        return [_renamed(value) for value in made]
    if isinstance(made, str) and made.startswith(PREFIX):
        return PREFIX + _name(made.removeprefix(PREFIX))
    return made
