"""The shape of the code: who imports whom, where SQL stands, and what each feature brings."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from authapi import User, features
from authapi.cookies import Cookie
from authapi.errors import Failure
from authapi.events import Event
from authapi.feature import load
from authapi.settings import SettingsGroup

ROOT = Path(__file__).parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text())
    for path in sorted((ROOT / "authapi").rglob("*.py"))
}
FEATURES = sorted(
    path.stem for path in (ROOT / "authapi" / "features").glob("*.py") if path.stem != "__init__"
)
STANDARD = {
    "descriptors",
    "errors",
    "events",
    "fields",
    "hosts",
    "identifiers",
    "feature",
    "machine",
    "public_suffixes",
    "secret_files",
    "signals",
    "settings",
}
STANDARD_MODULES = sorted(module for module in MODULES if module.split(".")[1] in STANDARD)
# Modules of more than 250 lines, each with its reason.
SQL = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|PRAGMA|BEGIN|COMMIT|WITH)\b\s+\S"
)


def statements(tree):
    """Every node that runs: all but those for type checkers."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            waiting += ast.iter_child_nodes(node)


def imports(module):
    """The modules that a module imports, in full."""
    for node in statements(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(package):
    return {
        module
        for module in MODULES
        if any(name.split(".")[0] == package for name in imports(module))
    }


@pytest.mark.parametrize("module", STANDARD_MODULES)
def test_standard_library_only(module):
    """Errors, events and settings import but each other, so that everything can import them."""
    packages = {name.split(".")[0] for name in imports(module)}
    ours = {name.split(".")[1] for name in imports(module) if "authapi." in name}

    assert ours <= STANDARD | {"features"}  # the list of their names
    assert not packages & {"falcon", "jwt", "argon2", "waitress", "msgspec"}


@pytest.mark.parametrize(
    ("package", "modules"),
    [
        ("sqlite3", {"database.sqlite"}),
        ("psycopg", {"database.postgresql"}),
        ("jwt", {"tokens"}),
        ("prometheus_client", {"server.exposition"}),
        ("argon2", {"passwords.hashing"}),
        ("bcrypt", {"passwords.key_derivation"}),
        ("smtplib", {"mail.smtp"}),
        ("waitress", {f"server.{name}" for name in ("http_server", "incoming", "parser", "wsgi")}),
    ],
)
def test_one_place_knows(package, modules):
    """Each library is imported in one module or package."""
    places = tuple(f"authapi.{module}." for module in modules)
    found = {f"{module}." for module in importers(package)}

    assert [place for place in places if not any(name.startswith(place) for name in found)] == []
    assert [name for name in found if not name.startswith(places)] == []


def test_one_place_chooses_the_engine():
    """Only `database.opening` knows that the engine is SQLite; all else knows the interface."""
    knowing = {
        module
        for module in MODULES
        if not module.startswith("authapi.database.sqlite.")
        and any(name.startswith("authapi.database.sqlite") for name in imports(module))
    }

    assert knowing == {"authapi.database.opening"}


def test_falcon():
    """Falcon is known at the edge only."""
    edge = {
        f"authapi.{name}"
        for name in (
            *("admission", "app", "authentication", "bodies", "body_tokens", "cookies", "embed"),
            *("falcon_errors", "middleware", "operations", "principal", "routing"),
            *("session_check", "session_tokens", "wire"),
        )
    }

    assert importers("falcon") <= edge | {f"authapi.features.{name}" for name in FEATURES}


def test_core_imports_no_feature():
    """Only the composition root knows features; settings and command line know their names."""
    knowing = {
        module
        for module in MODULES
        if not module.startswith("authapi.features")
        and any(name.startswith("authapi.features") for name in imports(module))
    }

    names = {"authapi.commands.cli", "authapi.commands.parser", "authapi.settings.__init__"}
    assert {"authapi.app", *names} == knowing


def words_of(feature):
    """The names of a feature's settings, failures, events, bodies, answers and claims."""
    for name, each in vars(feature.module).items():
        if isinstance(each, type) and each.__module__ == feature.module.__name__:
            if issubclass(each, SettingsGroup):
                yield from (declared.name for declared in fields(each))
            elif issubclass(each, (Failure, Event, msgspec.Struct)):
                yield name


def texts_of(feature):
    """The names of a feature's cookies, and its types of tokens."""
    yield from (each.name for each in vars(feature.module).values() if isinstance(each, Cookie))
    texts = texts_in(MODULES[feature.module.__name__])
    yield from (text for text in texts if re.fullmatch(r"[a-z]+\+jwt", text))


def texts_in(tree):
    """Every text of a module's code, docstrings too."""
    for node in statements(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def names_in(tree):
    """Every name that the code of a module mentions, also as a keyword or an attribute."""
    for node in statements(tree):
        for attribute in ("id", "attr", "arg", "name", "asname"):
            if isinstance(name := getattr(node, attribute, None), str):
                yield name.rpartition(".")[2]


def test_a_feature_owns_its_words():
    """No module of the core names what belongs to a feature, such as its event or its cookie."""
    words = {word for feature in load(features.DEFAULT) for word in words_of(feature)}
    texts = {text for feature in load(features.DEFAULT) for text in texts_of(feature)}
    named = {
        module: words.intersection(names_in(tree)) | texts.intersection(texts_in(tree))
        for module, tree in MODULES.items()
        if not module.startswith("authapi.features")
    }

    assert {"registration", "LoggedIn", "EmailTaken", "DeviceClaims", "SessionsAnswer"} <= words
    assert texts == {"device", "device+jwt", "mail_login", "registration"}
    assert {module: found for module, found in named.items() if found} == {}


@pytest.mark.parametrize("feature", FEATURES)
def test_features_import_what_they_require(feature):
    """A feature imports the core, and the features that it names in REQUIRES."""
    named = {
        name.split(".")[2]
        for name in imports(f"authapi.features.{feature}")
        if name.startswith("authapi.features.")
    }

    (declared,) = [each for each in load([feature]) if each.name == feature]
    assert named <= {each.name for each in declared.requires}


def test_load_puts_what_is_required_first():
    """Each feature is loaded once, after those that it requires; so there are no circles."""
    loaded = load(["login", *FEATURES])
    names = [feature.name for feature in loaded]

    assert sorted(FEATURES) == sorted(names)
    for feature in loaded:
        assert {each.name for each in feature.requires} <= set(names[: names.index(feature.name)])


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_is_whole(feature):
    """A feature is on the default list, and has its tests and its page.

    One that has commands alone is not on the list: a server would load it for nothing.
    """
    has_setup = "setup" in vars(load([feature])[-1].module)
    assert has_setup == (feature in features.DEFAULT)
    assert (ROOT / "tests" / f"test_{feature}.py").exists()
    if has_setup:
        assert (ROOT / "docs" / "features" / f"{feature}.md").exists()


def test_one_place_reads_cookies():
    """Only `cookies` reads the Cookie field, whose lines a parser joins.

    Falcon's own reader takes other names for ours, and takes quadratic time.
    """
    falcons, fields = {"cookies", "get_cookie_values"}, {"COOKIE", "HTTP_COOKIE"}
    reading = {
        module
        for module, tree in MODULES.items()
        if not module.startswith("authapi.openapi.")  # which describes cookies
        for node in ast.walk(tree)
        if (
            isinstance(node, ast.Attribute)
            and node.attr in falcons
            and not ast.unparse(node.value).endswith("core")  # ours
        )
        or (isinstance(node, ast.Constant) and str(node.value).upper() in fields)
    }

    assert reading == {"authapi.asgi.environ", "authapi.cookies", "authapi.server.parser"}


def test_one_door():
    """Only SignIn opens sessions and makes them fresh, so that no way in goes past its steps."""
    calling = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"open", "rotate"}
        and "sessions" in ast.unparse(node.value).lower()
    }

    assert calling == {"authapi.features.sign_in"}


def test_no_statements_in_python():
    """SQL stands in files; Python holds no statement."""
    texts = [
        (module, node.value)
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]

    assert not [(module, text) for module, text in texts if SQL.match(text)]
    assert SQL.match("SELECT 1")


def test_users_are_read_alike():
    """Each statement that makes a `User` selects the same columns, in the record's order."""
    columns = ", ".join(User.__struct_fields__)
    texts = {
        f"{path.stem}.{block.partition('(')[0]}": " ".join(block.replace("users.", "").split())
        for path in (ROOT / "sql").glob("**/queries/*.sql")
        for block in re.split(r"^-- name: ", path.read_text(), flags=re.MULTILINE)[1:]
    }

    making = {
        name for name, text in texts.items() if re.search(r"(SELECT|RETURNING) .*\busername,", text)
    }
    assert making == {name for name, text in texts.items() if columns in text}
    assert "sessions.authenticate" in making


def test_every_statement_is_used():
    """No named statement is left behind by the code that called it."""
    code = "\n".join(path.read_text() for path in (ROOT / "authapi").rglob("*.py"))
    for path in (ROOT / "sql").glob("**/queries/*.sql"):
        for name in re.findall(r"^-- name: (\w+)\(", path.read_text(), re.MULTILINE):
            assert re.search(rf'\.{name}\b|\["{name}"\]', code), name


def test_sizes():
    """Modules have at most 250 lines, classes 150 and functions 40, so each can be read at once."""
    for path in (ROOT / "authapi").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 250, path
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                most = 40 if isinstance(node, ast.FunctionDef) else 150
                assert node.end_lineno - node.lineno < most, (module, node.name)
