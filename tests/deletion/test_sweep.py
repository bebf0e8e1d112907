"""The sweep: each deletion that was left in the middle is tried once, and nothing holds it up."""

import threading
import time
from uuid import uuid4

import pytest

from recoup.database.connection import DatabaseFailed, execute, is_postgres, release
from recoup.deletion.outcomes import DeletionRolledBack
from recoup.deletion.sweep import start_sweeper, sweep
from recoup.demo.standin import Fault
from tests.deletion.test_staged import attempt, expire
from tests.factories import connections_in_use
from tests.waiting import wait_for


@pytest.fixture(name="deleter")
def _deleter(app):
    return app.extensions["recoup"].deleter


@pytest.fixture(name="account")
def _account(world):
    return world.account()


def refuse_updates_of_marks():
    """Have the database refuse to take a mark over."""
    if is_postgres():
        body = "AS 'BEGIN RAISE ''no''; END' LANGUAGE plpgsql"
        execute(f"CREATE FUNCTION refuse() RETURNS trigger {body}")
        execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON task_deletions"
            " FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    else:
        execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON task_deletions"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    release()


def test_each_mark_is_tried_once_while_trigger_dev_hangs(deleter, world, standin, account):
    """Though each try outlasts a lease, the sweep comes to an end."""
    tasks = [world.task(account) for _ in range(3)]
    for task in tasks:
        world.place_mark(task, lease_seconds=-1)

    def play(exchange):
        for task in tasks:
            expire(task)
        exchange.reset()

    standin.always(Fault("expires", play))
    settled = list(sweep(deleter))
    assert sorted(one.task_id for one in settled) == sorted(tasks)
    assert {one.state for one in settled} == {"marked"}
    assert all(one.reason for one in settled)


def test_each_mark_is_tried_once_where_it_cannot_be_taken_over(deleter, world, standin, account):
    """The database's failure is the reason, and the others are tried all the same."""
    tasks = [world.task(account) for _ in range(3)]
    for task in tasks:
        world.place_mark(task, lease_seconds=-1)
    refuse_updates_of_marks()
    settled = list(sweep(deleter))
    assert [one.state for one in settled] == ["marked"] * 3
    assert all("no" in one.reason for one in settled)
    assert standin.requests == []


def test_deletions_left_in_the_middle_are_no_witnesses(deleter, world, standin, account):
    """Their schedules may all be gone, and none could prove the key for the others."""
    tasks = [world.task(account) for _ in range(2)]
    standin.schedules.clear()
    for task in tasks:
        world.place_mark(task, lease_seconds=-1)
    assert [one.state for one in sweep(deleter)] == ["deleted"] * 2


def test_deletions_that_are_under_way_are_witnesses(deleter, world, standin, account):
    """Else a wrong key would be believed where all tasks are deleted at once."""
    left, under_way = world.task(account), world.task(account)
    standin.schedules.clear()
    world.place_mark(left, lease_seconds=-1)
    world.place_mark(under_way, lease_seconds=60)
    assert [one.state for one in sweep(deleter)] == ["marked"]


def test_a_fault_of_ours_keeps_no_other_task_waiting(deleter, world, account, monkeypatch, caplog):
    """Whatever it is; the log has its traceback, and the mark stays."""
    tasks = [world.task(account) for _ in range(3)]
    for task in tasks:
        world.place_mark(task, lease_seconds=-1)
    cancel = deleter.schedules.cancel

    def stumble(cancellation):
        if cancellation.task_id == tasks[1]:
            raise ValueError("a bug")
        cancel(cancellation)

    monkeypatch.setattr(deleter.schedules, "cancel", stumble)
    settled = {one.task_id: one for one in sweep(deleter)}
    assert [settled[task].state for task in tasks] == ["deleted", "marked", "deleted"]
    assert settled[tasks[1]].reason == "unexpected error: ValueError"
    [line] = [line for line in caplog.records if line.exc_info]
    assert (line.message, line.fields) == ("unexpected error", {"task": tasks[1]})
    assert world.mark(tasks[1])


def test_a_recovery_that_is_overtaken_in_the_middle_leaves_the_rest(
    deleter, world, standin, account
):
    """Its lease ran out while it cancelled; the row goes by the hand of the new owner."""
    task, owner = world.task(account), str(uuid4())
    world.place_mark(task, lease_seconds=-1)

    def play(exchange):
        execute("UPDATE task_deletions SET token = ?", owner)
        release()
        exchange.deliver(exchange.answer())

    standin.fail(Fault("overtakes", play))
    assert list(sweep(deleter)) == [(task, "overtaken", None)]
    assert world.row(task)
    assert str(world.mark(task)["token"]) == owner


def test_the_longest_expired_is_tried_first(deleter, world, account):
    """With more marks than a sweep takes, none waits for ever."""
    tasks = [world.task(account) for _ in range(4)]
    for age, task in enumerate(tasks):
        world.place_mark(task, lease_seconds=-1 - age)
    assert [one.task_id for one in sweep(deleter, most=2)] == [tasks[3], tasks[2]]
    assert [one.task_id for one in sweep(deleter, most=2)] == [tasks[1], tasks[0]]


def test_a_sweep_gives_its_connection_back(deleter, world, standin, account):
    """Before each call, and when it is over."""
    task = world.task(account)
    world.place_mark(task, lease_seconds=-1)
    held = []

    def play(exchange):
        held.append(connections_in_use())
        exchange.deliver(exchange.answer())

    standin.always(Fault("looks", play))
    for _ in sweep(deleter):
        held.append(connections_in_use())
    assert held == [0, 0]
    assert connections_in_use() == 0


def test_nothing_is_swept_that_could_not_be_finished(deleter, world, standin, account):
    """While the database would refuse the last step, a recovery would cost a schedule."""
    task = world.task(account)
    world.place_mark(task, lease_seconds=-1)
    execute("ALTER TABLE account_emails RENAME TO renamed")
    release()
    with pytest.raises(DatabaseFailed, match="lacks table account_emails"):
        list(sweep(deleter))
    assert standin.requests == []
    execute("ALTER TABLE renamed RENAME TO account_emails")
    release()
    assert [one.state for one in sweep(deleter)] == ["deleted"]


def test_a_key_that_cannot_be_proven_without_the_database_keeps_the_task(
    deleter, world, standin, account
):
    """The other tasks can't be looked for, so the 404 is not believed."""
    task = world.task(account)
    standin.schedules.clear()

    def play(exchange):
        execute("ALTER TABLE scheduled_actions RENAME COLUMN enabled TO renamed")
        release()
        exchange.deliver(exchange.answer())

    standin.fail(Fault("renames", play), method="GET")
    assert isinstance(attempt(deleter, task), DeletionRolledBack)
    assert (bool(world.row(task)), world.mark(task)) == (True, None)


def test_the_sweeper_goes_on_after_a_failure(deleter, world, account, monkeypatch, caplog):
    """A database that is away for a while costs a line in the log, and no more.

    Workers that start together ask at different times, and go on about twice a minute.
    """
    pauses = []

    def between(low, high):
        pauses.append((low, high))
        return low

    monkeypatch.setattr("random.uniform", between)
    failures = iter([DatabaseFailed("away"), RuntimeError("a bug")])
    refresh = deleter.readiness.refresh

    def fail_at_first():
        for failure in failures:
            raise failure
        return refresh()

    monkeypatch.setattr(deleter.readiness, "refresh", fail_at_first)
    ended, parked, waits = threading.Event(), threading.Event(), []

    def pause(seconds):
        if threading.current_thread().name == "sweeper":
            waits.append(seconds)
        if ended.wait(min(seconds, 0.01)):
            parked.set()
            threading.Event().wait()

    monkeypatch.setattr(time, "sleep", pause)
    task = world.task(account)
    world.place_mark(task, lease_seconds=-1)
    start_sweeper(deleter)
    wait_for(lambda: world.row(task) is None)
    assert all(one.daemon for one in threading.enumerate() if one.name == "sweeper")
    ended.set()  # or it would go on, and sweep the databases of other tests
    assert parked.wait(20)
    assert pauses[:2] == [(0, 1), (0.8, 1.2)]
    assert waits[:2] == [0, 24.0]
    said = [(line.message, bool(line.exc_info)) for line in caplog.records]
    assert said[:2] == [("sweep failed", False), ("sweep failed", True)]
    assert caplog.records[0].fields == {"error": "away"}
