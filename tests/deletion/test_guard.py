"""Whoever deletes the row, its schedule goes: the guard's records, and their collection.

On both databases; the rows are deleted by another program, on a connection of its own.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from unittest.mock import Mock
from uuid import uuid4

import peewee
import psycopg
import pytest

from recoup.database import guard as triggers
from recoup.database import orphans
from recoup.database.connection import execute, fetch, is_postgres, release
from recoup.deletion import guard
from recoup.deletion.sweep import sweep
from recoup.demo.standin import Fault
from tests.conftest import close_database
from tests.deletion.test_staged import attempt, expire
from tests.factories import connections_in_use
from tests.host import HostConnection
from tests.server import Server
from tests.waiting import wait_for

PAST = "2020-01-01T00:00:00.000Z"
WAIT_SECONDS = 30


@pytest.fixture(name="deleter")
def _deleter(app):
    if is_postgres():
        triggers.turn_on()
        release()
    return app.extensions["recoup"].deleter


@pytest.fixture(name="host")
def _host(deleter, database_url):
    with closing(HostConnection(database_url)) as host:
        yield host


@pytest.fixture(name="task")
def _task(deleter, world):
    """A task with a schedule; another task's schedule proves the key."""
    world.task(world.account())
    return world.task(world.account())


def drop(host, *tasks):
    """Delete the rows of tasks as another program does."""
    for task in tasks:
        host.run("DELETE FROM scheduled_actions WHERE id = ?", task)


def collected(deleter):
    """Sweep once; return what became of each task."""
    return [(one.task_id, one.state) for one in sweep(deleter)]


def records():
    """Return the tasks of all records."""
    tasks = [str(row[0]) for row in fetch("SELECT task_id FROM orphaned_schedules ORDER BY id")]
    release()
    return tasks


def make_due(*tasks):
    """Let the time of each record come, or of those of some tasks."""
    for task in tasks or records():
        execute("UPDATE orphaned_schedules SET due_at = ? WHERE task_id = ?", PAST, task)
    release()


def turn_off():
    """Remove the guard; on SQLite, where that is no choice, by hand."""
    if is_postgres():
        triggers.turn_off()
    else:
        execute("DROP TRIGGER recoup_guard")
    release()


# What is cancelled


def test_the_schedule_of_a_row_that_was_deleted_goes(deleter, world, host, task):
    """With one call, and nothing is left to do."""
    schedule = world.row(task)["trigger_schedule_id"]
    drop(host, task)
    assert collected(deleter) == [(task, "cancelled")]
    assert world.schedule_ids(task) == []
    assert world.standin.deletions == {task: 1}
    assert records() == []
    assert schedule not in world.standin.schedules


def test_no_connection_is_held_while_trigger_dev_is_asked(deleter, world, host, standin, task):
    """However long that takes."""
    drop(host, task)
    held = []

    def play(exchange):
        held.append(connections_in_use())
        exchange.deliver(exchange.answer())

    standin.always(Fault("looks", play))
    assert collected(deleter) == [(task, "cancelled")]
    assert held == [0]


def test_each_record_is_one_line_of_the_log(deleter, world, host, task, caplog):
    """It names task and schedule, what became of it, and how long it took."""
    schedule = world.row(task)["trigger_schedule_id"]
    drop(host, task)
    collected(deleter)
    [line] = [record.fields for record in caplog.records if record.message == "orphan"]
    assert (line["task"], line["schedule"], line["state"]) == (task, schedule, "cancelled")
    assert 0 <= line["waited"] < WAIT_SECONDS


def test_a_cascade_of_a_thousand_is_collected(deleter, world, host, monkeypatch):
    """An account is deleted, and its tasks with it; those of others stay."""
    monkeypatch.setattr(guard, "SECONDS_BETWEEN_REQUESTS", 0.0001)
    account, other = world.account(), world.account()
    kept = world.task(other)
    tasks = [world.task(account) for _ in range(1000)]
    if is_postgres():
        host.run("DELETE FROM accounts WHERE id = ?", account)
    else:  # where accounts have no tasks that would go with them
        host.run("DELETE FROM scheduled_actions WHERE account_id = ?", account)
    assert sorted(records()) == sorted(tasks)
    while records():
        assert {state for _, state in collected(deleter)} == {"cancelled"}
    assert [s["externalId"] for s in world.standin.schedules.values()] == [kept]


def test_two_schedules_of_a_task_both_go(deleter, world, host, standin, task):
    """The one under its key, and the one that its row named."""
    stored = standin.add("x", externalId=task, deduplicationKey="of-the-host")
    host.run("UPDATE scheduled_actions SET trigger_schedule_id = ? WHERE id = ?", stored, task)
    drop(host, task)
    assert collected(deleter) == [(task, "cancelled")]
    assert world.schedule_ids(task) == []


def test_a_schedule_of_another_task_is_left_alone(deleter, world, host, standin, task):
    """The row named it by mistake."""
    other = world.task(world.account())
    named = world.row(other)["trigger_schedule_id"]
    standin.schedules = {k: s for k, s in standin.schedules.items() if s["externalId"] != task}
    host.run("UPDATE scheduled_actions SET trigger_schedule_id = ? WHERE id = ?", named, task)
    drop(host, task)
    assert collected(deleter) == [(task, "gone")]
    assert world.schedule_ids(other)


def test_what_the_other_program_has_cancelled_is_no_alarm(
    deleter, world, host, standin, task, caplog
):
    """As upstream's own code does, most of the time."""
    standin.schedules = {k: s for k, s in standin.schedules.items() if s["externalId"] != task}
    drop(host, task)
    assert collected(deleter) == [(task, "gone")]
    [line] = [record for record in caplog.records if record.message == "orphan"]
    assert (line.levelname, line.fields.get("missing")) == ("INFO", None)
    assert records() == []


def test_a_404_with_an_unproven_key_forgets_nothing(deleter, host, standin, task):
    """The key may be of another environment."""
    standin.schedules.clear()
    drop(host, task)
    assert collected(deleter) == [(task, "waiting")]
    assert records() == [task]


def test_a_row_that_is_there_again_keeps_its_schedule(deleter, world, host, task):
    """Put back with the same id, in the same transaction or later."""
    before = world.row(task)
    schedule = before["trigger_schedule_id"]
    host.run("BEGIN")
    drop(host, task)
    host.task(schedule, task)
    host.run("COMMIT")
    assert records() == [task]
    assert collected(deleter) == [(task, "kept")]
    assert world.schedule_ids(task) == [schedule]
    assert records() == []


def test_a_row_that_was_put_back_and_is_deleted_again(deleter, world, host, task):
    """The second record counts like the first."""
    drop(host, task)
    host.task(world.schedule_ids(task)[0], task)
    drop(host, task)
    assert sorted(state for _, state in collected(deleter)) == ["cancelled", "gone"]
    assert world.schedule_ids(task) == []


# The second look


def test_a_schedule_that_is_made_just_after_the_row_went(deleter, world, host, standin):
    """The row named none, as its program was about to make it."""
    world.task(world.account())
    task = host.task(None)
    drop(host, task)
    assert collected(deleter) == []
    standin.add(task)
    make_due()
    assert collected(deleter) == [(task, "cancelled")]
    assert world.schedule_ids(task) == []


def test_a_schedule_that_is_made_just_after_a_deletion_of_ours(deleter, world, host, standin):
    """The key is cancelled once more in a minute, where the row named none."""
    task = host.task(None)
    assert attempt(deleter, task) is None
    assert records() == [task]
    assert [len(due_in(seconds)) for seconds in (40, 65)] == [0, 1]
    assert fetch("SELECT attempts FROM orphaned_schedules") == [(0,)]
    assert collected(deleter) == []
    standin.add(task)
    make_due()
    assert collected(deleter) == [(task, "cancelled")]
    assert world.schedule_ids(task) == []


def test_a_task_that_names_a_schedule_needs_no_second_look(deleter, task):
    """Nothing is recorded of an ordinary deletion."""
    assert attempt(deleter, task) is None
    assert records() == []


def test_a_deletion_that_fails_is_not_looked_at_again(deleter, world, host, standin):
    """The row is there."""
    task = host.task(None)
    standin.always(Fault.status(401))
    assert attempt(deleter, task) is not None
    standin.clear()
    make_due()
    assert {state for _, state in collected(deleter)} <= {"kept"}
    assert records() == []
    assert world.row(task)


# At the same moment as a deletion of ours


def test_a_row_that_goes_while_we_cancel(deleter, world, host, standin, task):
    """With a schedule that we know nothing of, and have not cancelled."""
    standin.fail(Fault.delay(0.5))
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(attempt, deleter, task)
        wait_for(lambda: standin.requests)
        late = standin.add("x", externalId=task, deduplicationKey="of-the-host")
        host.run("UPDATE scheduled_actions SET trigger_schedule_id = ? WHERE id = ?", late, task)
        drop(host, task)
        assert done.result() is None
    make_due()
    collected(deleter)
    assert world.schedule_ids(task) == []
    assert records() == []


@pytest.mark.parametrize("left", ["expired", "doubtful"])
def test_a_row_that_goes_under_a_mark_that_nobody_works_under(
    deleter, world, host, standin, task, left
):
    """Its owner died, or is in doubt; the mark goes with the row, and the record is left."""
    if left == "expired":
        world.place_mark(task, lease_seconds=60)
        expire(task)
    else:
        standin.always(Fault.reset())
        attempt(deleter, task)
        standin.clear()
    drop(host, task)
    assert collected(deleter) == [(task, "cancelled")]
    assert world.schedule_ids(task) == []


def test_without_the_guard_a_row_that_went_while_we_cancel_is_looked_at(
    deleter, world, host, standin, task
):
    """Our answer is 200, so there must be no schedule: its key is cancelled once more."""
    turn_off()
    standin.fail(Fault.delay(0.5))
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(attempt, deleter, task)
        wait_for(lambda: standin.requests)
        drop(host, task)
        assert done.result() is None
    standin.add(task)
    make_due()
    assert collected(deleter) == [(task, "cancelled")]
    assert world.schedule_ids(task) == []


# Failures


def test_trigger_dev_is_down_for_long(deleter, world, host, standin, task):
    """Each try counts, and puts off the next; in the end the schedule goes."""
    drop(host, task)
    standin.always(Fault.status(403))
    for tries in range(1, 10):
        make_due()
        assert collected(deleter) == [(task, "waiting")]
        assert collected(deleter) == []
        [(attempts,)] = fetch("SELECT attempts FROM orphaned_schedules")
        assert attempts == tries
    standin.clear()
    make_due()
    assert collected(deleter) == [(task, "cancelled")]
    assert (records(), world.schedule_ids(task)) == ([], [])


def test_what_failed_is_tried_at_once_if_an_operator_asks(deleter, host, standin, task):
    """Not what still waits for its first try, as its schedule may not be there yet."""
    drop(host, task)
    standin.always(Fault.status(403))
    assert collected(deleter) == [(task, "waiting")]
    standin.clear()
    drop(host, host.task(None))
    assert collected(deleter) == []
    orphans.hasten_orphans()
    assert collected(deleter) == [(task, "cancelled")]


def test_pauses_grow_up_to_an_hour(deleter, host, standin, task):
    """From half a minute, doubled each time."""
    drop(host, task)
    standin.always(Fault.status(403))
    for attempts, seconds in [(0, 30), (1, 60), (3, 240), (6, 1920), (7, 3600), (4000, 3600)]:
        execute("UPDATE orphaned_schedules SET attempts = ?", attempts)
        make_due()
        assert collected(deleter) == [(task, "waiting")]
        for shift, due in [(seconds + 5, [task]), (seconds - 25, [])]:
            assert [one.task_id for one in due_in(shift)] == due


def due_in(seconds):
    """Return the records that are due in so many seconds."""
    [(due_at,)] = fetch("SELECT due_at FROM orphaned_schedules")
    past = f"-{seconds} seconds"
    if is_postgres():
        execute("UPDATE orphaned_schedules SET due_at = due_at + ?::interval", past)
    else:
        execute(
            "UPDATE orphaned_schedules SET due_at = strftime('%Y-%m-%dT%H:%M:%fZ', due_at, ?)", past
        )
    due = orphans.due_orphans(10)
    execute("UPDATE orphaned_schedules SET due_at = ?", due_at)
    release()
    return due


def test_where_trigger_dev_is_not_well_it_is_left_alone(deleter, world, host, standin):
    """After some failures in a row the others wait, untried; and what succeeds is not held up."""
    tasks = [world.task(world.account()) for _ in range(guard.MOST_FAILURES + 3)]
    drop(host, *tasks)
    standin.always(Fault.status(403))
    assert len(collected(deleter)) == guard.MOST_FAILURES
    standin.clear()
    assert len(collected(deleter)) == 3
    make_due()
    assert len(collected(deleter)) == guard.MOST_FAILURES
    assert standin.schedules == {}


def test_requests_are_paced(deleter, world, host):
    """Ten a second at the most: other programs share the key's rate limit."""
    tasks = [world.task(world.account()) for _ in range(6)]
    drop(host, *tasks)
    began = time.monotonic()
    assert len(collected(deleter)) == 6
    assert time.monotonic() - began >= 6 * 0.1


def test_a_sweep_begins_none_when_its_time_is_over(deleter, world, host):
    """What else was left in the middle has its turn again."""
    drop(host, *[world.task(world.account()) for _ in range(30)])
    assert len(list(sweep(deleter, seconds=0.5))) < 30


def test_one_worker_collects_at_a_time(deleter, host, world, standin, task):
    """The others find a lease; when it is over, one of them takes it."""
    drop(host, task)
    other = str(uuid4())
    assert orphans.hold_collection(other, 60)
    assert orphans.hold_collection(other, 60)
    assert collected(deleter) == []
    assert world.schedule_ids(task)
    execute("UPDATE orphan_collector SET lease_expires_at = ?", PAST)
    release()
    assert collected(deleter) == [(task, "cancelled")]
    assert fetch("SELECT 1 FROM orphan_collector") == []


def test_several_workers_at_once_cancel_each_schedule_once(deleter, world, host, standin):
    """Whoever begins."""
    tasks = [world.task(world.account()) for _ in range(20)]
    drop(host, *tasks)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            list(pool.map(lambda _: collected(deleter), range(4)))
    assert standin.deletions == dict.fromkeys(tasks, 1)
    assert records() == []


def test_what_waits_is_collected_when_the_guard_is_off(deleter, world, host, task):
    """The table stays, and so does the collection."""
    drop(host, task)
    turn_off()
    assert collected(deleter) == [(task, "cancelled")]


# Death


@pytest.mark.parametrize("act", [False, True], ids=["before it acted", "after it acted"])
def test_a_worker_that_dies_over_a_record(deleter, world, host, standin, task, database_url, act):
    """The record is still there, and the next one takes it up."""
    drop(host, task)
    standin.fail(Fault.hang(600, act=act))
    environ = {"TRIGGER_API_URL": standin.url, "TRIGGER_DEADLINE_SECONDS": "30"}
    close_database()
    with Server(database_url, **environ) as server:
        wait_for(lambda: standin.requests)
        server.kill()
        assert records() == [task]
        make_due()
        execute("UPDATE orphan_collector SET lease_expires_at = ?", PAST)
        release()
        server.start()
        wait_for(lambda: not records())
    assert world.schedule_ids(task) == []


def test_a_worker_that_dies_under_a_mark_and_then_the_row_goes(
    deleter, world, host, standin, task, database_url
):
    """The mark goes with the row; the record stays, and the schedule goes."""
    account = world.account()
    key, task = world.key(account), world.task(account)
    standin.fail(Fault.hang(600))
    environ = {"TRIGGER_API_URL": standin.url, "TRIGGER_DEADLINE_SECONDS": "30"}
    close_database()
    with Server(database_url, **environ) as server:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(server.delete, task, key)
            wait_for(lambda: standin.requests)
            server.kill()
        drop(host, task)
        server.start()
        wait_for(lambda: not records())
    assert world.schedule_ids(task) == []


# Numbers


def test_orphans_are_counted(deleter, client, world, host, standin, task):
    """What waits, for how long, and what became of each."""

    def read(name):
        lines = client.get("/metrics").text.splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))

    def count(outcome):
        return read(f'recoup_orphans_collected_total{{outcome="{outcome}"}}')

    before = {outcome: count(outcome) for outcome in ("cancelled", "waiting")}
    assert (read("recoup_orphans"), read("recoup_oldest_orphan_seconds")) == (0, 0)
    drop(host, task)
    standin.fail(Fault.status(403))
    collected(deleter)
    assert read("recoup_orphans") == 1
    assert read("recoup_oldest_orphan_seconds") > 0
    make_due()
    collected(deleter)
    assert read("recoup_orphans") == 0
    after = {outcome: count(outcome) for outcome in ("cancelled", "waiting")}
    assert after == {outcome: number + 1 for outcome, number in before.items()}


@pytest.fixture(name="scrape")
def _scrape(client):
    """Read the gauges that are read from the database."""

    def read():
        lines = client.get("/metrics").text.splitlines()
        samples = dict(line.split() for line in lines if re.match(r"recoup_\w+ ", line))
        return {name: float(value) for name, value in samples.items()}

    return read


@pytest.mark.usefixtures("deleter")
def test_a_guard_that_is_gone_is_told(scrape):
    """As with a migration of the host's that drops the trigger."""
    assert scrape()["recoup_guard"] == 1
    turn_off()
    assert scrape()["recoup_guard"] == 0


@pytest.mark.usefixtures("deleter")
def test_a_guard_that_is_broken_is_told(scrape):
    """It is there, and not whole."""
    if is_postgres():
        execute("ALTER TABLE scheduled_actions DISABLE TRIGGER recoup_guard")
    else:
        turn_off()
        execute("CREATE TRIGGER recoup_guard AFTER DELETE ON scheduled_actions BEGIN SELECT 1; END")
    release()
    assert scrape()["recoup_guard"] == 0


@pytest.mark.parametrize("error", [peewee.OperationalError, psycopg.OperationalError])
def test_a_guard_that_can_not_be_looked_at_is_a_database_that_is_down(
    client, scrape, monkeypatch, error
):
    """Then nothing is shown that is read from the database, and the scrape goes on."""
    monkeypatch.setattr(triggers, "look", Mock(side_effect=error("no answer")))
    assert client.get("/metrics").status_code == 200
    shown = scrape()
    assert shown["recoup_database_up"] == 0
    assert not {"recoup_guard", "recoup_marks", "recoup_orphans"} & shown.keys()
