"""Make the password hashes of other libraries that `tests/data/foreign-hashes.json` holds.

    python -m venv new
    new/bin/pip install werkzeug django 'flask-security[common]' libpass bcrypt
    python -m venv old && old/bin/pip install werkzeug==2.2.3 passlib==1.7.4 bcrypt==4.0.1
    mkdir node && cd node && npm i better-auth bcrypt bcryptjs \
        lucia0@npm:lucia-auth@0.1.2 lucia2@npm:lucia@2 lucia3@npm:lucia@3
    (new/bin/python tools/foreign_hashes.py; old/bin/python tools/foreign_hashes.py --old;
     NODE_PATH=node/node_modules node tools/foreign_hashes.cjs) > lines
    python tools/foreign_hashes.py --join lines > tests/data/foreign-hashes.json

Each line is a hash, its password, the format of `authapi import` that reads it, and the library and
version that made it. Those of Keycloak, which is no library, are from realms that its users have
published with their passwords.
"""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

PASSWORDS = (
    "correct horse",
    "p\u00e4ssw\u00f6rd",  # composed
    "Ame\u0301lie 123",  # decomposed
    "\ufb01anc\u00e9 \u2460\uff21",  # compatibility characters
    "long " * 20 + "\u00e9",  # more than bcrypt reads
)
PEPPER = "a pepper of Flask-Security"
KEYCLOAK = (  # of keycloak-quickstarts, and of a realm that its README describes
    (
        "alice",
        {
            "value": "A3okqV2T/ybXTVEgKfosoSjP8Yc9IZbFP/SY4cEd6hag7TABQrQ6nUSuwagGt96l8cw1DTijO75P"
            "qX6uiTXMzw==",
            "salt": "sl4mXx6T9FypPH/s9TngfQ==",
            "additionalParameters": {},
        },
        {"hashIterations": 27500, "algorithm": "pbkdf2-sha256", "additionalParameters": {}},
    ),
    (
        "iceberg",
        {
            "value": "BuViHNDGmCq80fvpty/QoggTI8NSt0CuNDGgeoa5f5A=",
            "salt": "RJ0aLMQ2qKbZuROs7qQhcA==",
            "additionalParameters": {},
        },
        {
            "hashIterations": 5,
            "algorithm": "argon2",
            "additionalParameters": {
                "hashLength": ["32"],
                "memory": ["7168"],
                "type": ["id"],
                "version": ["1.3"],
                "parallelism": ["1"],
            },
        },
    ),
)


class Model:
    """What Flask-Security wants of a model."""

    fs_uniquifier = fs_token_uniquifier = ""


Made = Iterator[tuple[str, str, str, str]]  # the format, the library, the password and its hash


def werkzeug(methods: tuple[str, ...]) -> Made:
    """Yield hashes of Werkzeug, one at its default cost."""
    from werkzeug.security import generate_password_hash  # noqa: PLC0415

    for password in PASSWORDS:
        for method in methods:
            yield "werkzeug", "werkzeug", password, generate_password_hash(password, method)
    yield "werkzeug", "werkzeug", PASSWORDS[0], generate_password_hash(PASSWORDS[0])


def django() -> Made:
    """Yield hashes of each of Django's hashers, one at its default cost."""
    from django.conf import settings  # noqa: PLC0415

    settings.configure()
    from django.contrib.auth import hashers  # noqa: PLC0415

    cheap = {
        hashers.PBKDF2PasswordHasher: {"iterations": 1_000},
        hashers.PBKDF2SHA1PasswordHasher: {"iterations": 1_000},
        hashers.ScryptPasswordHasher: {"n": 1_024},
        hashers.Argon2PasswordHasher: {},
        hashers.BCryptSHA256PasswordHasher: {},
    }
    for kind, options in cheap.items():
        hasher = kind()
        hasher.rounds, hasher.time_cost, hasher.memory_cost = 4, 1, 256
        for password in PASSWORDS:
            yield "django", "django", password, hasher.encode(password, hasher.salt(), **options)
    plain = hashers.BCryptPasswordHasher()
    plain.rounds = 4
    for password in PASSWORDS[:-1]:  # with bcrypt 5, Django fails for the last one
        yield "django", "django", password, plain.encode(password, plain.salt())
    for kind in (hashers.PBKDF2PasswordHasher, hashers.ScryptPasswordHasher):
        yield "django", "django", PASSWORDS[0], kind().encode(PASSWORDS[0], kind().salt())


def flask_security() -> Made:
    """Yield hashes of Flask-Security, which are of keyed digests of the password in NFKD."""
    from flask import Flask  # noqa: PLC0415
    from flask_security import Security, UserDatastore, hash_password  # noqa: PLC0415

    for scheme in ("bcrypt", "argon2", "pbkdf2_sha512"):
        app = Flask("app")
        app.config |= {
            "SECRET_KEY": "secret",
            "SECURITY_PASSWORD_SALT": PEPPER,
            "SECURITY_PASSWORD_HASH": scheme,
            "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS": {
                "bcrypt__rounds": 4,
                "argon2__time_cost": 1,
                "argon2__memory_cost": 256,
                "pbkdf2_sha512__rounds": 1_000,
            },
        }
        security = Security(app, UserDatastore(Model, Model))
        with app.app_context():
            for password in PASSWORDS:
                normal = security.password_util.normalize(password)
                yield "flask-security", "flask-security", password, hash_password(normal)


def passlib(library: str) -> Made:
    """Yield hashes of passlib, or of its successor libpass."""
    from passlib import hash as schemes  # noqa: PLC0415

    for password in PASSWORDS:
        for digest in ("pbkdf2_sha1", "pbkdf2_sha256", "pbkdf2_sha512"):
            scheme = getattr(schemes, digest).using(rounds=1_000)
            yield "passlib", library, password, scheme.hash(password)
        yield "passlib", library, password, schemes.scrypt.using(rounds=10).hash(password)
        if len(password) <= len(PASSWORDS[0]):
            yield "passlib", library, password, schemes.bcrypt.using(rounds=4).hash(password)


def bcrypt(passwords: tuple[str, ...]) -> Made:
    """Yield hashes of bcrypt, in the spellings that others write."""
    import bcrypt as library  # noqa: PLC0415

    for password in passwords:
        for prefix in (b"2a", b"2b"):
            salt = library.gensalt(4, prefix)
            yield "pocketbase", "bcrypt", password, library.hashpw(password.encode(), salt).decode()


def argon2() -> Made:
    """Yield hashes of argon2-cffi of passwords as they were typed."""
    from argon2 import PasswordHasher  # noqa: PLC0415

    for password in PASSWORDS:
        made = PasswordHasher(1, 256, 1).hash(password)
        yield "table", "argon2-cffi", password, made


def lines(made: Made) -> Iterator[str]:
    """Yield what was made, a line of JSON each."""
    for form, library, password, text in made:
        shown = f"{library} {version(library)}"
        yield json.dumps({"from": form, "by": shown, "password": password, "hash": text})


def joined(made: list[str]) -> str:
    """Return the lines and those of Keycloak as one JSON array, a hash on each line."""
    published = [
        {
            "from": "keycloak",
            "by": "Keycloak",
            "password": password,
            "hash": {"secretData": json.dumps(secret), "credentialData": json.dumps(data)},
        }
        for password, secret, data in KEYCLOAK
    ]
    return "[\n" + ",\n".join([*made, *map(json.dumps, published)]) + "\n]\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--join"]:
        sys.stdout.write(joined(Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()))
    elif sys.argv[1:] == ["--old"]:
        for source in (
            werkzeug(("pbkdf2:sha256:1000", "pbkdf2:sha512:1000")),
            passlib("passlib"),
            bcrypt(PASSWORDS),
        ):
            print(*lines(source), sep="\n")
    else:
        for source in (
            werkzeug(("scrypt:1024:8:1", "pbkdf2:sha256:1000", "pbkdf2:sha1:1000")),
            django(),
            flask_security(),
            passlib("libpass"),
            bcrypt(PASSWORDS[:-1]),
            argon2(),
        ):
            print(*lines(source), sep="\n")
