"""A process that is killed at a statement leaves all of a change or nothing.

These are the changes by a mailed link. Those by a password are killed by `python -m faults.crash`.
The suite kills a login by mail at each COMMIT and beside it; `STATEMENT_KILLS=all`, every change at
each statement.
"""

import os

import kills
import pytest

KILLED = """
import json, sys
from pathlib import Path
from conftest import CHEAP
from kills import KILLED, Files, in_a_child, kill_me
from mailboxes import MailingClient, mail_settings
from test_statement_faults import EVERY, World, prepared, settings_of
from authapi import Settings, create_app

folder, scenario = Path(sys.argv[1]), EVERY[sys.argv[2]]
mails, data = folder / "mails", folder / "data"
mails.mkdir()
data.mkdir()
path, statements = data / "authapi.db", folder / "statements"
applications = []

def make(**settings):
    settings = mail_settings(mails, database_url=f"sqlite:///{path}", **CHEAP, **settings)
    applications.append(create_app(Settings(**settings)))
    return MailingClient(applications[-1], mails)

def send(kill_at):
    done = []
    def watch(text):
        if len(done) == kill_at:
            kill_me()
        done.append(text)
    client = make(rate_limits="on", **settings_of(scenario))
    client.app.core.database.connections.current.set_trace_callback(watch)
    answer = scenario.send(client, given)
    statements.write_text(json.dumps(done))
    if answer.status_code != scenario.status:
        raise SystemExit(answer.text)

given = prepared(make, scenario)
for each in applications:
    each.close()
files, first = Files(data), World(path)
first.close()

def content():
    world = World(path, first)
    try:
        return world.content()
    finally:
        world.close()

before = content()
assert in_a_child(send, None) == 0
texts, after = json.loads(statements.read_text()), content()
print(json.dumps(["whole", texts.count("COMMIT"), before, after]))
for number, text in enumerate(texts):
    if "COMMIT" not in texts[max(0, number - 1):number + 1] and sys.argv[3] != "all":
        continue
    files.put_back()
    assert in_a_child(send, number) == KILLED
    left = content()
    again = in_a_child(send, None)
    print(json.dumps([text, texts[:number].count("COMMIT"), left, again]))
"""
WHICH = os.environ.get("STATEMENT_KILLS", "commits")
CHANGES = (
    *("log in by a mailed link", "log in by a mailed code", "prove by a mailed link", "reset"),
    *("verify", "confirm a change of the email", "undo a change of the email", "not me"),
)


@pytest.mark.parametrize("name", CHANGES if WHICH == "all" else CHANGES[:1])
def test_a_kill_at_each_statement(tmp_path, name):
    """A kill leaves what was committed before it. The client can repeat what was not done."""
    with kills.folder_in_memory(tmp_path) as folder:
        (_, commits, before, after), *looks = kills.run(KILLED, folder, name, WHICH)

    states = {0: before, commits: after}
    assert before != after
    assert len(looks) > (10 if WHICH == "all" else 2)
    for _, done, left, again in looks:
        assert states.setdefault(done, left) == left
        if done < commits:
            assert again == 0
