"""Features: what a module may declare, without a change to any file of the library."""

from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType

import greetings
import pytest
from conftest import Client, cookie_of, token_of

from authapi import SettingError, Settings, features
from authapi.feature import load
from authapi.features.limits import Limits
from authapi.operations import operation_of
from authapi.settings import SettingsGroup, declared_settings, setting

FEATURES = (*features.DEFAULT, greetings)
ON = {"features": FEATURES, "greeting": "Hello"}


@pytest.fixture(name="greeter")
def _greeter(make_app):
    """Return a client of a service with the feature, and the token of a user."""
    client = Client(make_app(**ON))
    return client, token_of(client.register())


def greet(greeter, username="frodo"):
    client, token = greeter
    return client.request_as(token, "POST", "/greetings", {"username": username})


def test_a_route(greeter):
    """A feature's route answers by its settings, and needs a session."""
    assert (greet(greeter).status_code, greet(greeter).json["message"]) == (200, "Hello, frodo.")
    assert greeter[0].post("/greetings", {"username": "frodo"}).status_code == 401


def test_a_failure(greeter):
    """A feature's failure is answered as any other."""
    answer = greet(greeter, "crispengari")

    assert (answer.status_code, answer.json["error"]) == (409, "greeting_refused")
    assert answer.json["message"] == "You cannot greet yourself."


def test_an_event(greeter, caplog):
    """A feature's event reaches the audit log and the service's log, with its detail."""
    caplog.set_level("INFO", "authapi.events")

    greet(greeter)

    assert greeter[0].events("event", "detail")[-1] == ("greeted", "Hello")
    assert caplog.messages[-1].startswith("greeted user_id=1 reason=Hello ip=")


def test_a_cookie_and_a_token(greeter):
    """A feature's cookie carries a token of its own type, and no other token stands in for it."""
    client, token = greeter
    guest = cookie_of(greet(greeter), "guest")

    for sent, status, before in [(guest, 200, ["frodo"]), (token, 401, None)]:
        headers = {"Cookie": f"jwt={token}; guest={sent}"}
        answer = client.simulate_post("/greetings", json={"username": "sam"}, headers=headers)
        assert (answer.status_code, answer.json.get("before")) == (status, before)


def test_an_operation(greeter):
    """A feature's operation says what it takes and answers, and checks the body."""
    client, token = greeter
    declared = operation_of(greetings.GreetingsResource.on_post)

    assert (declared.body, declared.answers) == (greetings.GreetingBody, greetings.GreetingAnswer)
    assert declared.raises == (greetings.GreetingRefused,)
    assert client.request_as(token, "POST", "/greetings", {"name": "sam"}).status_code == 422


def test_a_limit(greeter, clock):
    """A feature's limit is kept under its own name, inside the transaction of the change."""
    answers = [greet(greeter) for _ in range(3)]

    assert [each.status_code for each in answers] == [200, 200, 429]
    assert answers[-1].headers["RateLimit-Policy"] == '"greeting";q=2;w=3600'
    assert greeter[0].events().count("greeted") == 2
    clock.move(1_800)
    assert greet(greeter).status_code == 200


def test_a_try_that_is_undone(make_app):
    """A try that is taken inside a transaction is lost with it."""
    app = make_app(**ON)
    limits = app.core.of(Limits)
    budget = limits.declare("once", "1/hour").of("1")

    with suppress(ZeroDivisionError), app.core.database.transaction():
        limits.take(budget)
        _ = 1 / 0

    assert limits.have_tries(budget)
    with app.core.database.transaction():
        limits.take(budget)
    assert not limits.have_tries(budget)


def test_a_limit_that_is_declared_twice(make_app):
    """Two limits cannot have one name, for they would share their rows."""
    with pytest.raises(ValueError, match="the limit login-account is declared already"):
        make_app().core.of(Limits).declare("login-account", "1/hour")


def test_a_job(greeter, clock):
    """A feature's job runs when it is due."""
    app, greeted = greeter[0].app, greeter[0].app.core.of(greetings.Greetings).greeted
    app.jobs.run_due()
    greet(greeter)
    app.jobs.run_due()
    assert greeted == ["frodo"]

    clock.move(3_600)
    app.jobs.run_due()
    assert greeted == []


def test_settings_of_a_feature():
    """A feature's settings are read, checked and refused as those of the core are."""
    read = Settings.from_env({"AUTHAPI_GREETING": "Servus"}, features=FEATURES)

    assert read.of(greetings.GreetingSettings).greeting == read.greeting == "Servus"
    for environ, says in [
        ({"AUTHAPI_GREETING": "Good morning"}, "AUTHAPI_GREETING must be one word"),
        ({"AUTHAPI_GREETINGS": "Hello"}, "AUTHAPI_GREETING was likely meant"),
        (
            {"AUTHAPI_GREETING": "Hello", "AUTHAPI_GREETING_LIMIT": "2"},
            "AUTHAPI_GREETING_LIMIT must be a number of tries",
        ),
    ]:
        with pytest.raises(SettingError, match=says):
            Settings.from_env(environ, features=FEATURES)


def test_a_feature_that_is_off(make_app):
    """Without a value for the setting that turns it on, a feature has no routes."""
    client = Client(make_app(features=FEATURES))

    assert client.post("/greetings", {}).status_code == 404
    assert client.app.core.settings.features == Settings().features


def test_a_setting_of_a_feature_that_is_off():
    """The refusal says which feature is off, and how to turn it on."""
    with pytest.raises(SettingError) as refusal:
        Settings(features=FEATURES, greeting_limit="3/hour")

    assert str(refusal.value) == (
        "AUTHAPI_GREETING_LIMIT is a setting of the feature greetings, which is off: "
        "set AUTHAPI_GREETING to turn it on, or unset the former."
    )


def test_a_feature_that_requires_one_that_is_off(make_app):
    """A feature is off where one that it requires is."""
    guest = module("guest", REQUIRES=(greetings,))

    assert guest in [each.module for each in Settings(features=(guest,), greeting="Hi").features]
    assert guest not in [each.module for each in Settings(features=(guest,)).features]


def test_a_switch_that_is_no_setting_of_the_feature():
    """A feature can be turned on by a setting of its own only."""
    with pytest.raises(TypeError, match="ENABLED_BY of guest names no setting of its own"):
        Settings(features=(module("guest", ENABLED_BY="port"),))


def test_a_secret_of_a_feature():
    """A secret is shown neither by the settings nor in a refusal."""

    @dataclass(frozen=True, kw_only=True)
    class SafeSettings(SettingsGroup):
        combination: int = setting(0, "The combination.", secret=True, high=9_999)

    SafeSettings.__module__ = "safe"
    safe = module("safe", SafeSettings=SafeSettings)

    assert "1234" not in repr(Settings(features=[safe], combination=1_234))
    for text in ("12345", "x12345"):
        with pytest.raises(SettingError, match="AUTHAPI_COMBINATION must be a whole") as refusal:
            Settings.from_env({"AUTHAPI_COMBINATION": text}, features=[safe])
        assert "12345" not in str(refusal.value)


def test_a_group_of_no_feature():
    """Only the groups of the features that the settings were made for can be asked for."""
    with pytest.raises(LookupError, match="GreetingSettings belongs to no feature"):
        Settings().of(greetings.GreetingSettings)


def test_a_name_that_is_no_setting():
    """A name that no group declares is refused, with the likeliest one."""
    for make in (Settings, Settings.from_env):
        with pytest.raises(TypeError, match="there is no setting 'prot'; port was likely meant"):
            make(prot="80")


def test_a_name_that_two_groups_declare():
    """Two groups cannot declare one setting."""

    @dataclass(frozen=True, kw_only=True)
    class OtherSettings(SettingsGroup):
        port: int = setting(0, "Another port.")

    OtherSettings.__module__ = "other"
    with pytest.raises(TypeError, match="OtherSettings declares AUTHAPI_PORT, which is taken"):
        declared_settings([module("other", OtherSettings=OtherSettings)])


def test_a_module_that_is_no_feature():
    """A module without `setup` is no feature."""
    with pytest.raises(TypeError, match="empty is not a feature: it has no setup"):
        load([ModuleType("empty")])


def module(name, **declared):
    """Return a feature that adds nothing."""
    made = ModuleType(name)
    vars(made).update(declared, setup=lambda _app, _core: None)
    return made
