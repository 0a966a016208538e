"""The root key: what is derived from it, and the file that holds it."""

import json
import stat

import pytest
from conftest import Client, token_of

from authapi import StartError
from authapi.keys.root import Root, RootKey, hkdf_expand, hkdf_extract

SECRET = bytes(range(32))
SECRET_KEY = "a secret of thirty-two bytes, and more"

# RFC 5869, appendix A.1 to A.3
VECTORS = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
        (
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb"
            "41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
        ),
    ),
    (
        "0b" * 22,
        "",
        "",
        "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("secret", "salt", "info", "key", "derived"), VECTORS)
def test_vectors(secret, salt, info, key, derived):
    """The RFC's own examples come out."""
    extracted = hkdf_extract(bytes.fromhex(salt), bytes.fromhex(secret))

    assert extracted.hex() == key
    assert hkdf_expand(extracted, bytes.fromhex(info), len(derived) // 2).hex() == derived


def test_no_more_than_hkdf_gives():
    """255 blocks of 32 bytes are the most."""
    assert len(hkdf_expand(SECRET, b"", 8_160)) == 8_160
    with pytest.raises(ValueError, match="256"):
        hkdf_expand(SECRET, b"", 8_161)


def root(*secrets):
    return Root([RootKey.of(secret) for secret in secrets])


def test_purposes_and_parts_are_told_apart():
    """No two purposes and lists of parts give the same bytes."""
    lists = [
        ("a",),
        ("b",),
        ("ab",),
        ("a", "b"),
        ("a", b"b"),
        ("a", "b", ""),
        ("a", "", "b"),
        ("a", 1),
        ("a", "1"),
        ("a", b"1"),
        ("a", 11),
        ("a", 1, 1),
        ("a", "\ud800"),
        ("a", "\udcff"),
    ]
    one = root(SECRET)

    assert len({one.derive(one.newest, *parts) for parts in lists}) == len(lists)


def test_length():
    """32 bytes are derived, or as many as are asked for."""
    one = root(SECRET)

    derived = one.derive(one.newest, "a", length=40)

    assert len(derived) == 40
    assert one.derive(one.newest, "a") == derived[:32]


def test_several_keys():
    """The newest key is for what is new; an older one goes on until it is taken out."""
    old, both, new = root(SECRET), root(SECRET, SECRET[::-1]), root(SECRET[::-1])

    assert both.newest == new.newest != old.newest
    assert both.derive(old.newest, "a") == old.derive(old.newest, "a")
    assert both.derive(both.newest, "a") == new.derive(new.newest, "a")
    with pytest.raises(LookupError):
        new.derive(old.newest, "a")


def test_the_file_is_made_once(make_app, tmp_path):
    """The first start makes a JWK Set of one key for the owner alone; the next one keeps it."""
    make_app()
    path = tmp_path / "authapi.db.root"
    made = path.read_text()

    make_app()

    (key,) = json.loads(made)["keys"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (key["kty"], key["key_ops"], len(key["k"])) == ("oct", ["deriveBits"], 43)
    assert path.read_text() == made
    assert key["k"] not in (tmp_path / "authapi.db.key").read_text()


def test_another_file(make_app, tmp_path):
    """A setting names another file."""
    app = make_app(root_key_file=f"{tmp_path}/other")

    assert json.loads((tmp_path / "other").read_text())["keys"][0]["kid"] == app.core.root.newest
    assert not (tmp_path / "authapi.db.root").exists()


def test_with_a_secret_key(make_app, tmp_path):
    """With a secret key no file is made: each secret key has one root key of its own."""
    roots = [make_app(secret_key=SECRET_KEY + end).core.root.newest for end in ("", "", "!")]

    assert roots[0] == roots[1] != roots[2]
    assert not list(tmp_path.glob("*.root"))


def test_a_file_beside_a_secret_key(make_app, tmp_path):
    """A file that a setting names counts beside a secret key, which can be changed alone."""
    settings = {"root_key_file": f"{tmp_path}/root"}

    roots = {make_app(secret_key=SECRET_KEY + end, **settings).core.root.newest for end in "12"}

    assert len(roots) == 1


def key(**changes):
    good = {"kty": "oct", "kid": "a", "k": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}
    return {**good, "key_ops": ["deriveBits"], **changes}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"keys": keys})
        for keys in (
            [],
            [key(kty="RSA")],
            [key(key_ops=["sign", "verify"])],
            [key(k="AAEC")],
            [key(k="AAAA" * 12)],
            [key(k="not base64url!")],
            [key(alg="HS256")],
            [key(), key()],
        )
    ]
    + ["", "nonsense"],
)
def test_bad_files(make_app, tmp_path, text):
    """A root key file that is not usable stops the start, and is left alone."""
    path = tmp_path / "authapi.db.root"
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(StartError, match=r"The root key file .*\.root is not usable"):
        make_app()

    assert path.read_text() == text


def test_a_file_of_everyone(make_app, tmp_path):
    """A root key that others can read stops the start, as a signing key does."""
    make_app()
    (tmp_path / "authapi.db.root").chmod(0o604)

    with pytest.raises(StartError, match=r"authapi\.db\.root can be read by others"):
        make_app()


def test_limits_outlive_the_signing_keys(make_client, tmp_path):
    """New signing keys end all sessions, and give nobody back the tries of any name."""
    client = make_client()
    token = token_of(client.register())
    while client.log_in("nobody").status_code == 401:
        pass
    client.app.close()
    (tmp_path / "authapi.db.key").unlink()

    restarted: Client = make_client()

    assert restarted.get_as(token).status_code == 401
    assert restarted.log_in("nobody").status_code == 429


def test_a_file_that_was_lost(make_app, tmp_path, caplog):
    """A start without the root key that the database was used with warns, once."""
    make_app()
    file = tmp_path / "authapi.db.root"
    kept = file.rename(tmp_path / "kept")
    assert caplog.messages == []

    make_app()
    make_app()

    (message,) = caplog.messages
    assert message.startswith(f"the root key file {file} is not the one that the database was used")
    kept.replace(file)
    make_app()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("settings", [{}, {"secret_key": SECRET_KEY}])
def test_no_warning_without_a_loss(make_app, tmp_path, caplog, settings):
    """An update, which makes the first root key, is no loss; nor is a key that was appended."""
    make_app().core.database.connection.execute("DELETE FROM root_keys")
    (tmp_path / "authapi.db.root").unlink()
    make_app(**settings)
    if not settings:
        file = tmp_path / "authapi.db.root"
        appended = {**key(), "k": "SBNJTRN-FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I"}
        file.write_text(json.dumps({"keys": [*json.loads(file.read_text())["keys"], appended]}))
    make_app(**settings)

    assert caplog.messages == []


def test_the_key_is_not_shown():
    """A key that is printed shows its name and no secret."""
    assert repr(RootKey.of(SECRET)) == f"RootKey(kid={RootKey.of(SECRET).kid!r})"
