"""argon2 in memory of our own: bit for bit what the reference implementation makes."""

import random
import subprocess
import sys
import threading

import argon2
import pytest
from argon2.low_level import Type, ffi, hash_secret, verify_secret
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from authapi.passwords import hashing
from authapi.passwords.hashing import MOST_MEMORY_KIB, Arena, Hasher
from authapi.passwords.stored_hashes import Cost, Stored

ARENA = Hasher(Cost(memory_kib=256, passes=1, lanes=1))

# From the reference implementation's src/test.c: t, m as a power of two, p, password, salt, hash.
VECTORS = [
    "$argon2i$v=16$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ",
    "$argon2i$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ",
    "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
    "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
    "$argon2i$v=19$m=256,t=2,p=2$c29tZXNhbHQ$T/XOJ2mh1/TIpJHfCdQan76Q5esCFVoT5MAeIM1Oq2E",
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
]


@pytest.mark.parametrize("encoded", VECTORS)
def test_vectors(encoded):
    """The published vectors, in the arena and beyond it."""
    assert ARENA.matches(Stored.parse(encoded), b"password")
    assert not ARENA.matches(Stored.parse(encoded), b"passwore")


def drawn(number):
    """Return a random case of everything that a stored hash may contain."""
    draw = random.Random(number)
    lanes = draw.choice([1, 1, 2, 3, 4, 7])
    return {
        "secret": draw.randbytes(draw.choice([0, 1, 8, 12, 40, 130, 1_024])),
        "salt": draw.randbytes(draw.choice([8, 9, 12, 15, 16, 17, 32, 64])),
        "time_cost": draw.choice([1, 1, 1, 2, 3]),
        "memory_cost": draw.randint(8 * lanes, 8 * lanes + draw.choice([9, 9, 9, 64, 250])),
        "parallelism": lanes,
        "hash_len": draw.choice([4, 5, 16, 20, 31, 32, 33, 64, 65, 100, 256]),
        "type": draw.choice(list(Type)),
        "version": draw.choice([16, 19]),
    }


@pytest.mark.parametrize("part", range(4))
def test_bit_for_bit(part):
    """Thousands of random cases: argon2-cffi's hash is ours, character by character."""
    for number in range(part * 500, part * 500 + 500):
        case = drawn(number)
        encoded = hash_secret(**case).decode()
        stored = Stored.parse(encoded)

        assert str(stored) == encoded, case
        assert ARENA._tag(stored, case["secret"]) == stored.tag, case


def test_our_hashes_are_anyones():
    """argon2-cffi verifies the hashes that we store."""
    hasher = Hasher(Cost(memory_kib=47_104, passes=1, lanes=1))

    encoded = str(hasher.hash(b"a password"))

    assert argon2.PasswordHasher().verify(encoded, "a password")


def reference_accepts(text):
    """Return whether argon2-cffi would verify against a text at all."""
    try:
        return verify_secret(text.encode(), b"password", argon2.extract_parameters(text).type)
    except argon2.exceptions.VerifyMismatchError:
        return True
    except (argon2.exceptions.Argon2Error, ValueError):
        return False


GOOD = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ"


@settings(max_examples=1_000)
@given(st.integers(0, len(GOOD)), st.integers(0, 3), st.text("$=,vmtp0123479+/-A ", max_size=3))
@example(0, 0, "")
@example(len(GOOD), 0, "=")
@example(len(GOOD) - 1, 1, "R")  # bits beyond the last byte
@example(17, 0, "0")  # m=08
def test_parse_is_as_strict(at, cut, put):
    """A text that is nearly a hash is read where the reference reads it, and nowhere else.

    But for versions that never were, which the reference takes for 19 with another salt.
    """
    text = GOOD[:at] + put + GOOD[at + cut :]
    assume("$v=" not in text or "$v=16$" in text or "$v=19$" in text)
    try:
        stored = Stored.parse(text)
    except ValueError:
        ours = False
    else:
        if stored.cost.work > 4_096:
            return  # a digit more: it would take its time
        ours = True

    assert ours == reference_accepts(text)


def test_more_than_the_arena_holds():
    """A hash that needs more memory than ours is verified the plain way."""
    stored = Stored.parse(argon2.PasswordHasher(memory_cost=1_024).hash("a password"))

    assert stored.cost.memory_kib > ARENA.cost.memory_kib
    assert ARENA.matches(stored, b"a password")
    assert not ARENA.matches(stored, b"another")


def test_arena_is_kept_and_wiped(monkeypatch):
    """All hashes of a thread are made in one piece of memory, which holds nothing between them."""
    hasher = Hasher(Cost(memory_kib=64, passes=1, lanes=1))
    made = []
    monkeypatch.setattr(
        "authapi.passwords.hashing.Arena", lambda size: made.append(Arena(size)) or made[-1]
    )

    stored = hasher.hash(b"a password")
    assert hasher.matches(stored, b"a password")

    (arena,) = made
    assert not any(arena._map[:])


def test_arena_is_used(monkeypatch):
    """argon2 works in the arena, and gives it back."""
    asked, given_back = [], []
    hasher = Hasher(Cost(memory_kib=64, passes=1, lanes=1))
    arena = hasher._arena()
    allocate, free = arena.allocate, arena.free
    arena.allocate = ffi.callback(
        "int(uint8_t **, size_t)", lambda place, size: asked.append(size) or allocate(place, size)
    )
    arena.free = ffi.callback(
        "void(uint8_t *, size_t)",
        lambda memory, size: given_back.append(size) or free(memory, size),
    )

    hasher.hash(b"a password")

    assert asked == given_back == [64 * 1_024]


@pytest.mark.parametrize("error", [OSError, MemoryError])
def test_no_arena(monkeypatch, caplog, error):
    """If the system refuses the memory or callbacks, argon2 allocates its own; the log says so."""

    def refuse(_size):
        raise error

    monkeypatch.setattr("authapi.passwords.hashing.Arena", refuse)
    hasher = Hasher(Cost(memory_kib=64, passes=1, lanes=1))

    for _ in range(3):
        assert argon2.PasswordHasher().verify(str(hasher.hash(b"a password")), "a password")

    (line,) = caplog.messages
    assert line.startswith("each password hash takes about twice the CPU time")
    assert error.__name__ in line


HARDENED = """
import ctypes, sys
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1  # linux/prctl.h
if ctypes.CDLL(None).prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
    sys.exit("no PR_SET_MDWE: Linux before 6.3")
try:
    ctypes.CFUNCTYPE(None)(print)
except MemoryError:
    sys.exit("no callbacks of ctypes: libffi before 3.4")
from authapi.passwords.hashing import Hasher
from authapi.passwords.stored_hashes import Cost
hasher = Hasher(Cost(memory_kib=64, passes=1, lanes=1))
stored = hasher.hash(b"a password")
print(hasher.matches(stored, b"a password"), hasher._arena() is not None)
"""


def test_hardened_host():
    """Memory is kept also where none may be written and executed (MemoryDenyWriteExecute=yes)."""
    found = subprocess.run(
        [sys.executable, "-c", HARDENED], capture_output=True, text=True, check=False
    )
    if found.stderr.startswith("no "):
        pytest.skip(found.stderr)

    assert (found.stdout, found.stderr) == ("True True\n", "")


def test_an_arena_for_each_thread():
    """Hashes made at once do not disturb each other."""
    hasher = Hasher(Cost(memory_kib=4_096, passes=2, lanes=1))
    stored = [hasher.hash(str(number).encode()) for number in range(4)]
    right = []

    def check(number):
        password = str(number).encode()
        right.extend(hasher.matches(stored[number], password) for _ in range(10))

    threads = [threading.Thread(target=check, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert right == [True] * 40


@pytest.mark.parametrize(
    ("ours", "stored", "excess"),
    [
        (Cost(47_104, 1, 1), Cost(65_536, 3, 4), ""),  # argon2-cffi's
        (Cost(47_104, 1, 1), Cost(102_400, 2, 8), ""),  # Django's
        (Cost(47_104, 1, 1), Cost(MOST_MEMORY_KIB, 4, 1), ""),  # libsodium's SENSITIVE
        (Cost(47_104, 1, 1), Cost(MOST_MEMORY_KIB, 5, 1), "6 seconds of CPU time"),
        (Cost(47_104, 1, 1), Cost(MOST_MEMORY_KIB + 1, 1, 1), "1024 MiB of memory"),
        (Cost(47_104, 1, 1), Cost(8, 4_294_967_295, 1), "38655 seconds of CPU time"),
        (Cost(2_097_152, 4, 128), Cost(2_097_152, 4, 128), ""),
        (Cost(2_097_152, 4, 128), Cost(1_048_576, 8, 1), ""),
        (Cost(2_097_152, 4, 128), Cost(2_097_152, 5, 128), "12 seconds of CPU time"),
    ],
)
def test_foreign_costs_are_capped(monkeypatch, ours, stored, excess):
    """A hash from elsewhere takes no more CPU time than 5 seconds on this machine, or than ours."""
    monkeypatch.setattr(Hasher, "_seconds_per_kib", 1.125e-6)

    assert Hasher(ours).excess(stored) == excess


def test_a_machine_is_measured_by_its_cpu_time(monkeypatch):
    """The bound follows the machine: the shorter of two hashes at our cost is what a KiB takes."""
    ticks = iter([0.0, 4.0, 10.0, 12.0])
    monkeypatch.setattr(hashing.time, "thread_time", lambda: next(ticks))
    hasher = Hasher(Cost(memory_kib=64, passes=3, lanes=8))

    assert hasher.excess(Cost(128, 2, 1)) == "8 seconds of CPU time"
    assert hasher.excess(Cost(128, 1, 1)) == ""  # no more than ours: 64 KiB in 3 passes
    assert hasher.excess(Cost(8, 25, 1)) == "6 seconds of CPU time"


def test_the_default_is_measured(monkeypatch):
    """At the default cost, what libraries have for a default is far from too much."""
    assert Hasher(Cost(47_104, 1, 1)).excess(Cost(65_536, 3, 4)) == ""


@pytest.mark.parametrize(("lanes", "threads"), [(1, 1), (4, 4), (64, 1)])
def test_threads_of_a_hash(monkeypatch, lanes, threads):
    """Only a hash of our own cost has a thread for each lane: starting them is the dearest part."""
    used = []

    def fill(context, kind):
        used.append(context.threads)
        return argon2.low_level.core(context, kind)

    monkeypatch.setattr(hashing, "core", fill)
    hasher = Hasher(Cost(memory_kib=512, passes=1, lanes=4))
    stored = argon2.PasswordHasher(1, 512, lanes).hash("a password")

    assert hasher.matches(Stored.parse(stored), b"a password")
    assert used == [threads]


@pytest.mark.parametrize(
    "text",
    [
        "$argon2id$v=19$m=8,t=1,p=1$c29tZQ$9sTbSlTio3Biev89thdrlA",  # a salt of 4 bytes
        "$argon2id$v=19$m=8,t=1,p=2$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlA",  # 4 KiB a lane
        "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$9sQ",  # a tag of 2 bytes
    ],
)
def test_rules_of_argon2(text):
    """A hash that argon2 would refuse to compute at once is not accepted."""
    with pytest.raises(ValueError, match="less than argon2 takes"):
        Stored.parse(text)


@pytest.mark.parametrize(
    ("code", "error"), [(-22, MemoryError), (-33, MemoryError), (-1, ValueError)]
)
def test_failures_of_argon2(monkeypatch, code, error):
    """A lack of memory or of threads, or a mistake of ours, is never a wrong password."""
    monkeypatch.setattr("authapi.passwords.hashing.core", lambda *_: code)

    with pytest.raises(error):
        ARENA.matches(Stored.parse(GOOD), b"password")


def test_long_texts_are_not_read():
    """The longest hash that a database could hold costs nothing."""
    with pytest.raises(ValueError, match="no argon2 hash"):
        Stored.parse(GOOD + "A" * 1_024)
