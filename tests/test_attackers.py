"""Simulated attackers: how many guesses get through, and that owners get in meanwhile.

The promises are those of docs/features/limits.md. An attacker here wastes no time: where a guess is
refused, the clock moves by `Retry-After`.
"""

from itertools import count, cycle

import pytest
from conftest import USER, cookie_of

HOUR = 3_600  # seconds
DAY = 24 * HOUR
WRONG = "wrong password"


class Attack:
    """Guesses for so many seconds, each as soon as it is let through, and counts them.

    With a pause in seconds the attacker waits that long after a refusal, and guesses in bursts; in
    the last pause each guess comes as soon as it is let through.
    """

    def __init__(self, clock, seconds=DAY, pause=0):
        self._clock, self._pause = clock, pause
        self._end = clock.now + seconds
        self.through = 0
        self.waited = []  # seconds

    def run(self, guess, most=10_000):
        """Call `guess` with a number until the time is over."""
        while self._clock.now < self._end and self.through < most:
            answer = guess(self.through)
            if answer.status_code == 429:
                wait = int(answer.headers["retry-after"])
                self.waited.append(wait)
                is_last = self._clock.now + self._pause >= self._end
                self._clock.move(wait if is_last else max(wait, self._pause))
            else:
                assert answer.status_code in {200, 201, 401}
                self.through += 1
        return self.through


@pytest.mark.parametrize("addresses", [1, 1_000])
@pytest.mark.parametrize("name", ["crispengari", "nobody"])
def test_one_account(client, clock, addresses, name):
    """One name gives 100 guesses, from however many addresses; its owner gets in all the while."""
    device = cookie_of(client.register(), "device")
    networks = cycle(f"10.0.{number >> 8}.{number & 255}" for number in range(addresses))
    owner = {"Cookie": f"device={device}"}

    def guess(_):
        return client.log_in(name, WRONG, remote_addr=next(networks))

    assert Attack(clock).run(guess) == 100
    assert client.log_in(headers=owner, remote_addr="192.0.2.1").status_code == 200


def test_one_account_whose_owner_comes_and_goes(client, clock):
    """An owner who logs in clears the count, so the day's budget is that of the rate: 249."""
    device = cookie_of(client.register(), "device")
    attack, last = Attack(clock), clock.now

    def guess(number):
        nonlocal last
        if clock.now - last > 6 * 3_600:  # four times a day
            last = clock.now
            owner = {"Cookie": f"device={device}"}
            assert client.log_in(headers=owner, remote_addr="192.0.2.1").status_code == 200
        return client.log_in(USER["username"], WRONG, remote_addr=f"10.0.0.{number % 256}")

    through = attack.run(guess)
    assert 249 < through <= 249 + 3 * 10  # each login fills the budget once more
    assert "locked_out" not in client.events()


def test_lockout_off_the_owners_way(make_client, clock):
    """Without the lockout the rate alone allows 249 guesses in the first day."""
    client = make_client(login_lockout=1_000_000)

    assert Attack(clock).run(lambda _: client.log_in("nobody", WRONG)) == 249


ACCOUNTS = 10_000
RIGHT = 200  # one pair of so many is right


def test_stolen_pairs_sprayed(client, clock):
    """A list of pairs over 10,000 accounts goes at the rate of the network: 7,499 in the first day.

    One that is right opens its account; meanwhile each owner gets in, and all that are elsewhere.
    On PostgreSQL, whose answers take longer, the attack lasts four hours.
    """
    device = cookie_of(client.register(), "device")
    hours = 24 if client.app.core.database.is_local else 4
    client.query(
        "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO users (username, username_key, email, email_key, password_hash) "
        "SELECT 'user' || i, 'user' || i, i || '@example.com', i || '@example.com', ? FROM n",
        ACCOUNTS,
        client.app.core.passwords.hash("correct horse"),
    )
    opened = []

    def spray(number):
        password = WRONG if number % RIGHT else "correct horse"
        answer = client.log_in(f"user{number + 1}", password, remote_addr="10.0.0.1")
        if answer.status_code == 200:
            opened.append(number)
        return answer

    through = 300 + hours * 300 - 1
    assert Attack(clock, hours * HOUR, pause=HOUR).run(spray) == through
    assert opened == list(range(0, through, RIGHT))
    assert client.log_in("user9999", "correct horse", remote_addr="192.0.2.1").status_code == 200
    owner = {"Cookie": f"device={device}"}
    for address in ("192.0.2.1", "10.0.0.1"):
        assert client.log_in(headers=owner, remote_addr=address).status_code == 200


def test_a_network_of_65536_networks(make_client, clock):
    """Whoever has an IPv6 /48 has four times the guesses of a /64: 999 a day at 10 an hour.

    A known browser of that network gets in, and so does everybody elsewhere.
    """
    client = make_client(login_network_limit="10/hour")
    device, numbers = cookie_of(client.register(), "device"), count()

    def guess(_):
        number = next(numbers)
        address = f"2001:db8:0:{number * 257 & 0xFFFF:x}::1"  # another /56 each time
        return client.log_in(f"user{number}", WRONG, remote_addr=address)

    assert Attack(clock, pause=HOUR).run(guess) == 40 + 24 * 40 - 1
    owner = {"Cookie": f"device={device}"}
    assert client.log_in(headers=owner, remote_addr="2001:db8::1").status_code == 200
    assert client.log_in(remote_addr="2001:db8:1::1").status_code == 200


def test_registrations_in_bulk(client, clock):
    """An address makes 499 accounts in the first day; somebody else registers meanwhile."""
    numbers = count()

    def register(_):
        name = f"bulk{next(numbers)}"
        body = {"username": name, "email": f"{name}@example.com", "password": "correct horse"}
        return client.post("/register", body, remote_addr="2001:db8::1")

    assert Attack(clock, pause=HOUR).run(register) == 499
    body = {**USER}
    assert client.post("/register", body, remote_addr="2001:db8:0:1::1").status_code == 201
