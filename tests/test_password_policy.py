"""New passwords: what is common, what a rule can guess, and what the operator refuses."""

import hashlib
import time

import pytest
from conftest import CHEAP, USER

from authapi import Settings, StartError, create_app
from authapi.passwords.patterns import is_sequence, repeated, stems
from authapi.passwords.policy import COMMON, PasswordPolicy
from authapi.passwords.sorted_lines import SortedLines

LISTED = "Is on the list of passwords that this service refuses."
NAMED = "Must not be your username, your email or the name of this service."


@pytest.fixture(name="policy")
def _policy(tmp_path):
    def policy(listed=None, **settings):
        if listed is not None:
            path = tmp_path / "blocked"
            path.write_bytes(listed)
            settings["blocked_passwords"] = str(path)
        return PasswordPolicy(Settings(**CHEAP, **settings))

    return policy


def test_the_common_passwords(policy):
    """The list has 16,000 and more of 8 characters and up, and each is refused in any case."""
    common = [word for word in COMMON.read_text(encoding="utf-8").splitlines() if len(word) >= 8]
    fault = policy().fault

    assert len(common) >= 16_000
    assert [word for word in common if not fault(word)] == []
    assert [word for word in common[::100] if not fault(word.upper())] == []


@pytest.mark.parametrize(
    "password",
    [
        *("87654321", "aaaaaaaa", "987654321", "123123123", "88888888", "00000000"),
        *("12345678910", "Aa123456", "Abcd@1234", "Admin@123", "India@123", "Pass@123"),
        *("P@ssw0rd", "p455w0rd!", "Password2026!", "!!dragon99", "Qwertz123456", "1qaz@WSX"),
        *("qwer1234asdf", "zyxwvuts", "67890123", "passwordpassword", "hunter2hunter2"),
        *("\uff41dmin@123", "abcabcab", "x" * 1_000, "xy" * 500),
    ],
)
def test_what_can_be_guessed(policy, password):
    """A common word with its endings, a repetition, a sequence or a row of keys is refused."""
    assert policy().fault(password)


@pytest.mark.parametrize(
    "password",
    [
        USER["password"],
        *(
            "correct horse battery staple",
            "my password is a long phrase",
            "dragons eat qwerty keys",
        ),
        *("kF7#qz!m", "tr0ub4dor&3 and more", "пароль-который-длинный", "9f86d081884c7d65"),
    ],
)
def test_what_cannot(policy, password):
    """A long phrase may hold a common word, and what is in no list and no rule passes."""
    assert policy().fault(password) is None


def test_stems():
    """The stem of a word with endings: letters for what stands for them, 6 characters at most."""
    assert "password" in set(stems("p@ssw0rd2026!"))
    assert "linkin" in set(stems("l1nk1n!"))
    assert not set(stems("maria1234567")) & {"maria"}


@pytest.mark.parametrize(
    ("password", "is_one"),
    [
        *(("aaaa1111", True), ("abcdefgh", True), ("8765432x", True), ("asdfghjk", True)),
        *(("poiuytre", True), ("abc123xyz", True), ("ab12cd34", False), ("abcdxkqz", False)),
    ],
)
def test_sequences(password, is_one):
    """A sequence repeats, counts or follows the keyboard; a third may be other characters."""
    assert is_one == is_sequence(password)


def cpu(password):
    """Return the CPU time of a hundred checks of a password."""
    began = time.process_time()
    for _ in range(100):
        is_sequence(password)
    return time.process_time() - began


def test_sequences_are_cheap():
    """A long password that is none takes about as long as a short one."""
    short = min(cpu("bytes=0-1,") for _ in range(5))

    assert min(cpu("bytes=0-1," * 100) for _ in range(5)) < 20 * short
    assert not is_sequence("abcxyz123" * 100)


@pytest.mark.parametrize(
    ("password", "part"), [("abcabcab", "abc"), ("abcdabcd", "abcd"), ("abcdefga", None)]
)
def test_repeated(password, part):
    """The part that a password repeats, also where the last one is cut short."""
    assert part == repeated(password)


def test_own_names(policy):
    """If the setting refuses names, a password may not be the user's name or the service's."""
    names = ("crispengari", "cris.peng@example.com")
    refusing = policy(own_name_passwords="refused", public_url="https://auth.acme-tools.com")

    for password in ("crispengari", "CrispenGari2026!", "cris.peng@example.com", "cris.peng1"):
        assert refusing.fault(password, names) == NAMED
    for password in ("acme-tools", "Acme-Tools99", "auth.acme-tools.com", "authapi-2026"):
        assert refusing.fault(password) == NAMED
    assert refusing.fault("crispengari likes tea", names) is None
    assert policy().fault("crispengari", names) is None


def test_own_names_over_http(make_client):
    """A registration and a change of the password know the names; other faults are told with it."""
    client = make_client(own_name_passwords="refused")

    answer = client.register(username="a b")
    assert answer.status == "422 Unprocessable Entity"
    assert [fault["field"] for fault in answer.json["errors"]] == ["username", "password"]
    token = client.register(password="something else").cookies["jwt"].value
    body = {"current_password": "something else", "new_password": "crispengari1"}
    answer = client.request_as(token, "PUT", "/user/password", body)
    assert answer.json["errors"] == [{"field": "new_password", "message": NAMED}]


def test_own_words(policy):
    """An operator's words are refused, in any case and with endings."""
    fault = policy(b"Acme\nGreen Machine\n").fault

    assert fault("green machine") == LISTED
    assert fault("acme2026!") == "Is a common word with digits or signs."
    assert fault("acme is a fine company") is None


@pytest.mark.parametrize("case", [str.upper, str.lower])
@pytest.mark.parametrize("end", ["\n", "\r\n", ":17\r\n"])
def test_breached_passwords(policy, case, end):
    """A sorted list of SHA-1 digests is searched, with or without counts, in either case."""
    breached = [f"breached {number}" for number in range(3_000)]
    digests = sorted(case(hashlib.sha1(word.encode()).hexdigest()) for word in breached)
    fault = policy("".join(f"{digest}{end}" for digest in digests).encode()).fault

    assert {fault(word) for word in breached[::10]} == {LISTED}
    assert {fault(f"{word} not") for word in breached[::10]} == {None}


def test_every_line_is_found(tmp_path):
    """Each line of a file is found, whatever the size of the file; and nothing else."""
    for count in (0, 1, 2, 40, 41, 5_000):
        lines = sorted(f"{number:05d}{'x' * (number % 50)}".encode() for number in range(count))
        (tmp_path / "lines").write_bytes(b"".join(line + b"\n" for line in lines))
        found = SortedLines(tmp_path / "lines")

        assert all(found.find(line) for line in lines)
        assert not any(found.find(line + b"y") or found.find(line[:-1]) for line in lines)
        assert not found.find(b"")


@pytest.mark.parametrize(
    ("listed", "sentence"),
    [
        (b"B" * 40 + b"\n" + b"A" * 40 + b"\n", "is not sorted: sort it with LC_ALL=C sort"),
        ((b"A" * 40 + b"\n") * 30 + b"a word\n" * 30, "has lines that are not hexadecimal"),
        (b"caf\xe9\n", "is not UTF-8: convert it"),
        (b"word\n" * 4_000_000, "has more than 16 MiB of words"),
    ],
)
def test_a_list_that_cannot_be_used(policy, listed, sentence):
    """A list that cannot be searched stops the start with a sentence that says why."""
    with pytest.raises(StartError, match=sentence) as error:
        policy(listed)

    assert str(error.value).startswith("The file of AUTHAPI_BLOCKED_PASSWORDS, ")


def test_no_such_list(tmp_path):
    """A list that is not there stops the start."""
    settings = Settings(
        blocked_passwords=str(tmp_path / "none"), database_url=f"sqlite:///{tmp_path}/authapi.db"
    )
    with pytest.raises(StartError, match="cannot be read"):
        create_app(settings)
