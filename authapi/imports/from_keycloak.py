"""Users of a realm of Keycloak, with credentials as JSON inside JSON."""

from __future__ import annotations

import json

from authapi.imports.formats import Format
from authapi.imports.hashes import decoded, plain, stored
from authapi.imports.records import Fault, Imported, Row
from authapi.passwords.key_derivation import Pbkdf2
from authapi.passwords.stored_hashes import Cost, Stored

DIGESTS = {"pbkdf2": "sha1", "pbkdf2-sha256": "sha256", "pbkdf2-sha512": "sha512"}


def read(row: Row) -> Imported | None:
    """Return the user of an object; None for the account of a service."""
    if row.value("serviceAccountClientId"):
        return None
    created_at = row.time("createdTimestamp")
    is_verified = row.flag("emailVerified", default=False)
    return Imported(
        email=row.required_email(),
        username=row.text("username"),
        password_hash=_hash(row.value("credentials")),
        created_at=created_at,
        email_verified_at=created_at if is_verified else None,
        is_disabled=not row.flag("enabled", default=True),
    )


def _hash(credentials: object) -> str | None:
    """Return the hash of the first credential that is a password; None without one."""
    listed = credentials if isinstance(credentials, list) else []
    passwords = [
        each for each in listed if isinstance(each, dict) and each.get("type") == "password"
    ]
    if not passwords:
        return None
    credential = Row(passwords[0])
    if credential.value("value"):
        raise Fault("The password stands there as text: Keycloak hashes it at its start.")
    secret, data = _within(credential, "secretData"), _within(credential, "credentialData")
    algorithm = data.text("algorithm") or credential.text("algorithm") or "pbkdf2"
    value = secret.text("value") or credential.text("hashedSaltedValue") or ""
    if algorithm == "bcrypt":
        return plain(value)
    salt = decoded(secret.text("salt") or credential.text("salt") or "")
    passes = data.number("hashIterations") or credential.number("hashIterations") or 1
    if algorithm in DIGESTS:
        return stored(Pbkdf2(DIGESTS[algorithm], passes, salt, decoded(value)))
    if algorithm == "argon2":
        return _argon2(data, passes, salt, decoded(value))
    raise Fault(f"The password hash is of {algorithm!r}.", "unusable_hash")


def _argon2(data: Row, passes: int, salt: bytes, tag: bytes) -> str:
    parameters = data.value("additionalParameters")
    listed = parameters.items() if isinstance(parameters, dict) else ()
    row = Row({name: each[0] for name, each in listed if isinstance(each, list) and each})
    cost = Cost(row.number("memory") or 1, passes, row.number("parallelism") or 1)
    version = 16 if row.text("version") == "1.0" else 19
    return stored(Stored(f"argon2{row.text('type') or 'id'}", version, cost, salt, tag))


def _within(credential: Row, name: str) -> Row:
    """Return the JSON object that a text holds."""
    try:
        value = json.loads(credential.text(name) or "{}")
    except (ValueError, RecursionError) as error:
        raise Fault(f"{name} is not JSON.") from error
    if not isinstance(value, dict):
        raise Fault(f"{name} is no JSON object.")
    return Row(value)


FORMAT = Format(read=read, key="users")
