"""Operations: what a responder declares is done before it runs."""

import msgspec
import pytest
from conftest import USER, token_of

from authapi import Failure, features, fresh
from authapi.answers import Answer
from authapi.bodies import has_body
from authapi.feature import load
from authapi.operations import operation, operation_of, prepared
from authapi.principal import FRESH_FOR


class Nested(msgspec.Struct):
    """A nested part of a body."""

    text: str


class NoteBody(msgspec.Struct):
    """A note."""

    note: Nested
    title: str = ""


class NotesResource:
    """A resource whose methods declare themselves."""

    def __init__(self, core):
        self.core = core
        self.refused = "no"

    def faults(self, req, fields):
        """Refuse one title, and name the request's method."""
        refused = fields.get("title") == self.refused
        return {"title": f"Is refused to {req.method}."} if refused else {}

    @operation("Show a note.")
    def on_get(self, _req, resp, number):
        self.core.wire.answer(resp, Answer(message=f"Note {number}."))

    @operation("Write a note.", body=NoteBody, rules=faults, needs=(fresh,), status=201)
    def on_put(self, _req, resp, number, body):
        self.core.wire.answer(resp, Answer(code=201, message=f"{number}: {body.note.text}."))

    @operation("Delete a note.", body=NoteBody, body_if=has_body)
    def on_delete(self, _req, resp, number, body):
        self.core.wire.answer(resp, Answer(message=f"{number} {body and body.note.text}."))

    def on_patch(self, _req, resp, number):
        self.core.wire.answer(resp, Answer(message=f"Undeclared {number}."))

    @operation("Delete every note.", needs=(fresh,))
    def on_post(self, _req, resp, number):
        self.core.wire.answer(resp, Answer(message=f"All of {number}."))


@pytest.fixture(name="notes")
def _notes(client):
    client.app.add_route("/notes/{number}", NotesResource(client.app.core))

    def ask(token, method, body=None):
        answer = client.request_as(token, method, "/notes/7", body)
        faults = [each["field"] for each in answer.json.get("errors", ())]
        return answer.status_code, faults or answer.json.get("error") or answer.json["message"]

    return ask


def test_body(notes, token):
    """A responder gets the body as it is declared, and the parameters of its path."""
    assert notes(token, "PUT", {"note": {"text": "x"}}) == (201, "7: x.")
    assert notes(token, "GET") == (200, "Note 7.")
    assert notes(token, "PATCH") == (200, "Undeclared 7.")


def test_faults(notes, client, token):
    """A body that is wrong never reaches the responder; the rules of the resource count."""
    assert notes(token, "PUT", {"note": {}}) == (422, ["note.text"])
    assert notes(token, "PUT", {"note": {"text": "x"}, "title": "no"}) == (422, ["title"])
    assert notes(token, "PUT") == (415, "unsupported_media_type")
    answer = client.request_as(token, "PUT", "/notes/7", {"note": {"text": ""}, "title": "no"})
    assert answer.json["errors"] == [{"field": "title", "message": "Is refused to PUT."}]


def test_optional_body(notes, token):
    """An optional body is read where there is one."""
    assert notes(token, "DELETE") == (200, "7 None.")
    assert notes(token, "DELETE", {"note": {"text": "x"}}) == (200, "7 x.")
    assert notes(token, "DELETE", {}) == (422, ["note"])


def test_needs(notes, client, token, clock):
    """The needs of one method are asked before its body is read, and of no other method."""
    clock.move(FRESH_FOR)
    for method in ("PUT", "POST"):
        assert notes(token, method) == (403, "fresh_login_required")
    assert notes(token, "GET") == (200, "Note 7.")
    assert notes(token_of(client.log_in()), "POST") == (200, "All of 7.")


def test_without_a_session(notes):
    """An operation of a resource that is not public needs a session first."""
    assert notes("", "PUT") == (401, "invalid_token")


def test_declarations():
    """Declarations can be read from the responder, of the class and of a resource."""
    declared = operation_of(NotesResource.on_put)

    assert (declared.summary, declared.status) == ("Write a note.", 201)
    assert declared is operation_of(prepared(NotesResource(None).on_put, float))
    assert operation_of(NotesResource.on_get).status == 200
    assert operation_of(NotesResource.faults) is None


def test_what_costs_nothing():
    """A responder with nothing to do before it is not wrapped."""
    notes = NotesResource(None)

    assert [prepared(each, float) == each for each in (notes.on_get, notes.on_patch)] == [True] * 2


def responders():
    """Return each responder of each feature by name."""
    for feature in load(features.DEFAULT):
        for kind in vars(feature.module).values():
            if isinstance(kind, type) and kind.__module__ == feature.module.__name__:
                for name, responder in vars(kind).items():
                    if name.startswith("on_"):
                        yield f"{kind.__name__}.{name}", responder


@pytest.mark.parametrize("name", dict(responders()))
def test_every_responder_is_declared(name):
    """A responder says what it does, what it answers, and which failures are its own."""
    declared = operation_of(dict(responders())[name])

    assert declared, f"{name} needs an @operation"
    assert declared.summary.endswith(".")
    assert declared.answers is None or issubclass(declared.answers, Answer)
    assert all(issubclass(failure, Failure) for failure in declared.raises)


CHANGED = "another password"
WALK = [  # a request, with the responder that answers it
    ("RegistrationResource.on_post", "POST", "/register", USER),
    ("SessionResource.on_delete", "DELETE", "/sessions/{id}", None),
    (
        "LoginResource.on_post",
        "POST",
        "/login",
        {"usernameOrEmail": USER["email"], "password": USER["password"]},
    ),
    ("ExampleResource.on_get", "GET", "/", None),
    ("UserResource.on_get", "GET", "/user", None),
    ("VerificationResource.on_get", "GET", "/verify", None),
    ("PathVerificationResource.on_get", "GET", "/verify/a/b", None),
    ("LivenessResource.on_get", "GET", "/livez", None),
    ("DocumentResource.on_get", "GET", "/openapi.json", None),
    ("PageResource.on_get", "GET", "/docs", None),
    ("ReadinessResource.on_get", "GET", "/readyz", None),
    ("SessionsResource.on_get", "GET", "/sessions", None),
    ("SessionsResource.on_delete", "DELETE", "/sessions", None),
    ("ActivityResource.on_get", "GET", "/user/activity", None),
    ("UserResource.on_patch", "PATCH", "/user", {"username": "renamed"}),
    (
        "ReauthenticationResource.on_post",
        "POST",
        "/sessions/reauthenticate",
        {"password": USER["password"]},
    ),
    (
        "PasswordResource.on_put",
        "PUT",
        "/user/password",
        {"current_password": USER["password"], "new_password": CHANGED},
    ),
    ("UserResource.on_delete", "DELETE", "/user", {"password": CHANGED}),
    ("LogoutResource.on_post", "POST", "/logout", None),
]


def test_answers_are_as_declared(client):
    """Each responder answers with the status and the fields that it declares."""
    on = {feature.module.__name__ for feature in client.app.core.settings.features}
    all_declared = dict(responders())
    declared = {name: each for name, each in all_declared.items() if each.__module__ in on}
    token = ""
    assert {name for name, *_ in WALK} == set(declared)
    for name, method, path, body in WALK:
        session_id = client.sessions_of(token)[0]["id"] if "{id}" in path else ""
        answer = client.request_as(token, method, path.format(id=session_id), body)
        operation = operation_of(declared[name])
        assert answer.status_code == operation.status, name
        if operation.answers:
            known = msgspec.structs.fields(operation.answers)
            fields = {each.encode_name for each in known if each.default is not msgspec.UNSET}
            assert set(answer.json) == fields, name
        token = token_of(answer) if "device" in answer.cookies or method == "PATCH" else token
