# ruff: noqa: RUF001 - letters that look alike are what it is about
"""Usernames: what a new one must be, which are reserved, and which look alike."""

import ctypes
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import OTHER, USER, token_of
from databases import opened
from hypothesis import given
from hypothesis import strategies as st

from authapi.identifiers import username_key
from authapi.identifiers.characters import FILE
from authapi.identifiers.usernames import RESERVED, fault

CYRILLIC_COCA = "\u0441\u043e\u0441\u0430"


def faults(answer):
    return {error["field"]: error["message"] for error in answer.json["errors"]}


def legacy(client, username, **fields):
    """Add a user with a name from before the rules; return the token."""
    token = token_of(client.register(**fields))
    key = username_key(username)
    client.query(
        "UPDATE users SET username = ?, username_key = ? WHERE id = (SELECT max(id) FROM users)",
        username,
        key,
    )
    return token


def rename(client, token, username):
    return client.request_as(token, "PATCH", "/user", {"username": username})


@pytest.mark.parametrize(
    "username",
    [
        *("a", "x" * 80, "a.b_c-d", "41", "\u0663", "_x", "X Æ A-12".replace(" ", "")),
        *(
            "José",
            "Zoë",
            "Łukasz",
            "Đorđe",
            "Bjørn",
            "İstanbul",
            "Yıldırım",
            "Nguyễn",
            "Akɔmaa",
            "Ñandú",
        ),
        *("Саша", "Тамара", "Наталія", "Ґалаґан", "Ελένη", "Նարեկ", "ნინო"),
        *(
            "محمد",
            "دُنْيَا",
            "مریم",
            "דוד",
            "שָׁלוֹם",
            "हिन्दी",
            "বাংলা",
            "தமிழ்",
            "สมชาย",
            "น้ำฝน",
            "བཀྲ་ཤིས".replace("་", ""),
        ),
        *(
            "李小龍",
            "山田たろう",
            "スーパーマン",
            "佐藤サトシabc",
            "김철수",
            "李abc",
            "金김kim",
            "ㄅㄆ王wang",
        ),
        *("ᏣᎳᎩ", "ⵉⵎⴰⵣⵉⵖⵏ", "ߒߞߏ", "ᐃᓄᒃᑎᑐᑦ"),
        *("ﬁ", "ｗｉｄｅ", "e\u0301cole", "\u1ec7"),
    ],
)
def test_good_usernames(client, username):
    """Names of all living scripts come back as typed, composed or not, and log in."""
    answer = client.register(username=username)

    assert answer.status_code == 201, answer.json
    assert username == answer.json["user"]["username"]
    assert client.log_in(username).status_code == 200


MARKS = "Has marks that do not belong there."
SCRIPTS = "Mixes scripts that are not written together."


@pytest.mark.parametrize(
    ("username", "message"),
    [
        ("", "Must have 1 to 80 characters."),
        ("x" * 81, "Must have 1 to 80 characters."),
        *(
            (name, "May hold only letters, marks, digits, '.', '_' and '-'.")
            for name in (
                "a b",
                "a@b",
                "＠",
                "a\n",
                "a\0",
                "🙂",
                "a/b",
                "a\u200b",
                "²",
                "<b>",
                "\u2800",
            )
        ),
        *((name, "Must have a letter or a digit.") for name in ("...", "-_-", "_", "\u0301")),
        ("a\ufe0fb", "Must not hold the character U+FE0F."),
        ("\u3164", "Must not hold the character U+1160."),
        ("a\u034f", "Must not hold the character U+034F."),
        ("\u0261oogle", "Must not hold the character U+0261."),
        ("\U00013000", "Must not hold the character U+13000."),
        ("\ufdfa", "Must not hold the character U+0020."),
        *(
            (name, MARKS)
            for name in (
                "\u0301a",
                "a_\u0301",
                "1\u0301",
                "a\u0301\u0301",
                "a\u0300\u0301\u0302\u0303\u0304",
                "i\u0307",
                "j\u0323\u0307",
                "\u0456\u0307",
            )
        ),
        ("a\u0663", SCRIPTS),
        ("\u0663\u06f3", "Mixes digits of several kinds."),
        *(
            (name, SCRIPTS)
            for name in (
                "\u0430dmin",
                "pаypal",
                "Иван_ivan",
                "αβγabc",
                "Саша山",
                "カタカナ한글",
                "ᎪdmiN",
                "דודabc",
            )
        ),
    ],
)
def test_bad_usernames(client, username, message):
    """A name that cannot be read for what it is, is refused at registration and at a rename."""
    token = token_of(client.register())
    other = {**OTHER, "username": username}

    answers = [client.post("/register", other), rename(client, token, username)]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert [faults(answer) for answer in answers] == [{"username": message}] * 2


def test_a_dot_that_is_seen(client):
    """A dot belongs on a letter that has none, wherever an i stands before it."""
    assert client.register(username="il\u017c").status_code == 201


@given(st.text(max_size=100))
def test_a_username_is_no_email(text):
    """No text is both, so an identifier can be looked up in one way only."""
    assert fault(text) or "@" not in text


@given(st.text(st.characters(categories=["L", "M", "Nd"]), min_size=1, max_size=8))
def test_either_form_of_a_name(name):
    """A name is fit or unfit, whether it comes composed or decomposed."""
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]

    assert len({fault(form) is None for form in forms}) == 1


def test_the_data_is_what_the_script_builds():
    """The file of characters is as the script builds it from the release that the file names."""
    version = FILE.read_text().partition("ICU ")[2].partition(" ")[0]
    library = f"libicui18n.so.{version}"
    try:
        ctypes.CDLL(library)
    except OSError:
        pytest.skip(f"{library} is not installed")
    script = Path(__file__).parent.parent / "tools" / "username_characters.py"

    assert FILE.read_bytes() == subprocess.check_output([sys.executable, script, version])


# Reserved names

RESERVED_MESSAGE = "Is reserved, or looks like a reserved name."


@pytest.mark.parametrize(
    "username",
    [
        *("admin", "ADMIN", "Root", "noreply", "no.reply", "mailerdaemon", "sysAdmin", "_admin_"),
        *("Ädmin", "àdmín", "r\u00f8\u00f8t", "adrnin", "r00t", "ADM1N", "nu1l"),
        *("adm\u0131n", "\u0455\u0443\u0455\u043e\u0440"),  # a dotless i; all Cyrillic
        "\U0001d41a\U0001d41d\U0001d426\U0001d422\U0001d427",  # mathematical bold
    ],
)
def test_reserved_usernames(client, username):
    """Nobody registers a reserved name, or renames to one, whatever it is spelt with."""
    token = token_of(client.register())

    answers = [client.register(**{**OTHER, "username": username}), rename(client, token, username)]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert [faults(answer)["username"] for answer in answers] == [RESERVED_MESSAGE] * 2


@pytest.mark.parametrize("username", ["Ali", "Roots", "admins", "Sal", "Adam", "minad", "Staffan"])
def test_names_near_reserved_ones(client, username):
    """A name that only holds a reserved one, or is near it, is anybody's."""
    assert client.register(username=username).status_code == 201


def test_reserved_usernames_are_a_setting(make_client):
    """The setting takes the place of the list; `none` reserves no name."""
    own = make_client(reserved_usernames="acme Acme-Team")
    assert faults(own.register(username="ACME.team")) == {"username": RESERVED_MESSAGE}
    assert own.register(username="admin").status_code == 201

    none = make_client(reserved_usernames="none")
    assert none.register(username="root", email="root@example.com").status_code == 201
    assert none.register(username="none", email="none@example.com").status_code == 201


def test_each_reserved_name_is_one():
    """The default list is in order, without one that another covers."""
    names = RESERVED.split()

    assert names == sorted(names)
    assert len({name.replace("-", "") for name in names}) == len(names)


def test_users_keep_reserved_names(client):
    """A user who has a reserved or unfit name logs in by it, keeps it, and may change it."""
    for name in ("admin", "\u0430dmin", "...", "crispen\ufe0f"):
        token = legacy(client, name)
        assert client.log_in(name).json["user"]["username"] == name
        assert rename(client, token, name).status_code == 200
        assert rename(client, token, "pengari").status_code == 200
        client.query("DELETE FROM users")


# Names that look alike

LOOKALIKE = "A username that looks like this one is already taken."
ALIKE = [
    ("coca", CYRILLIC_COCA),
    ("nina", "\u039d\u0399\u039d\u0391"),  # Greek capitals
    ("hat", "\u041d\u0410\u0422"),  # Cyrillic capitals
    ("iha", "\u0406\u041d\u0410"),
    ("paypal", "\u0440\u0430\u0443\u0440\u0430\u04cf"),
    ("yilmaz", "Yılmaz"),
    ("سىد", "سيد"),
    ("مريم", "مریم"),
    ("\u5f3a\u529b", "\u5f3a\u30ab"),
]


@pytest.mark.parametrize("pair", [*ALIKE, *(pair[::-1] for pair in ALIKE)])
def test_names_that_look_alike(client, pair):
    """Whoever comes second does not get a name that looks like another user's, in either order."""
    one, other = pair
    first = token_of(client.register(username=one))

    refused = client.register(**{**OTHER, "username": other})
    token = token_of(client.post("/register", OTHER))
    renamed = rename(client, token, other)

    for answer in (refused, renamed):
        assert (answer.status_code, answer.json["error"]) == (409, "username_taken")
        assert answer.json["message"] == LOOKALIKE
    assert rename(client, first, "free").status_code == 200
    assert rename(client, token, other).status_code == 200


def test_ascii_looks_like_itself(client):
    """Names of ASCII that differ in it are two names, though a font may draw them alike."""
    for number, username in enumerate(["paul1", "paull", "PauI1", "rnike", "mike", "bob0", "bobo"]):
        assert client.register(username=username, email=f"{number}@x").status_code == 201


def test_a_user_renames_to_what_looks_like_their_own_name(client, token):
    """A user's own name stands in nobody's way, least of all in theirs."""
    for username in ("Yılmaz", "yilmaz", "Yılmaz", "YILMAZ"):
        assert rename(client, token, username).status_code == 200


def test_a_deleted_name_is_free(client):
    """When a user is deleted, the names that theirs looked like are free."""
    token = token_of(client.register(username=CYRILLIC_COCA))
    client.simulate_delete("/user", headers={"Cookie": f"jwt={token}"})

    assert client.register(username="coca").status_code == 201
    assert client.query("SELECT * FROM username_lookalikes") == []


def test_a_refused_name_leaves_nothing(client, monkeypatch):
    """Two who both found a lookalike free: the second is refused, and leaves no row."""
    client.register(username="coca")
    monkeypatch.setattr("authapi.features.users.UserRepository.require_free", lambda *_: None)

    answer = client.register(**{**OTHER, "username": CYRILLIC_COCA})

    assert (answer.status_code, answer.json["message"]) == (409, LOOKALIKE)
    assert client.query("SELECT count(*) FROM users") == [(1,)]
    assert client.query("SELECT * FROM username_lookalikes") == []


@pytest.mark.sqlite("a migration of SQLite's")
def test_users_from_before(make_client, tmp_path):
    """The migration knows what the names of older users look like, and lets them be."""
    database = opened(tmp_path / "authapi.db", until=6)
    for username in ("coca", CYRILLIC_COCA, "\u041d\u0410\u0422"):
        key = username_key(username)
        database.connection.execute(
            "INSERT INTO users (username, username_key, email, email_key, password_hash)"
            " VALUES (?, ?, ?, ?, '')",
            (username, key, key, key),
        )
    database.close()

    client = make_client()

    assert client.query("SELECT count(*) FROM users") == [(3,)]
    assert client.register(username="hat").json["message"] == LOOKALIKE
    assert client.register(username=USER["username"]).status_code == 201
