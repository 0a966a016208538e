"""The search of `python -m faults.cost`, whose docstring says what is held to."""

import sys

import pytest

from faults import cost
from faults.meter import Cost
from faults.requests import PLACES, SLOW_PLACES, Visitor
from faults.texts import repeated

COOKIE, BODY, FORWARDED = (
    next(place for place in PLACES if place.name == name)
    for name in (
        "Cookie of GET /verify",
        "object of POST /login",
        "X-Forwarded-For of POST /logout",
    )
)
VISITOR = Visitor(b"00000001", b"header.payload.signature", b"header.payload.signature")
BASE = 0.000_3  # seconds


class Model:
    """A service whose cost is a function of the bytes that it is sent."""

    def __init__(self, seconds=lambda _: 0.0, answered=500, logged=0, status=401):
        self.seconds = seconds
        self.rest = answered, logged, status

    def measure(self, build, times, *, settles):
        (data,) = build(VISITOR).pieces
        return Cost(BASE + self.seconds(data), *self.rest)


def found(model, place=COOKIE):
    """Return what is broken after all texts in a place."""
    search = cost.Search(model)
    cost.systematically(search, [place], lambda _: None)
    return search.verdict()


def test_quadratic_time_is_found():
    """A reader that takes quadratic time over backslashes is found, by a text of backslashes."""
    (broken,) = found(Model(lambda data: 1e-9 * data.count(b"\\") ** 2))

    assert "Cookie of GET /verify" in broken
    assert "\\\\' * " in broken


def test_linear_time_is_fine():
    """One that takes half of the time that a byte may cost is not."""
    assert found(Model(lambda data: 0.5 * cost.MOST_A_KIB * len(data) / 1_024)) == []


def test_cheap_bytes_may_add_up_to_a_dear_request():
    """Nor may bytes that are cheap each add up to more than a request may cost."""
    (broken,) = found(Model(lambda data: 0.5 * cost.MOST_A_KIB * len(data) / 1_024), BODY)

    assert broken.startswith("16.")


@pytest.mark.parametrize(
    ("faulty", "said"),
    [
        ({"answered": 335_000}, "an answer of 335,000 bytes"),
        ({"logged": 60_000}, "60,000 bytes of log"),
        ({"status": 500}, "status 500"),
    ],
)
def test_more_than_time_is_found(faulty, said):
    """A long answer, a long line in the log and a fault of ours are found too."""
    (broken,) = found(Model(**faulty), FORWARDED)

    assert broken.startswith(said)


def test_hypothesis_climbs():
    """Hypothesis finds a cost that needs two things at once, which no text of the list has."""
    model = Model(lambda data: 1e-6 * data.count(b"%") * data.count(b"["))
    assert found(model) == []

    search = cost.Search(model)
    cost.at_random(search, [COOKIE], 1_000, 1)

    assert search.dearest[COOKIE.name].share > 1


def test_each_place_builds_a_request():
    """Each place has a name of its own, and puts a text of its longest size into a request."""
    names = [place.name for place in (*PLACES, *SLOW_PLACES)]

    assert sorted(set(names)) == sorted(names)
    for place in (*PLACES, *SLOW_PLACES):
        request = place.build(repeated(b"a", place.sizes[-1]).data, VISITOR)
        assert request.size > 50


@pytest.mark.skipif(sys.platform != "linux", reason="another process's CPU time is asked of Linux")
def test_the_search_can_fail(tmp_path):
    """A real service that takes quadratic time over a cookie is found out by one request."""
    with cost.measuring(tmp_path, cost.SPOILT) as meter:
        search = cost.Search(meter)
        search.look_at(COOKIE, repeated(b"\\\\", 8_000))

    (broken,) = search.verdict()
    assert "Cookie of GET /verify" in broken
