"""Protection by default: what a resource must say to be open, or to ask for more."""

import pytest
from conftest import token_of

from authapi import Failure, fresh, principal_of
from authapi.authentication import MOST_RESOURCES
from authapi.operations import operation


class Notes:
    """A resource of an application's own, which says nothing about who may reach it."""

    def on_get(self, req, resp):
        resp.media = {"owner": req.context.user.username}

    def on_post(self, req, resp):
        del req
        resp.media = {}


class Open(Notes):
    public = True

    def on_get(self, req, resp):
        resp.media = {"user": hasattr(req.context, "user")}


class NearlyOpen(Notes):
    public = 1


def test_deny_by_default(client, token):
    """A resource is protected unless it says `public = True`, and finds the user when reached."""
    client.app.add_route("/notes", Notes())
    client.app.add_route("/nearly", NearlyOpen())

    for path in ("/notes", "/nearly"):
        answer = client.simulate_get(path)
        assert (answer.status_code, answer.json["error"]) == (401, "not_authenticated")
        assert answer.json["message"] == "You need to be authenticated."
    assert client.get_as(token, "/notes").json == {"owner": "crispengari"}
    assert client.post("/notes").status_code == 401


def test_public(client, token):
    """A public resource is reached by all, and is given no user."""
    client.app.add_route("/open", Open())

    assert client.simulate_get("/open").json == {"user": False}
    assert client.get_as(token, "/open").json == {"user": False}
    assert client.get_as("garbage", "/open").json == {"user": False}


class Suffixed:
    def on_get_one(self, req, resp):
        resp.media = {"owner": req.context.user.username}


class CatchAll:
    def on_request(self, req, resp):
        resp.media = {"owner": req.context.user.username}


def test_no_way_around(client):
    """Suffixed and catch-all responders are no way around, with any method."""
    client.app.router_options.default_to_on_request = True
    client.app.add_route("/one", Suffixed(), suffix="one")
    client.app.add_route("/any", CatchAll())

    assert client.simulate_get("/one").status_code == 401
    assert client.simulate_head("/one").status_code == 401
    for method in ("GET", "POST", "DELETE", "PATCH"):
        assert client.simulate_request(method, "/any").status_code == 401


class Falsy(Notes):
    def __len__(self):
        return 0


class Untrue(Notes):
    def __bool__(self):
        return False


@pytest.mark.parametrize("resource", [Falsy(), Untrue()])
def test_falsy_resources_are_refused(client, resource):
    """Falcon would skip authentication before a resource that is falsy."""
    with pytest.raises(TypeError, match="__bool__"):
        client.app.add_route("/falsy", resource)


def test_sinks_are_refused(client):
    """Falcon would skip authentication before a sink or a static route."""
    with pytest.raises(TypeError, match="add_route"):
        client.app.add_sink(lambda *_: None)
    with pytest.raises(TypeError, match="add_route"):
        client.app.add_static_route("/files", "/")


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/", "GET, HEAD"),
        ("/user", "DELETE, GET, HEAD, PATCH"),
        ("/user/password", "PUT"),
        ("/user/activity", "GET, HEAD"),
        ("/sessions", "DELETE, GET, HEAD"),
        ("/sessions/1", "DELETE"),
        ("/sessions/reauthenticate", "POST"),
        ("/verify", "GET, HEAD"),
        ("/login", "POST"),
        ("/register", "POST"),
        ("/logout", "POST"),
    ],
)
def test_options(client, path, methods):
    """OPTIONS lists the methods, to everyone."""
    answer = client.simulate_options(path)

    assert (answer.status_code, answer.text) == (200, "")
    assert methods == answer.headers["allow"]


class Delegating:
    """A resource that finds its responders where `dir` does not look."""

    def __getattr__(self, name):
        return getattr(Notes(), name)


class HeadOnly:
    def on_head(self, req, resp):
        resp.set_header("X-Secret", "open")


class Nothing:
    pass


class FreshHeadOnly(HeadOnly):
    needs = (fresh,)


class Optional(HeadOnly):
    def on_options(self, req, resp):
        resp.set_header("X-Secret", "open")


@pytest.mark.parametrize(
    ("resource", "methods"),
    [
        (Delegating(), ["GET", "HEAD", "POST"]),
        (HeadOnly(), ["HEAD"]),
        (FreshHeadOnly(), ["HEAD"]),
        (Optional(), ["HEAD"]),
        (Nothing(), []),
    ],
)
def test_odd_resources_are_protected(client, resource, methods):
    """However a resource has its responders, nobody without a session reaches one."""
    client.app.add_route("/odd", resource)

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        answer = client.simulate_request(method, "/odd")
        assert answer.status_code == (401 if method in methods else 405)
        assert answer.headers.get("allow", "") == (
            "" if method in methods else ", ".join([*methods, "OPTIONS"])
        )
        assert "x-secret" not in answer.headers


def test_many_resources_are_protected(client):
    """However many resources there are, nobody without a session reaches one."""
    count = MOST_RESOURCES + 1  # more than those whose methods are remembered
    for number in range(count):
        client.app.add_route(f"/odd/{number}", HeadOnly())

    for number in (*range(count), 0):
        assert client.simulate_head(f"/odd/{number}").status_code == 401
        assert client.simulate_get(f"/odd/{number}").headers["allow"] == "HEAD, OPTIONS"


class Contradictory(Notes):
    public = True
    needs = (fresh,)


class ContradictoryOperation:
    public = True

    @operation("Open the vault.", needs=(fresh,))
    def on_get(self, req, resp): ...


@pytest.mark.parametrize("kind", [Contradictory, ContradictoryOperation])
def test_public_and_needs_contradict(client, kind):
    """A resource that says both is refused: it would be open to everyone."""
    with pytest.raises(TypeError, match="cannot be public and have needs"):
        client.app.add_route("/vault", kind())


@pytest.mark.parametrize(
    "attributes", [{"fresh": True}, {"needs": fresh}, {"needs": ("fresh",)}, {"needs": 1}]
)
def test_needs_that_are_none(client, attributes):
    """A resource whose needs are misspelled is refused: it would be open to every session."""
    with pytest.raises(TypeError, match=r"Vault: write `needs = \(fresh,\)`"):
        client.app.add_route("/vault", type("Vault", (Notes,), attributes)())


class NotYou(Failure):
    status, error, message = 403, "not_you", "Not you."


def odd(principal, now):
    """A need of an application's own."""
    if principal.user.id % 2 == 0 or now != principal.claims.iat:
        raise NotYou


class Odd(Notes):
    needs = (fresh, odd)


def test_a_need_of_ones_own(client):
    """Each need is asked, with the principal and the time, before the resource."""
    client.app.add_route("/odd", Odd())
    tokens = [
        token_of(client.register(username=f"user{number}", email=f"user{number}@example.com"))
        for number in (1, 2)
    ]

    assert [client.get_as(token, "/odd").status_code for token in tokens] == [200, 403]
    assert client.get_as(tokens[1], "/odd").json["error"] == "not_you"


class Asking:
    public = True

    def on_get(self, req, resp):
        principal_of(req)


def test_nobody_is_the_principal_of_a_public_resource(client):
    """A public resource that asks who sends the request has a mistake, and fails."""
    client.app.add_route("/asking", Asking())

    assert client.simulate_get("/asking").status_code == 500


class NeverRenewed(Notes):
    renews = False


def test_renews_nothing(client, token, clock):
    """The answer of a resource with `renews = False` renews no session."""
    client.app.add_route("/never", NeverRenewed())
    clock.move(3_600)

    assert "set-cookie" not in client.get_as(token, "/never").headers
    assert "set-cookie" in client.get_as(token, "/user").headers
