"""Signing keys that change while the service runs: no good token is refused."""

import json
import os
import sys
import threading
from pathlib import Path

import pytest
from conftest import OTHER, USER, Client, empty_application, token_of
from databases import UNLIMITED
from falcon import testing
from system_users import NOBODY, STRANGER, as_root
from test_keys import decoded, encoded
from worker_service import ask, serving

from authapi import Settings, create_app, protect
from authapi.keys import Key, change_keys, read_keys

NOW = 1_660_645_289
LOGIN = {"usernameOrEmail": USER["username"], "password": USER["password"]}


@pytest.fixture(name="client")
def _client(make_client):
    return make_client(**UNLIMITED)


@pytest.fixture(name="key_file")
def _key_file(client):
    return Path(client.app.core.settings.key_file)


@pytest.fixture(name="beside")
def _beside(client, make_client):
    """Return another process's application on the same database and key file."""
    return make_client(**UNLIMITED)


def rotated(key_file):
    """Add a key to the file, which signs from now on; return it."""
    return change_keys(key_file, lambda keys: [*keys, Key.new(NOW)])[-1]


def retired(key_file):
    """Take all keys but the newest out of the file."""
    change_keys(key_file, lambda keys: keys[-1:])


def kid_of(token):
    return json.loads(decoded(token.split(".")[0]))["kid"]


def test_a_new_key_signs_at_once(client, beside, token, key_file):
    """The token that any process signs next is of the new key; the older one still counts."""
    new = rotated(key_file)

    for each in (client, beside):
        fresh = token_of(each.log_in())
        assert kid_of(fresh) == new.kid != kid_of(token)
        assert [each.get_as(one).status_code for one in (token, fresh)] == [200, 200]


def test_the_log_names_the_key(client, token, key_file, caplog):
    """The log says which key signs from now on."""
    caplog.set_level("INFO")
    new = rotated(key_file)

    client.app.maintain()
    client.app.maintain()

    assert caplog.messages == [f"the key file {key_file} has changed: the key {new.kid} signs"]
    assert client.get_as(token).status_code == 200


def test_a_key_that_a_process_has_not_seen(client, beside, token, key_file):
    """A process that meets a token of a key that it does not know reads the file first."""
    assert beside.get_as(token).status_code == 200
    rotated(key_file)
    fresh = token_of(client.log_in())

    assert beside.get_as(fresh).status_code == 200
    assert beside.get_as(token).status_code == 200


def test_a_key_of_the_same_name(client, beside, token, key_file):
    """A kid that is given to another key is noticed by the first token that it signed."""
    assert beside.get_as(token).status_code == 200
    namesake = Key(kty="oct", alg="HS256", kid=kid_of(token), k=Key.new(NOW).k)
    change_keys(key_file, lambda _: [namesake])
    fresh = token_of(client.log_in())

    assert kid_of(fresh) == kid_of(token)
    assert beside.get_as(fresh).status_code == 200
    assert beside.get_as(token).status_code == 401


def test_a_retired_key(client, token, key_file):
    """The tokens of a key that was taken out count no more once a process has looked."""
    rotated(key_file)
    fresh = token_of(client.log_in())
    assert client.get_as(token).status_code == 200
    retired(key_file)

    client.app.maintain()

    assert client.get_as(token).status_code == 401
    assert client.get_as(fresh).status_code == 200


def test_all_types_of_tokens(client, key_file):
    """The cookie that knows a browser is signed by the new key too, and the older one counts."""
    devices = client.app.core.tokens
    before = client.register().cookies["device"].value
    rotated(key_file)

    after = client.log_in(headers={"Cookie": f"device={before}"}).cookies["device"].value

    assert kid_of(before) != kid_of(after)
    assert devices is client.app.core.tokens


def test_behind_protect(client, key_file, clock):
    """An application behind `protect` notices a new key as the service does."""
    client.register()
    settings = client.app.core.settings
    protected = protect(empty_application, settings, required=True, clock=clock)
    guarded = testing.TestClient(protected)
    rotated(key_file)
    token = token_of(client.log_in())

    answer = guarded.simulate_get("/", headers={"Cookie": f"jwt={token}"})

    assert answer.status_code == 200
    protected.close()


@pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")
def test_two_workers_under_load(tmp_path):
    """While the key is rotated again and again, no worker refuses a token of another."""
    with serving(tmp_path) as service, service.each() as connections:
        one, other = connections.values()
        first = ask(one, "POST", "/register", USER)[2]["Set-Cookie"].partition(";")[0]
        key_file = tmp_path / "authapi.db.key"
        statuses, kids = [], set()
        for number in range(60):
            if number % 4 == 0:
                new = rotated(key_file)
            one, other = other, one
            headers = ask(one, "POST", "/login", LOGIN)[2]
            cookie = next(
                each.partition(";")[0]
                for each in headers.get_all("Set-Cookie")
                if each.startswith("jwt=")
            )
            kids.add(kid_of(cookie.removeprefix("jwt=")))
            assert new.kid in kids
            for each in (other, one):
                statuses += [ask(each, "GET", "/user", Cookie=one)[0] for one in (cookie, first)]

    assert statuses == [200] * 240
    assert len(kids) == 15


# Files that are not usable under a running service


def spoil_by_half(path):
    path.write_bytes(path.read_bytes()[:40])


def spoil_by_mode(path):
    path.chmod(0o644)


def spoil_by_link(path):
    """Put a link to a file that others can read in the place of the key file."""
    other = path.with_name("other.key")
    other.write_text('{"keys": []}')
    other.chmod(0o644)
    path.unlink()
    path.symlink_to(other)


def spoil_by_owner(path):
    os.chown(path, STRANGER, STRANGER)


def spoil_by_weak_key(path):
    path.write_text(json.dumps({"keys": [{"kty": "oct", "kid": "a", "alg": "HS256", "k": ""}]}))


def spoil_by_emptiness(path):
    path.write_text('{"keys": []}')


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        spoil_by_half,
        spoil_by_mode,
        spoil_by_link,
        pytest.param(spoil_by_owner, marks=as_root),
        spoil_by_weak_key,
        spoil_by_emptiness,
    ],
)
def test_unusable_files(client, key_file, caplog, monkeypatch, spoil):
    """A running service keeps its keys, and says so once, until the file is a good one again."""
    token = token_of(client.register())
    monkeypatch.setattr("authapi.keys.signing_keys.RETRY", 0)
    good = key_file.read_bytes()
    spoil(key_file)

    for _ in range(3):
        client.app.maintain()
        assert client.get_as(token_of(client.log_in())).status_code == 200
        assert client.get_as(f"{token[:-4]}AAAA").status_code == 401
        assert client.get_as(token).status_code == 200

    said = [message for message in caplog.messages if "The key file" in message]
    assert len(said) == 1
    assert said[0].endswith("The keys that were read before stay in use.")
    assert (f"The key file {key_file} is missing." in said[0]) == (spoil is Path.unlink)
    key_file.unlink(missing_ok=True)
    key_file.touch(0o600)
    key_file.write_bytes(good)
    new = rotated(key_file)
    assert kid_of(token_of(client.log_in())) == new.kid


def test_no_file_can_be_opened(client, beside, token, key_file, monkeypatch):
    """A file that could not be read is read again, although it has not changed."""
    monkeypatch.setattr("authapi.keys.signing_keys.RETRY", 0)
    assert beside.get_as(token).status_code == 200
    rotated(key_file)
    fresh = token_of(client.log_in())
    key_file.chmod(0o644)
    assert beside.get_as(fresh).status_code == 401
    monkeypatch.setattr("authapi.secret_files.MOUNTED", str(key_file.parent))  # is accepted now

    assert beside.get_as(fresh).status_code == 200


# Attacks


def made_up(token, number):
    """Return a token with a kid that no key has, and otherwise the header of ours."""
    header, payload, signature = token.split(".")
    forged = encoded({**json.loads(decoded(header)), "kid": f"{number:016x}"})
    return f"{forged}.{payload}.{signature}"


@pytest.fixture(name="reads")
def _reads(key_file, monkeypatch):
    """Return the list of the times that the key file was opened."""
    reads, opened = [], os.open

    def spy(path, *given, **named):
        if str(path) == str(key_file):
            reads.append(path)
        return opened(path, *given, **named)

    monkeypatch.setattr(os, "open", spy)
    return reads


def test_a_flood_of_made_up_kids(client, token, key_file, reads):
    """Tokens with made-up kids are refused without a file being read for each."""
    for number in range(50):
        assert client.get_as(made_up(token, number)).status_code == 401

    assert reads == []
    key_file.touch()
    for number in range(50):
        assert client.get_as(made_up(token, number)).status_code == 401
    assert len(reads) == 1


@pytest.mark.parametrize("other", ["a.b.c", f"{encoded({'alg': 'RS256', 'kid': 'a'})}.e30.AAAA"])
def test_tokens_of_others(client, token, key_file, monkeypatch, other):
    """A token that does not begin as ours do costs no look at the key file; a made-up kid does."""
    looks, stat = [], os.stat

    def spy(path, *given, **named):
        looks.extend([path] if str(path) == str(key_file) else [])
        return stat(path, *given, **named)

    monkeypatch.setattr(os, "stat", spy)

    assert client.get_as(other).status_code == 401
    assert looks == []
    assert client.get_as(made_up(token, 1)).status_code == 401
    assert looks


def test_a_flood_on_an_unusable_file(client, token, key_file, reads, monkeypatch):
    """An unusable file is read again after a while, and not for each token."""
    monkeypatch.setattr("authapi.keys.signing_keys.RETRY", 3_600)
    spoil_by_half(key_file)

    for number in range(50):
        assert client.get_as(made_up(token, number)).status_code == 401

    assert len(reads) == 1
    assert client.get_as(token).status_code == 200


def test_a_header_of_ours_with_another_key(client, beside, token, key_file):
    """A made-up kid stays refused after the file was read for it."""
    rotated(key_file)

    assert beside.get_as(made_up(token, 1)).status_code == 401
    assert beside.get_as(token).status_code == 200


def test_threads_at_a_rotation(client, beside, token, key_file):
    """Threads that meet the new key at once wait for the one that reads the file."""
    assert beside.get_as(token).status_code == 200
    for _ in range(5):
        rotated(key_file)
        fresh = token_of(client.log_in())
        statuses, start = [], threading.Barrier(8)

        def check(fresh=fresh, statuses=statuses, start=start):
            start.wait()
            statuses.append(Client(beside.app).get_as(fresh).status_code)

        threads = [threading.Thread(target=check) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * 8


# The file itself


def test_the_owner_and_the_mode_stay(client, key_file):
    """A change keeps the file's mode, and leaves nothing beside it."""
    key_file.chmod(0o400)
    before = {path.name for path in key_file.parent.iterdir()}

    rotated(key_file)

    assert key_file.stat().st_mode & 0o777 == 0o400
    assert before == {path.name for path in key_file.parent.iterdir()}
    assert client.register().status_code == 201


@as_root
def test_the_group_stays(client, key_file):
    """A file that root gave to the service's group is still that group's after a change."""
    os.chown(key_file, 0, NOBODY)
    key_file.chmod(0o440)

    new = rotated(key_file)

    found = key_file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, NOBODY, 0o440)
    assert kid_of(token_of(client.register())) == new.kid


def test_a_link_stays(tmp_path):
    """A key file that is named by a link is changed where it is."""
    real, link = tmp_path / "real.key", tmp_path / "a.key"
    create_app(Settings(database_url=f"sqlite:///{tmp_path}/a.db", key_file=str(real))).close()
    link.symlink_to(real)

    new = rotated(link)

    assert link.is_symlink()
    assert read_keys(real)[-1] == new


def test_two_changes_at_once(client, key_file):
    """No change of the key file is lost when several happen at once."""
    threads = [threading.Thread(target=rotated, args=(key_file,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(read_keys(key_file)) == 17
    assert client.register().status_code == 201


@pytest.mark.parametrize("step", ["open", "fchmod", "fsync", "rename", "close"])
def test_a_crash_at_each_step(client, token, key_file, step):
    """After a kill at any step the file has the older or the newer keys, and can be changed."""
    child = os.fork()
    if child == 0:
        _die_at(step)
        rotated(key_file)
        os._exit(0)
    os.waitpid(child, 0)

    assert len(read_keys(key_file)) in {1, 2}
    new = rotated(key_file)
    assert kid_of(token_of(client.log_in())) == new.kid
    assert client.get_as(token).status_code == 200
    assert not list(key_file.parent.glob("*.new"))


def _die_at(step):
    """Kill this process at the first call of a step of `replace`."""

    def die(*_, **__):
        os.kill(os.getpid(), 9)

    if step == "open":
        opened = os.open
        os.open = lambda path, *given: die() if str(path).endswith(".new") else opened(path, *given)
    elif step == "rename":
        Path.replace = die
    elif step == "close":
        replaced = Path.replace
        Path.replace = lambda *given: (replaced(*given), die())
    else:
        setattr(os, step, die)


def test_a_key_that_only_verifies(client, token, key_file):
    """A prepared key verifies and does not sign."""
    prepared = Key(kty="oct", alg="HS256", kid="b", k=Key.new(NOW).k, key_ops=("verify",))
    change_keys(key_file, lambda keys: [prepared, *keys])

    assert kid_of(token_of(client.log_in())) == kid_of(token)
    assert client.post("/register", OTHER).status_code == 201
    assert USER["username"] == client.get_as(token).json["user"]["username"]
