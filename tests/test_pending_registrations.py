"""Pending registrations: their mails, their limits, and what is kept of them."""

from conftest import OTHER, USER, attributes_of
from mailboxes import _make_mailing, code_in, links_in, statuses, text_of, token_in  # noqa: F401 - a fixture
from registrations import _browser, _client, _mail, browser_of, complete, users, verify  # noqa: F401 - fixtures

TAKEN = {"username": "another", "email": USER["email"], "password": "a better password"}


def test_taken_address(client):
    """A taken address gets the same answer, and its owner a mail without a link."""
    complete(client)
    free = client.register(**OTHER)
    client.mails()

    taken = client.register(**TAKEN)

    assert {**taken.json, "timestamp": ""} == {**free.json, "timestamp": ""}
    assert statuses(free, taken) == [202, 202]
    assert [*taken.headers] == [*free.headers]
    mail = client.mail()
    assert (mail["To"], links_in(mail)) == (USER["email"], [])
    assert USER["username"] in text_of(mail)
    assert verify(client, {"code": "123456"}, browser_of(taken)).json["error"] == "wrong_code"


def test_owner_is_told_once_a_day(client, clock):
    """The owner of a taken address gets one mail a day, however many register with it."""
    complete(client)
    for number in range(3):
        client.register(**{**TAKEN, "username": f"another{number}"})
    assert len(client.mails()) == 1
    clock.move(86_400)

    client.register(**TAKEN)

    assert len(client.mails()) == 1


def test_owner_is_disabled(client):
    """A disabled user gets no mail of a registration with the address."""
    complete(client)
    client.query("UPDATE users SET disabled_at = 1")

    assert client.register(**TAKEN).status_code == 202
    assert client.mails() == []


def test_wrong_codes(client, browser, mail):
    """The right code does not count after five wrong ones. The link does."""
    wrong = f"{(int(code_in(mail)) + 1) % 1_000_000:06}"
    for _ in range(5):
        verify(client, {"code": wrong}, browser)

    assert verify(client, {"code": code_in(mail)}, browser).status_code == 403
    assert verify(client, {"token": token_in(mail)}, browser).status_code == 201


def test_codes_are_locked(make_mailing):
    """Wrong codes in a row lock the codes of an address, until a link completes a registration."""
    client = make_mailing(email_verification="required", login_lockout=2)
    browser = browser_of(client.register())
    mail = client.mail()
    wrong = {"code": f"{(int(code_in(mail)) + 1) % 1_000_000:06}"}

    answers = [verify(client, body, browser) for body in (wrong, wrong, {"code": code_in(mail)})]

    kept = "SELECT count(*) FROM limits WHERE key LIKE 'registration-code%'"
    assert (statuses(*answers), client.query(kept)) == ([403, 403, 429], [(1,)])
    assert verify(client, {"token": token_in(mail)}, browser).status_code == 201
    assert client.query(kept) == [(0,)]


def test_wrong_codes_of_another_address(client, mail, browser):
    """A registration by the link of an older mail to another address clears no wrong codes."""
    attacker = browser_of(client.post("/register", OTHER, headers=browser))
    client.mail()
    verify(client, {"code": "wrong"}, attacker)

    assert verify(client, {"token": token_in(mail)}, attacker).status_code == 201
    kept = "SELECT count(*) FROM limits WHERE key LIKE 'registration-code%'"
    assert client.query(kept) == [(1,)]


def test_limit_of_other_usernames(make_mailing):
    """Each username that is asked for with a proof takes a try of the network's registrations."""
    client = make_mailing(email_verification="required", registration_limit="3/hour")
    complete(client)
    browser = browser_of(client.register(**OTHER))
    proof = {"token": token_in(client.mail())}

    taken = {**proof, "username": USER["username"], "password": OTHER["password"]}
    answers = [verify(client, body, browser) for body in (taken, taken, proof)]

    assert statuses(*answers) == [409, 429, 201]
    assert answers[1].headers["ratelimit-policy"] == '"registration";q=3;w=3600'


def test_mode_of_before(make_mailing, clock, caplog):
    """A mail that waits while proofs are not required is no fault, and is sent when they are."""
    client = make_mailing(email_verification="required")
    browser = browser_of(client.register())
    url = client.app.core.settings.database_url

    assert make_mailing(email_verification="optional", database_url=url).mails() == []

    assert [each for each in caplog.records if each.levelname == "ERROR"] == []
    clock.move(3_600)
    assert verify(client, {"code": code_in(client.mail())}, browser).status_code == 201


def test_limit_of_wrong_links(make_mailing):
    """Wrong links take tries of the network's logins."""
    client = make_mailing(email_verification="required", login_network_limit="3/hour")

    answers = [verify(client, {"token": "wrong"}) for _ in range(4)]

    assert statuses(*answers) == [400, 400, 400, 429]


def test_two_registrations_of_one_address(client):
    """The first to answer a mail gets the account. The other one is told, with a right code."""
    first, second = browser_of(client.register()), browser_of(client.register(**TAKEN))
    mails = client.mails()
    assert [each["To"] for each in mails] == [USER["email"]] * 2

    assert verify(client, {"code": code_in(mails[1])}, second).status_code == 201

    answer = verify(client, {"code": code_in(mails[0])}, first)
    assert (answer.status_code, answer.json["error"]) == (409, "email_taken")
    assert users(client) == [(TAKEN["username"], USER["email"])]


def test_registered_again(client, browser, mail):
    """Another registration sends another mail. The older link counts until there is an account."""
    again = browser_of(client.register())

    assert verify(client, {"code": code_in(client.mail())}, again).status_code == 201
    body = {"token": token_in(mail), "password": USER["password"]}
    assert verify(client, body).json["error"] == "email_taken"


def test_limit_of_an_address(client):
    """An address gets five mails an hour, taken or not, and the sixth registration is refused."""
    complete(client)
    for email in (USER["email"], "free@example.com"):
        answers = [client.register(username=f"n{n}", email=email) for n in range(6)]
        expected = [202] * 4 + [429] * 2 if email == USER["email"] else [202] * 5 + [429]
        assert statuses(*answers) == expected


def test_limit_of_a_day(make_mailing, clock):
    """An address gets ten mails a day. More registrations are answered, and nothing is sent."""
    client = make_mailing(email_verification="required", registration_limit="99/hour")
    for _ in range(12):
        assert client.register().status_code == 202
        clock.move(3_600)

    assert len(client.mails()) == 10


def test_nothing_secret_is_stored(client):
    """The database holds neither the link nor the cookie nor the password."""
    browser = browser_of(client.register(**TAKEN))["Cookie"]
    rows = str([client.query(f"SELECT * FROM {table}") for table in ("outbox", "one_time_tokens")])
    mail = client.mail()
    rows += str(client.query("SELECT * FROM one_time_tokens"))

    secret = browser.partition(".")[2]
    assert not [each for each in (token_in(mail), secret, TAKEN["password"]) if each in rows]
    assert TAKEN["username"] in rows


def test_language(client):
    """Both mails are in the language of the browser."""
    german = {"Accept-Language": "de"}
    answer = client.post("/register", USER, headers=german)
    mail = client.mail()
    verify(client, {"code": code_in(mail)}, browser_of(answer))
    client.post("/register", TAKEN, headers=german)

    subjects = [mail["Subject"], client.mail()["Subject"]]

    assert [each.split()[0] for each in subjects] == ["Bestätige", "Du"]


def test_wrong_link_with_a_password(client):
    """A wrong link is refused beside a password too."""
    answer = verify(client, {"token": "wrong", "password": USER["password"]})

    assert (answer.status_code, answer.json["error"]) == (400, "invalid_link")


def test_what_the_mail_and_the_cookie_say(client):
    """The mail says for how long its link counts. The cookie lives as long after a mail waited."""
    answer = client.register()

    assert "24 hours" in text_of(client.mail())
    assert attributes_of(answer, "registration") == (172_800, "/", None, True, "Lax", False)


def test_a_registration_that_has_ended_is_not_sent(client, caplog):
    """A mail whose registration has ended while it waited is not sent, and is no fault."""
    client.register()
    client.query("DELETE FROM one_time_tokens")

    assert client.mails() == []
    assert client.query("SELECT count(*) FROM outbox") == [(0,)]
    assert [each for each in caplog.records if each.levelname == "ERROR"] == []
