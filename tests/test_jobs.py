"""Jobs: what is due without a request runs by the clock, in one process of several."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import pytest
from conftest import CHEAP, Client, running, unmeasured
from msgspec.structs import replace

from authapi import Settings, create_app, jobs
from authapi.errors import Unavailable
from authapi.jobs import Job, Pace

PATIENCE = 60  # seconds that a test waits for a thread before it fails


class Steps:
    """A job that counts its steps, and has `more` of them to do."""

    def __init__(self, name="count", every=60, more=0):
        self.ran, self.more, self.failure = 0, more, None
        self.job = Job(name, every, self)

    def __call__(self, _core):
        self.ran += 1
        if self.failure:
            raise self.failure
        return self.ran <= self.more


@pytest.fixture(name="app")
def _app(make_app):
    """Return an application whose own jobs are not due."""
    app = make_app()
    app.jobs.run_due()
    return app


@pytest.fixture(name="steps")
def _steps(app):
    steps = Steps()
    app.jobs.add(steps.job)
    return steps


def job_threads():
    return [thread for thread in threading.enumerate() if thread.name == "authapi-jobs"]


@pytest.fixture(name="_at_once")
def _at_once(app):
    """Make a process look for due jobs whenever it is woken."""
    app.jobs.pace = Pace(first_look=0, look_every=0, retry=0)
    app.jobs.run_due()  # which sets the time of the next look


def test_a_job_runs_by_the_clock(app, steps, clock):
    """A job runs at the first look, and not again before its interval is over."""
    assert app.jobs.run_due() == ["count"]
    clock.move(59)
    assert app.jobs.run_due() == []
    clock.move(1)
    assert "count" in app.jobs.run_due()

    assert steps.ran == 2


def test_each_job_has_its_own_interval(app, clock):
    """Each job is due by its own interval."""
    often, seldom = Steps("often", 10), Steps("seldom", 30)
    app.jobs.add(often.job, seldom.job)
    for _ in range(7):
        app.jobs.run_due()
        clock.move(10)

    assert (often.ran, seldom.ran) == (7, 3)


def test_a_job_runs_until_it_is_done(app):
    """A run has as many steps as the job asks for."""
    steps = Steps(more=5)
    app.jobs.add(steps.job)

    app.jobs.run_due()

    assert steps.ran == 6


def test_a_run_ends_when_the_next_one_is_due(app, clock):
    """A job that is never done gives way to the next run, which may be another process's."""
    steps = Steps(more=1_000)

    def step(core):
        clock.move(7)
        return steps(core)

    app.jobs.add(Job("slow", 60, step))
    app.jobs.run_due()

    assert steps.ran == 9


@pytest.mark.parametrize("seconds", [-30, -3_600, -86_400 * 365])
def test_a_clock_that_is_set_back(app, steps, clock, seconds):
    """A job waits for no clock that was ahead: at most twice its interval."""
    app.jobs.run_due()
    clock.move(seconds)
    app.jobs.run_due()
    clock.move(90)
    app.jobs.run_due()

    assert steps.ran >= 2


def test_a_job_that_fails(app, steps, clock, caplog):
    """A failure is logged once, stops no other job, and the job is tried again."""
    other = Steps("other")
    app.jobs.add(other.job)
    steps.failure = ValueError("broken")
    for _ in range(3):
        app.jobs.run_due()
        clock.move(60)

    assert (steps.ran, other.ran) == (3, 3)
    assert caplog.messages == ["job count failed: it is tried again"]
    assert "ValueError: broken" in caplog.text


def test_a_job_that_fails_once_more(app, steps, clock, caplog):
    """A job that has worked in between has its next failure logged too."""
    for failure in (ValueError("broken"), None, ValueError("broken again")):
        steps.failure = failure
        app.jobs.run_due()
        clock.move(60)

    assert caplog.messages == ["job count failed: it is tried again"] * 2


def test_a_database_that_is_away(app, steps, clock, caplog):
    """A run that the database stopped goes on when it is there again, and is no failure."""
    steps.failure = Unavailable()
    assert app.jobs.run_due() == ["count"]
    steps.failure = None
    clock.move(1)

    assert app.jobs.run_due() == ["count"]
    assert app.jobs.run_due() == []
    assert not caplog.messages


@pytest.mark.sqlite("it does so to the file")
def test_a_database_that_is_locked(app, steps):
    """A job waits while another program keeps the database locked, and runs after that."""
    path = app.core.settings.database_path
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            app.jobs.run_due()
        assert steps.ran == 0

    assert app.jobs.run_due() == ["count"]


@pytest.mark.usefixtures("_at_once")
@pytest.mark.sqlite("it does so to the file")
def test_a_database_that_is_removed(app, steps, caplog):
    """Jobs leave no line of their own in the log while the database is gone, and run after that."""
    path = app.core.settings.database_path
    aside = path.rename(path.with_name("aside.db"))
    for _ in range(3):
        app.maintain()
        for thread in job_threads():
            thread.join(PATIENCE)
    assert [record.name for record in caplog.records] == ["authapi"]
    assert steps.ran == 0

    aside.rename(path)
    assert app.jobs.run_due() == ["count"]


def test_a_process_that_dies(app, make_app, clock):
    """A run whose process ends in its midst is followed by another process's, when it is due."""
    dying, other = Steps(), Steps()
    dying.failure = KeyboardInterrupt()
    app.jobs.add(dying.job)
    survivor = make_app()
    survivor.jobs.add(other.job)
    with pytest.raises(KeyboardInterrupt):
        app.jobs.run_due()

    clock.move(59)
    assert survivor.jobs.run_due() == []
    clock.move(1)
    assert "count" in survivor.jobs.run_due()
    assert (dying.ran, other.ran) == (1, 1)


def test_names_are_unique(app, steps):
    """Two jobs cannot share a row."""
    with pytest.raises(ValueError, match="count"):
        app.jobs.add(steps.job)


# Of several processes, one


RACER = """
import json, sys
from authapi import Settings, create_app
from authapi.jobs import Job, Pace

now, ran = 1_700_000_000, []
app = create_app(Settings(**json.loads(sys.argv[1])), clock=lambda: now)
app.jobs.add(Job("race", 60, lambda core: ran.append(now)))
print("ready", flush=True)
for line in sys.stdin:
    now = int(line)
    app.jobs.run_due()
    print("done", flush=True)
print(json.dumps(ran))
app.close()
"""


@contextmanager
def racer(settings):
    """Another process with the same database, which runs what is due at the times it is told."""
    process = subprocess.Popen(
        [sys.executable, "-c", RACER, json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=unmeasured(),
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_one_of_two_processes_runs_a_job(tmp_path):
    """Whenever a job is due, one of two processes on one database runs it, and only one."""
    settings = {"database_url": f"sqlite:///{tmp_path}/authapi.db", **CHEAP}
    create_app(Settings(**settings)).close()
    times = [1_700_000_000 + 60 * number for number in range(40)]
    with racer(settings) as one, racer(settings) as other:
        for now in times:
            for process in (one, other):
                process.stdin.write(f"{now}\n")
                process.stdin.flush()
            for process in (one, other):
                assert process.stdout.readline() == "done\n"
        ran = [json.loads(process.communicate()[0]) for process in (one, other)]

    assert sorted(ran[0] + ran[1]) == times


# Threads


@pytest.fixture(name="waiting")
def _waiting(app, _at_once):
    """A job whose steps tell that they ran, and never end."""
    ran = threading.Event()
    app.jobs.add(Job("waiting", 60, lambda _core: ran.set() or True))
    return ran


def test_the_server_wakes_the_jobs(app, waiting):
    """Under our server a job runs without any request, in a thread of its own."""
    with running(app):
        assert waiting.wait(PATIENCE)
        assert len(job_threads()) == 1


def test_a_change_wakes_the_jobs(app, waiting):
    """Under any other server the jobs run once something has changed."""
    client = Client(app)
    client.get_as("no token")
    assert not job_threads()
    client.register()

    assert waiting.wait(PATIENCE)


def test_a_look_is_not_taken_at_once(app):
    """A process that has just started has no thread for the jobs yet."""
    app.jobs.pace = Pace()
    app.maintain()
    Client(app).register()

    assert not job_threads()


def test_a_stop_in_the_midst_of_a_job(app, waiting):
    """`close` waits for the step that runs, leaves no thread, and none is started after it."""
    before = set(threading.enumerate())
    app.maintain()
    assert waiting.wait(PATIENCE)

    app.close()

    assert set(threading.enumerate()) == before
    app.jobs.wake()
    assert not job_threads()


@pytest.mark.usefixtures("_at_once")
def test_a_step_that_does_not_end(app):
    """`close` comes back all the same, and leaves open what the step uses."""
    app.jobs.pace = replace(app.jobs.pace, close_wait=0.01)
    began, leave, found = threading.Event(), threading.Event(), []

    def step(core):
        began.set()
        leave.wait(PATIENCE)
        found.append(core.database.statements("users").newest_id())

    app.jobs.add(Job("stuck", 60, step))
    app.maintain()
    assert began.wait(PATIENCE)
    (thread,) = job_threads()

    app.close()

    leave.set()
    thread.join(PATIENCE)
    assert found == [0]
    app.close()


def test_before_a_fork(app, waiting, clock):
    """The thread ends before a fork, and the next wake starts another."""
    for _ in range(2):
        clock.move(60)
        app.maintain()
        assert waiting.wait(PATIENCE)
        app.prepare_to_fork()
        assert not job_threads()
        waiting.clear()


@pytest.mark.usefixtures("_at_once")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # since Python 3.12
def test_a_fork_in_the_midst_of_a_job(app, clock):
    """A child that was forked while a job ran has no thread, and runs what is due then."""
    began, leave = threading.Event(), threading.Event()

    def step(_core):
        began.set()
        leave.wait(PATIENCE)

    app.jobs.add(Job("held", 60, step))
    app.maintain()
    assert began.wait(PATIENCE)
    app.core.database.prepare_to_fork()

    child = os.fork()
    if not child:
        leave.set()
        clock.move(60)
        os._exit("held" in app.jobs.run_due())
    leave.set()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_no_thread_is_left(app, waiting, monkeypatch):
    """If the system has no thread left, the jobs wait, and nothing fails."""

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        app.maintain()
    assert not waiting.is_set()
    app.maintain()

    assert waiting.wait(PATIENCE)


@pytest.mark.usefixtures("_at_once")
@pytest.mark.sqlite("it does so to the file")
def test_a_table_that_is_gone(app, caplog):
    """A look that fails is logged once, and taken again."""
    Client(app).query("DROP TABLE jobs")
    for _ in range(2):
        app.maintain()
        for thread in job_threads():
            thread.join(PATIENCE)

    assert caplog.messages == ["job all failed: it is tried again"]


# Pruning


def test_a_step_deletes_few_rows(client, clock):
    """A transaction deletes at most so many rows, so that no other change waits for long."""
    turns = []
    with client.app.core.database.transaction():
        for number in range(2 * jobs.ROWS_OF_A_STEP + 1):
            client.query("INSERT INTO limits VALUES (?, 1, 1, 1)", f"old:{number}")
    delete = jobs.pruning("count", 60, lambda _core, at_most: turns.append(at_most) or at_most)

    assert delete.run(client.app.core)
    assert turns == [jobs.ROWS_OF_A_STEP]
    assert "limits" in client.app.jobs.run_due()
    assert client.query("SELECT count(*) FROM limits") == [(0,)]
