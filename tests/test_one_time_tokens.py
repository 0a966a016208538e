"""One-time tokens: the links and codes of mails."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from conftest import USER
from mailboxes import _make_mailing, token_in  # noqa: F401 - a fixture

from authapi import Caller, CredentialsChanged
from authapi.events import Restored
from authapi.features.one_time_tokens import InvalidLink, OneTimeTokens, Purpose
from authapi.features.user_management import Users
from authapi.features.users import UserRepository
from authapi.outbox import Outbox

PURPOSE = Purpose("test", lifetime=1_800)
NOTICE = Purpose("notice", lifetime=604_800, outlives_changes=True, keeps_older=True)
NOBODY = Caller("", "", "")


class Mailbox:
    """Begins tokens as a request does, and sends them as the thread does that mails."""

    def __init__(self, client):
        self.core = client.app.core
        self.tokens = self.core.of(OneTimeTokens)
        self.begun = None

    def begin(self, purpose=PURPOSE, **options):
        with self.core.database.transaction():
            self.begun = self.tokens.begin(purpose, **options)
        return self.begun

    def send(self, begun, user_id=1, purpose=PURPOSE):
        credential = user_id and self.core.of(UserRepository).by_id(user_id)
        with self.core.database.transaction():
            return self.tokens.send(purpose, begun.id, credential)

    def mail(self, user_id=1, purpose=PURPOSE, **options):
        return self.send(self.begin(purpose, **options), user_id, purpose)

    def use(self, link, purpose=PURPOSE):
        """Use a link up; return whether it counted."""
        token = self.tokens.find(purpose, link)
        return token is not None and self.consume(token)

    def consume(self, token):
        """Consume a token; return whether it counted."""
        with suppress(InvalidLink), self.core.database.transaction(of=1):
            self.tokens.consume(token)
            return True
        return False

    def change_credentials(self):
        with self.core.database.transaction(of=1):
            self.core.events.emit(CredentialsChanged(1, NOBODY))


@pytest.fixture(name="client")
def _client(make_mailing):
    return make_mailing()


@pytest.fixture(name="mailbox")
def _mailbox(client, token):
    return Mailbox(client)


def test_link_is_used_once(mailbox):
    """A link counts once."""
    sent = mailbox.mail()

    assert [mailbox.use(sent.link) for _ in range(2)] == [True, False]


def test_many_threads_use_one_link(mailbox):
    """One of 32 threads that use a link at once succeeds."""
    sent = mailbox.mail()
    token = mailbox.tokens.find(PURPOSE, sent.link)

    with ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(mailbox.consume, [token] * 32)) == 1


def test_sent_again(mailbox):
    """A mail that is sent again has the same link and code, and those alone count."""
    begun = mailbox.begin()

    first, second = mailbox.send(begun), mailbox.send(begun)

    assert first == second
    assert len(first.link) == 43
    assert first.code.isdecimal()
    assert len(first.code) == 6


def test_no_secret_is_stored(client, mailbox):
    """The table holds no link, no code, and no secret of a cookie."""
    begun = mailbox.begin(is_bound=True)
    sent = mailbox.send(begun)

    (row,) = client.query("SELECT * FROM one_time_tokens")
    secrets = (sent.link, sent.code, begun.cookie.partition(".")[2])
    assert not {*map(str, row)} & {*secrets}


def test_expired(mailbox, clock):
    """A link counts for the lifetime of its purpose, from when it was sent."""
    begun = mailbox.begin()
    clock.move(600)
    sent = mailbox.send(begun)

    clock.move(1_799)
    assert mailbox.tokens.find(PURPOSE, sent.link)
    clock.move(1)
    assert not mailbox.tokens.find(PURPOSE, sent.link)


def test_sent_too_late(mailbox, clock):
    """A token that waited for its mail for longer than a lifetime is not sent."""
    begun = mailbox.begin()
    clock.move(1_800)

    assert mailbox.send(begun) is None


def test_another_purpose(mailbox):
    """A link counts for its own purpose alone."""
    sent = mailbox.mail()

    assert not mailbox.use(sent.link, NOTICE)
    assert mailbox.use(sent.link)


def test_changed_credentials(mailbox):
    """A change of credentials ends a link that was found before it, and no mail revives it."""
    begun = mailbox.begin()
    sent = mailbox.send(begun)
    token = mailbox.tokens.find(PURPOSE, sent.link)

    mailbox.change_credentials()

    assert mailbox.send(begun) is None
    assert not mailbox.consume(token)


def test_changed_before_it_was_sent(mailbox, other):
    """A mail that was asked for before a change of credentials is sent to nobody but others."""
    assert other
    late, others, notice = mailbox.begin(), mailbox.begin(), mailbox.begin(NOTICE, user_id=1)
    mailbox.change_credentials()
    mailbox.change_credentials()
    later = mailbox.begin()

    assert mailbox.send(late) is None
    assert mailbox.send(others, user_id=2)
    assert mailbox.send(notice, purpose=NOTICE)
    assert mailbox.use(mailbox.send(later).link)


def test_lost_root_key(make_mailing, token, tmp_path, clock):
    """A mail whose root key is gone says so where it waits, and is sent once the key is back."""
    client = make_mailing(mail_login="on", security_notices="off")
    client.ask_for_reset(USER["email"])
    url = client.app.core.settings.database_url
    without = make_mailing(database_url=url, root_key_file=str(tmp_path / "other"))

    assert without.mails() == []
    ((*_, error),) = without.app.core.of(Outbox).page("mail", 0, 9, only_dead=False)
    assert error == "the root key that it was begun with is not there"
    clock.move(10)
    assert client.reset(token_in(client.mail())).status_code == 200


def test_longest_lifetime():
    """A lifetime is refused that is longer than changes of credentials are remembered."""
    with pytest.raises(ValueError, match="shorten forever"):
        Purpose("forever", lifetime=604_801)


def test_link_of_a_notice(mailbox):
    """The link of a notice outlives changes of credentials, and newer ones of its kind."""
    sent = mailbox.mail(purpose=NOTICE)
    mailbox.change_credentials()
    mailbox.mail(purpose=NOTICE)

    assert mailbox.use(sent.link, NOTICE)


def test_disabled_user(mailbox):
    """No link of a disabled user counts."""
    links = [(mailbox.mail(purpose=each).link, each) for each in (PURPOSE, NOTICE)]

    mailbox.core.of(Users).disable(1, NOBODY)

    assert [mailbox.use(*each) for each in links] == [False, False]


def test_newer_token(client, mailbox, other):
    """A newer link ends the user's older one, nobody else's, and an older mail is not sent."""
    assert client.get_as(other).json["user"]["id"] == 2
    late, begun = mailbox.begin(), mailbox.begin()
    others = mailbox.mail(user_id=2)
    older = mailbox.send(begun)
    newer = mailbox.mail()

    assert mailbox.send(late) is None
    assert [mailbox.use(each.link) for each in (older, newer, others)] == [False, True, True]


def test_nobodys_token(mailbox):
    """A token can be nobody's, as that of a registration is."""
    sent = mailbox.mail(user_id=None, data='{"username": "frodo"}')

    token = mailbox.tokens.find(PURPOSE, sent.link)
    assert (token.user_id, token.data) == (None, '{"username": "frodo"}')
    assert mailbox.use(sent.link)


def test_code_in_the_asking_browser(mailbox):
    """A code counts with the cookie of the browser that asked, and with no other."""
    begun, other = mailbox.begin(is_bound=True), mailbox.begin(is_bound=True)
    sent = mailbox.send(begun)
    number, _, _ = begun.cookie.partition(".")
    _, _, secret = other.cookie.partition(".")

    for cookie in ("", f"{number}.", f"{number}.{secret}", other.cookie, f"x{begun.cookie}"):
        assert mailbox.tokens.guess(PURPOSE, sent.code, cookie=cookie) is None
    assert mailbox.tokens.guess(PURPOSE, sent.code, user_id=1) is None
    assert mailbox.tokens.guess(PURPOSE, sent.code, cookie=begun.cookie).user_id == 1


def test_code_in_a_session(client, mailbox, other):
    """A code counts in a session of its user, and in nobody else's."""
    assert client.get_as(other).status_code == 200
    sent = mailbox.mail(user_id=1)

    assert mailbox.tokens.guess(PURPOSE, sent.code, user_id=2) is None
    token = mailbox.tokens.guess(PURPOSE, sent.code, user_id=1)
    assert mailbox.consume(token)


def test_tries_of_a_code(mailbox):
    """After five tries a code is dead, however many there are at once. The link is not."""
    sent = mailbox.mail()
    wrong = f"{(int(sent.code) + 1) % 1_000_000:06}"
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: mailbox.tokens.guess(PURPOSE, wrong, user_id=1), "1234"))

    assert found == [None] * 4
    assert mailbox.tokens.guess(PURPOSE, sent.code, user_id=1)
    assert mailbox.tokens.guess(PURPOSE, sent.code, user_id=1) is None
    assert mailbox.use(sent.link)


def test_nothing_that_was_not_sent(mailbox):
    """Neither a code nor a link counts of a token that was not sent."""
    begun = mailbox.begin(is_bound=True)

    assert mailbox.tokens.guess(PURPOSE, "000000", cookie=begun.cookie) is None
    assert mailbox.tokens.find(PURPOSE, "") is None


def test_deleted_user(client, token, mailbox):
    """A user who is deleted leaves no token."""
    mailbox.mail()

    client.request_as(token, "DELETE", "/user")

    assert client.query("SELECT count(*) FROM one_time_tokens") == [(0,)]


def test_restored_backup(client, mailbox):
    """A restore ends every token: those of the backup may have been used since."""
    mailbox.mail()
    mailbox.begin()

    with mailbox.core.database.transaction():
        mailbox.core.events.emit(Restored(None, NOBODY))

    assert client.query("SELECT count(*) FROM one_time_tokens") == [(0,)]


def test_pruning(client, mailbox, clock):
    """Expired tokens are deleted, whether they were sent or not."""
    mailbox.mail()
    mailbox.begin()
    mailbox.mail(purpose=NOTICE)
    clock.move(1_800)

    client.app.jobs.run_due()

    assert client.query("SELECT purpose FROM one_time_tokens") == [("notice",)]


def test_codes_begin_with_every_digit(mailbox):
    """Codes are spread over all of the six digits, and those below 100,000 have their zeros."""
    codes = [mailbox.mail(user_id=None).code for _ in range(150)]

    assert {code[0] for code in codes} == {*"0123456789"}
