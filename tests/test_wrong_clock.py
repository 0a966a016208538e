"""A clock that is wrong, and is set right."""

import pytest
from conftest import token_of
from databases import UNLIMITED

from authapi.principal import FRESH_FOR

HOUR = 3_600


@pytest.fixture(name="client")
def _client(make_client):
    return make_client(**UNLIMITED)


@pytest.mark.parametrize(
    "moves", [[-HOUR], [HOUR], [HOUR, -HOUR], [-HOUR, HOUR], [HOUR, -2 * HOUR]]
)
def test_nobody_is_logged_out(client, token, clock, moves):
    """Sessions and renewed tokens outlive a clock that is an hour wrong and is corrected."""
    tokens = [token]
    for seconds in moves:
        clock.move(seconds)
        answers = [client.get_as(each) for each in tokens]
        assert {answer.status_code for answer in answers} == {200}
        tokens += [token_of(answer) for answer in answers if "set-cookie" in answer.headers]
        tokens.append(token_of(client.log_in()))

    answers = [client.get_as(each) for each in tokens]
    assert {answer.status_code for answer in answers} == {200}
    assert client.request_as(tokens[-1], "DELETE", "/sessions").status_code == 200
    assert client.get_as(tokens[-1], "/user/activity").status_code == 200


def test_what_has_expired_is_gone(make_client, clock):
    """A session that has expired by the clock opens nothing, and a pruned one stays dead."""
    client = make_client(session_lifetime=HOUR // 2, **UNLIMITED)
    token = token_of(client.register())

    clock.move(HOUR)
    assert client.get_as(token).status_code == 401
    client.app.jobs.run_due()
    clock.move(-HOUR)
    assert client.get_as(token).status_code == 401


@pytest.mark.parametrize(
    ("seconds", "status"), [(1 - FRESH_FOR, 200), (-FRESH_FOR, 403), (-HOUR, 403), (HOUR, 403)]
)
def test_no_session_is_fresh_for_longer(client, token, clock, seconds, status):
    """A clock that is set back by more than FRESH_FOR makes no session fresh for longer."""
    clock.move(seconds)

    assert client.request_as(token, "DELETE", "/user").status_code == status


def test_the_audit_log_keeps_all(client, token, clock):
    """A clock that moves by an hour deletes no audit entry, and prevents none."""
    for seconds in (HOUR, -2 * HOUR, HOUR):
        before = client.events()
        clock.move(seconds)
        assert client.log_in().status_code == 200
        assert client.events()[: len(before)] == before


# Keys
