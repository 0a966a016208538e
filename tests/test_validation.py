"""Validation: each fault of a body is named by its field, nested fields by their path."""

from typing import Annotated

import msgspec
import pytest

from authapi.errors import ValidationFailed
from authapi.validation import broken, validated


class Signature(msgspec.Struct, rename="camel"):
    """What a key signed."""

    client_data: str
    counter: int = 0
    user_handle: str | None = None


class Assertion(msgspec.Struct):
    """What a browser answers for a key."""

    id: str
    response: Signature
    transports: list[str] = []
    extensions: dict[str, object] = {}


class ProofBody(msgspec.Struct):
    """A code or an assertion."""

    code: str | None = None
    credential: Assertion | None = None
    remember: bool = False
    note: Annotated[str, msgspec.Meta(max_length=3)] = ""
    weight: float = 0


GOOD = {"id": "a", "response": {"clientData": "b"}}


def exactly_one(fields):
    """A rule across fields."""
    given = [name for name in ("code", "credential") if fields.get(name) is not None]
    return {} if len(given) == 1 else {"code": "Give a code or a credential."}


def faults_of(document, rules=None):
    try:
        validated(document, ProofBody, rules)
    except ValidationFailed as failure:
        return {error["field"]: error["message"] for error in failure.fields["errors"]}
    return {}


def test_nested():
    """Nested structs, lists and optional fields become what the body declares."""
    document = {
        "credential": {**GOOD, "transports": ["usb"], "extensions": {"x": [1]}},
        "code": None,
        "weight": 1,
    }

    body = validated(document, ProofBody, exactly_one)

    assert body.credential == Assertion("a", Signature("b"), ["usb"], {"x": [1]})
    assert (body.code, body.remember, body.weight) == (None, False, 1.0)


@pytest.mark.parametrize(
    ("document", "faults"),
    [
        ({"code": 1}, {"code": "Must be text."}),
        ({"remember": None}, {"remember": "Must be true or false."}),
        ({"remember": 1}, {"remember": "Must be true or false."}),
        ({"weight": "1"}, {"weight": "Must be a number."}),
        ({"weight": True}, {"weight": "Must be a number."}),
        ({"note": "long"}, {"note": "Is out of bounds."}),
        ({"credential": []}, {"credential": "Must be an object."}),
        ({"credential": "x"}, {"credential": "Must be an object."}),
        (
            {"credential": {}},
            {"credential.id": "Is required.", "credential.response": "Is required."},
        ),
        (
            {"credential": {**GOOD, "response": {}}},
            {"credential.response.clientData": "Is required."},
        ),
        (
            {"credential": {**GOOD, "response": {"clientData": 1, "counter": "2", "x": 3}}},
            {
                "credential.response.clientData": "Must be text.",
                "credential.response.counter": "Must be a whole number.",
                "credential.response.x": "Is no field here.",
            },
        ),
        ({"credential": {**GOOD, "transports": {}}}, {"credential.transports": "Must be a list."}),
        (
            {"credential": {**GOOD, "transports": ["usb", 1, None]}},
            {
                "credential.transports.1": "Must be text.",
                "credential.transports.2": "Must be text.",
            },
        ),
        (
            {"credential": {**GOOD, "extensions": []}},
            {"credential.extensions": "Must be an object."},
        ),
        ({"x": 1}, {"x": "Is no field here."}),
    ],
)
def test_faults(document, faults):
    """A fault of type is named at its place, and so are missing and unknown fields."""
    assert faults_of(document) == faults


def test_order():
    """The faults of declared fields come first, in their order, then those of unknown ones."""
    document = {"x": 1, "remember": 1, "credential": {**GOOD, "id": 1}, "note": "abc"}

    found = faults_of(document, lambda _: {"note": "Is a rule's.", "code": "Is another's."})

    assert list(found) == ["code", "credential.id", "remember", "note", "x"]


def test_rules_get_what_has_the_right_type():
    """A rule sees the fields whose types are right, and no other; its faults join the others'."""
    seen = {}

    def rules(fields):
        seen.update(fields)
        return {"code": "Is against the rule."}

    found = faults_of({"code": "1", "credential": {}, "remember": True, "x": 1}, rules)

    assert seen == {"code": "1", "remember": True}
    assert found["code"] == "Is against the rule."
    assert set(found) == {"code", "credential.id", "credential.response", "x"}


def test_a_rule_across_fields():
    """A rule may look at several fields, nested ones too."""
    assert faults_of({}, exactly_one) == {"code": "Give a code or a credential."}
    assert faults_of({"code": "1", "credential": GOOD}, exactly_one) != {}
    assert faults_of({"code": "1"}, exactly_one) == {}
    assert faults_of({"credential": GOOD}, exactly_one) == {}


def test_rules_of_single_fields():
    """Rules that look at one field each are asked for the fields that are there."""
    rules = {"code": lambda code: None if code else "Is empty.", "other": lambda _: "Never."}

    assert broken(rules, {"code": ""}) == {"code": "Is empty."}
    assert broken(rules, {"code": "1"}) == broken(rules, {"other": None}) == {}
