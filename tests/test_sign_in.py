"""Signing in: no way in goes past what SignIn requires, and each proof is followed alike."""

from dataclasses import dataclass, replace

import pytest
from conftest import OTHER, USER, token_of

from authapi import Caller, CredentialsChanged, Event, Failure, principal_of, strong
from authapi.features.sign_in import Proof, ProofRejected, SignIn
from authapi.features.users import UserRepository
from authapi.middleware import caller_of


class SecondFactorRequired(Failure):
    status, error, message = 401, "second_factor_required", "Give your second factor."


class WrongWord(ProofRejected):
    status, error, message = 401, "wrong_word", "The word is wrong."


@dataclass(frozen=True, slots=True)
class SecondFactorAsked(Event):
    pass


class WordResource:
    """A second way in: by a word that everybody knows."""

    public = True

    def __init__(self, core):
        self._core = core
        self._sign_in, self._users = core.of(SignIn), core.of(UserRepository)

    def on_post(self, req, resp):
        word = req.get_param("word")
        with self._sign_in.attempt([], caller_of(req), 1):
            if word != "please":
                raise WrongWord("wrong_word")
            self._sign_in.finish(req, resp, self._prove)

    def _prove(self):
        return Proof(credential=self._users.by_id(1), methods=frozenset({"kba"}))


class OvertakenResource(WordResource):
    """A way in that a change of the user's credentials overtakes, after the proof was checked."""

    def on_post(self, req, resp):
        proof, caller = self._prove(), caller_of(req)
        with self._core.database.transaction():
            self._core.events.emit(CredentialsChanged(1, caller))
        with self._sign_in.attempt([], caller, 1):
            self._sign_in.finish(req, resp, lambda: proof)


class CodeResource:
    """A second factor in a session: by a code that everybody knows."""

    def __init__(self, core):
        self._sign_in = core.of(SignIn)

    def on_post(self, req, resp):
        session = principal_of(req).session
        with self._sign_in.proven_again(session, caller_of(req), self._check) as proof:
            self._sign_in.refresh(req, resp, proof)

    def _check(self, credential):
        return Proof(credential=credential, methods=frozenset({"otp"}), second_factor=True)


class Vault:
    """A resource that asks for a second factor from users who have one."""

    needs = (strong,)

    def on_get(self, req, resp):
        session = principal_of(req).session
        resp.media = [sorted(session.methods), session.aal]


@pytest.fixture(name="core")
def _core(client):
    """Return an application with a second way in."""
    core = client.app.core
    client.app.add_route("/login/word", WordResource(core))
    client.app.add_route("/login/overtaken", OvertakenResource(core))
    client.app.add_route("/code", CodeResource(core))
    client.app.add_route("/vault", Vault())
    return core


@pytest.fixture(name="proofs")
def _proofs(core):
    """The proofs that a step refused: it asks everybody for a second factor, and remembers it."""
    proofs = []

    def step(req, _resp, proof):
        core.events.emit(SecondFactorAsked(proof.credential.user.id, caller_of(req)))
        proofs.append(proof)
        return SecondFactorRequired()

    core.of(SignIn).require(step)
    return proofs


def by_password(client):
    return client.log_in()


def by_registration(client):
    return client.register(**OTHER)


def by_word(client, word="please"):
    return client.simulate_post("/login/word", params={"word": word})


@pytest.mark.parametrize(
    ("way", "proven"),
    [(by_password, (1, {"pwd"})), (by_registration, (2, {"pwd"})), (by_word, (1, {"kba"}))],
)
def test_no_way_in_goes_past_a_step(client, token, proofs, way, proven):
    """A step that refuses lets no proof open a session, and what it wrote is kept."""
    answer = way(client)

    assert (answer.status_code, answer.json["error"]) == (401, "second_factor_required")
    assert [(proof.credential.user.id, proof.methods) for proof in proofs] == [proven]
    assert answer.cookies == {}
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]
    assert "second_factor_asked" in client.events()
    assert "logged_in" not in client.events()
    assert client.get_as(token).status_code == 200


def test_a_refused_registration_keeps_the_account(client, proofs):
    """The user is there, and the event names no session."""
    assert client.register().status_code == 401

    assert client.query("SELECT username FROM users") == [(USER["username"],)]
    assert client.events("event", "user_id", "session_id") == [
        ("second_factor_asked", 1, None),
        ("registered", 1, None),
    ]


def test_a_refused_login_gives_no_try_back(client, token, proofs):
    """A right password without its second factor does not clear the failures of the name."""
    answers = [client.log_in(password="wrong password") for _ in range(9)]
    assert {answer.json["error"] for answer in answers} == {"invalid_credentials"}

    assert client.log_in().json["error"] == "second_factor_required"
    assert client.log_in().status_code == 429


def test_a_refused_login_ends_no_session(client, token, proofs):
    """The session whose cookie came with it goes on."""
    client.log_in(headers={"Cookie": f"jwt={token}"})

    assert client.get_as(token).status_code == 200


def test_a_step_that_lets_pass(client, core, token):
    """Each way in opens a session where no step refuses it."""
    core.of(SignIn).require(lambda _req, _resp, proof: proof)

    for way in (by_password, by_registration, by_word):
        assert client.get_as(token_of(way(client))).status_code == 200


def test_a_step_that_fails(client, core, token):
    """A failure that a step raises undoes the registration, and opens no session."""

    def step(_req, _resp, _proof):
        raise SecondFactorRequired

    core.of(SignIn).require(step)

    assert client.register(**OTHER).status_code == 401
    assert client.query("SELECT count(*) FROM users") == [(1,)]
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]


def test_a_rejected_proof(client, core, token):
    """A way in that rejects a proof is a failed login, with its own answer and reason."""
    answer = by_word(client, "now")

    assert (answer.status_code, answer.json["error"]) == (401, "wrong_word")
    assert client.events("event", "user_id", "session_id")[-1] == ("login_failed", 1, None)


def test_what_follows_a_proof(client, core, token):
    """An action follows each proof that is accepted, in a session too, and no rejected one."""
    seen = []
    core.of(SignIn).follow(lambda _req, _resp, proof: seen.append(proof.credential))

    by_password(client)
    client.log_in(password="wrong password")
    by_word(client)
    fresh = client.reauthenticate(token)
    body = {"current_password": USER["password"], "new_password": "another password"}
    assert client.request_as(fresh, "PUT", "/user/password", body).status_code == 200

    assert [credential.password_version for credential in seen] == [1, 1, 1, 2]


# What a session knows of its proofs


def test_credentials_version(client, core, token):
    """Each change of credentials counts, the password's and any other, and no other event."""
    versions = "SELECT password_version, credentials_version FROM users ORDER BY id"
    client.register(**OTHER)
    with core.database.transaction():
        core.events.emit(CredentialsChanged(1, Caller("", "", "")))

    assert client.query(versions) == [(1, 2), (1, 1)]


def test_a_change_of_credentials_overtakes_a_login(client, core, token):
    """A proof by a credential that has changed meanwhile, a second factor too, opens no session."""
    answer = client.simulate_post("/login/overtaken")

    assert (answer.status_code, answer.json["error"]) == (401, "invalid_credentials")
    assert client.query("SELECT count(*) FROM sessions") == [(0,)]


def has_second_factor(core, *, given):
    """Let each user log in with a second factor, given or not, as on a trusted browser."""
    core.of(SignIn).require(
        lambda _req, _resp, proof: replace(
            proof, methods=proof.methods | {"otp" if given else "dev"}, second_factor=given
        )
    )


def test_strong_without_a_second_factor(client, core, token, clock):
    """For a user without a second factor, strong asks for what fresh asks for."""
    assert client.get_as(token, "/vault").json == [["pwd"], 1]
    clock.move(300)

    answer = client.get_as(token, "/vault")

    assert (answer.status_code, answer.json["error"]) == (403, "fresh_login_required")
    assert client.get_as(client.reauthenticate(token), "/vault").status_code == 200


def test_strong_after_a_second_factor(client, core, token, clock):
    """A second factor counts for five minutes, whatever the password has proved since."""
    has_second_factor(core, given=True)
    token = token_of(client.log_in())
    clock.move(299)
    assert client.get_as(token, "/vault").json == [["otp", "pwd"], 2]
    clock.move(1)

    answer = client.get_as(client.reauthenticate(token), "/vault")

    assert (answer.status_code, answer.json["error"]) == (403, "strong_login_required")
    assert answer.json["message"] == "Give your second factor again first."


@pytest.mark.parametrize("given", [True, False])
def test_a_second_factor_in_a_session(client, core, token, clock, given):
    """A second factor that is given in a session makes it strong, and its token another one."""
    has_second_factor(core, given=given)
    token = token_of(client.log_in())
    clock.move(300)

    newer = token_of(client.request_as(token, "POST", "/code"))

    assert client.get_as(token).status_code == 401
    assert client.get_as(newer, "/vault").json[1] == 2
    assert "reauthenticated" in client.events()


def test_strong_on_a_trusted_browser(client, core, token):
    """A login that went without the second factor of the user is not strong, fresh as it is."""
    has_second_factor(core, given=False)
    token = token_of(client.log_in())
    assert client.get_as(token).status_code == 200

    answer = client.get_as(token, "/vault")
    again = client.get_as(client.reauthenticate(token), "/vault")

    assert (answer.status_code, answer.json["error"]) == (403, "strong_login_required")
    assert (again.status_code, again.json["error"]) == (403, "strong_login_required")
