"""Passwords: hashing, verification, the decoy."""

import unicodedata

import argon2
import pytest
from conftest import CHEAP
from hypothesis import given
from hypothesis import strategies as st

from authapi import Settings
from authapi.passwords import Passwords, Verdict

PASSWORDS = Passwords(Settings(**CHEAP))


def test_defaults():
    """At the defaults a hash is argon2id at OWASP's cost: salt 16 bytes, tag 32."""
    stored = Passwords(Settings()).hash("a password")

    parameters = argon2.extract_parameters(stored)
    assert (
        parameters.type,
        parameters.version,
        parameters.memory_cost,
        parameters.time_cost,
        parameters.parallelism,
        parameters.salt_len,
        parameters.hash_len,
    ) == (argon2.Type.ID, 19, 47_104, 1, 1, 16, 32)


@given(st.text(), st.text())
def test_a_password_verifies_and_no_other_does(one, other):
    """Exactly the password, whatever it holds, at every length."""
    stored = PASSWORDS.hash(one)

    assert PASSWORDS.verify(stored, one).correct
    same = PASSWORDS.verify(stored, other).correct
    assert same == (PASSWORDS.verify(PASSWORDS.hash(other), one).correct)
    assert not PASSWORDS.verify(stored, one + "x").correct


def test_the_last_of_1024_characters_counts():
    """Long passwords are not cut."""
    stored = PASSWORDS.hash("x" * 1_024)

    assert not PASSWORDS.verify(stored, "x" * 1_023 + "y").correct


@pytest.mark.parametrize("text", ["lone \ud800 surrogate", "\udfff" * 8])
def test_lone_surrogates(text):
    """An embedding application may pass what JSON cannot: refused when new, wrong when verified."""
    assert PASSWORDS.fault(text)
    assert not PASSWORDS.verify(
        PASSWORDS.hash(text.encode(errors="replace").decode()), text
    ).correct


def test_the_decoy_never_verifies():
    """No password is nobody's."""
    assert PASSWORDS.verify(None, "") == Verdict(correct=False)


def test_a_hash_of_another_cost_is_replaced():
    """A correct password gives a new hash of an outdated one, unless none is wanted."""
    stored = PASSWORDS.hash("a password")
    dearer = Passwords(Settings(argon2_memory_kib=16, argon2_time_cost=1, argon2_lanes=1))

    new_hash = dearer.verify(stored, "a password").new_hash
    assert new_hash
    assert "m=16," in new_hash
    assert dearer.verify(stored, "a password", rehash=False) == Verdict(correct=True)
    assert dearer.verify(stored, "another") == Verdict(correct=False)
    assert PASSWORDS.verify(stored, "a password") == Verdict(correct=True)


def test_what_is_too_long_is_not_normalized(monkeypatch):
    """It would take its time, and could be no password."""
    password, normalized = "x" * 4 * 1_024, []
    monkeypatch.setattr(unicodedata, "normalize", lambda _, text: normalized.append(text) or text)

    for text in (password, password + "x"):
        assert PASSWORDS.fault(text) == "Must have at most 1024 characters."
        assert not PASSWORDS.verify(None, text).correct

    assert normalized == [password] * 2
